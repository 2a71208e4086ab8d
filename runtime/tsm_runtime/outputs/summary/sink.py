"""`tsm-run --summary`: collects the results and writes the summary at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tsm_runtime.errors import UsageError
from tsm_runtime.files import write_whole
from tsm_runtime.outputs.base import Sink, SinkAround, without_arrays
from tsm_runtime.outputs.output_names import check_second_output
from tsm_runtime.outputs.painter import require_font
from tsm_runtime.outputs.summary.bouts import class_times, times_to_csv
from tsm_runtime.outputs.summary.picture import draw_time_budget, drawing_to_png, drawing_to_svg
from tsm_runtime.results import Result
from tsm_runtime.video.finding import VideoInput

SUMMARY_SUFFIXES = (".csv", ".svg", ".png")


def check_summary(paths: Sequence[Path], inputs: Sequence[VideoInput], output: str | None) -> None:
    """Check the files of `--summary` before the run.

    Raises:
        UsageError: another suffix, no such folder, or a name in use.
        BackendError: Pillow, which a PNG needs, is not installed.
    """
    for path in paths:
        check_second_output("--summary", path, SUMMARY_SUFFIXES, inputs, output)
        if path.suffix.lower() == ".png":
            require_font()
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError("--summary names a file twice")


class SummarySink(SinkAround):
    """Writes a summary of the results at the end.

    Args:
        sink: receives the results first.
        paths: a table (.csv) or a picture (.svg, .png) each.
        labels: classes of the models.
    """

    def __init__(self, sink: Sink, paths: Sequence[Path], labels: Sequence[str]) -> None:
        super().__init__(sink)
        self._paths, self._labels = paths, labels
        self._results: list[Result] = []

    def add(self, result: Result) -> None:
        """Keep the result, and pass it on."""
        self._results.append(without_arrays(result))
        super().add(result)

    def close(self) -> None:
        """Close the other sink, then write the summary."""
        super().close()
        if not self._results:
            return
        rows = class_times(self._results, self._labels)
        for path in self._paths:
            write_whole(path, _ENCODERS[path.suffix.lower()](rows))


_ENCODERS = {
    ".csv": lambda rows: times_to_csv(rows).encode("utf-8", "backslashreplace"),
    ".svg": lambda rows: drawing_to_svg(draw_time_budget(rows)),
    ".png": lambda rows: drawing_to_png(draw_time_budget(rows)),
}
