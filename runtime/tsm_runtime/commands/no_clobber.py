"""`--no-clobber`: the files that a run would replace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tsm_runtime.commands.file_request import FileRequest
from tsm_runtime.errors import UsageError
from tsm_runtime.outputs.output_names import result_path
from tsm_runtime.outputs.overlay import overlay_path
from tsm_runtime.video.finding import VideoInput
from tsm_runtime.wording import counted


def check_no_clobber(request: FileRequest, inputs: Sequence[VideoInput]) -> None:
    """Check before the run that no file would be replaced.

    Raises:
        UsageError: names the first file that is there.
    """
    there = [path for path in _files(request, inputs) if path.exists()]
    if there:
        others = f" ({counted(len(there), 'file')} in all)" if len(there) > 1 else ""
        raise UsageError(f"--no-clobber: {there[0]} is there{others}; choose another name, or remove it")


def _files(request: FileRequest, inputs: Sequence[VideoInput]) -> Iterator[Path]:
    outputs = request.outputs
    if outputs.output not in (None, "-"):
        path = Path(str(outputs.output))
        if outputs.into_folder:
            yield from (result_path(path, video.video_id, outputs.chosen_format) for video in inputs)
        else:
            yield path
    if outputs.overlay is not None:
        yield from {overlay_path(outputs.overlay, video.video_id): None for video in inputs}
    if outputs.clips is not None:
        yield from sorted(outputs.clips.glob("*"))
    yield from (path for path in (outputs.report, request.scores, request.features) if path is not None)
    yield from outputs.summary or ()
