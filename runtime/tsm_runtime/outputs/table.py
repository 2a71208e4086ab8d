"""Results on a terminal: a table of segments, or found segments beside the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tsm_runtime.evaluation.protocol import Evaluation, tiou
from tsm_runtime.results import Result, Segment, ranked_scenes

if TYPE_CHECKING:
    # rich costs more time to import than the rest of the runtime: only the functions that print import it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text


def print_table(results: Sequence[Result], console: Console | None = None) -> None:
    """Print one table of segments per video, with its scene and warnings.

    Args:
        results: videos in the order of printing.
        console: where to print; standard output by default.
    """
    out = _console(console)
    for result in results:
        out.print(_segment_table(result, out))
        _print_scene(result, out)
        for warning in result.warnings:
            out.print(_plain(f"warning: {warning}", out, style="yellow"))


def print_comparison(
    result: Result,
    truth_segments: Sequence[Segment],
    evaluation: Evaluation | None,
    console: Console | None = None,
) -> None:
    """Print the found segments of one video beside the true ones, then the mAP.

    Args:
        result: the video.
        truth_segments: its true segments.
        evaluation: for the last line; None leaves it out.
        console: where to print; standard output by default.
    """
    out = _console(console)
    table = _new_table(result.video_id, out)
    for name in ("found", "from", "to", "score", "true", "from", "to", "tIoU"):
        table.add_column(name, justify="left" if name in ("found", "true") else "right", overflow="fold")
    for found, true in align_segments(result.segments, truth_segments):
        table.add_row(*_comparison_cells(found, true, out), style=_comparison_style(found, true))
    out.print(table)
    _print_scene(result, out)
    if evaluation is not None:
        out.print(_map_line(evaluation), highlight=False, markup=False)


def align_segments(
    found: Sequence[Segment], true: Sequence[Segment]
) -> list[tuple[Segment | None, Segment | None]]:
    """Pair each found segment with at most one true one, to show them side by side.

    Pairs with equal labels are formed first, by falling tIoU; then the remaining segments are paired by
    falling tIoU regardless of labels. Segments without an overlapping free partner stay alone.

    Returns:
        (found or None, true or None) in order of time.
    """
    pairs = [
        (f.label != t.label, -tiou(f, t), i, j)
        for i, f in enumerate(found)
        for j, t in enumerate(true)
        if f.start_seconds < t.end_seconds and t.start_seconds < f.end_seconds
    ]
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for _, _, i, j in sorted(pairs):
        if i not in partner and j not in taken:
            partner[i] = j
            taken.add(j)
    rows: list[tuple[Segment | None, Segment | None]] = [
        (segment, true[partner[i]] if i in partner else None) for i, segment in enumerate(found)
    ]
    rows += [(None, segment) for j, segment in enumerate(true) if j not in taken]
    return sorted(rows, key=_row_time)


def _comparison_cells(found: Segment | None, true: Segment | None, console: Console) -> list[Text | str]:
    cells: list[Text | str] = ["", "", "", "", "", "", "", ""]
    if found:
        cells[:4] = [_plain(found.label, console), *_bounds(found), f"{found.score:.2f}"]
    if true:
        cells[4:7] = [_plain(true.label, console), *_bounds(true)]
    if found and true:
        cells[7] = f"{tiou(found, true):.2f}"
    return cells


def _comparison_style(found: Segment | None, true: Segment | None) -> str:
    return "green" if found and true and found.label == true.label else "red"


def _row_time(row: tuple[Segment | None, Segment | None]) -> tuple[float, float]:
    present = [segment for segment in row if segment is not None]
    return min(s.start_seconds for s in present), min(s.end_seconds for s in present)


def _segment_table(result: Result, console: Console) -> Table:
    table = _new_table(result.video_id, console)
    names = ("label", "from", "to", "seconds", "score")
    for name in names:
        table.add_column(name, justify="left" if name == "label" else "right", overflow="fold")
    for segment in result.segments:
        length = f"{segment.end_seconds - segment.start_seconds:.2f}"
        table.add_row(_plain(segment.label, console), *_bounds(segment), length, f"{segment.score:.2f}")
    if not result.segments:
        table.add_row("(no action)", *[""] * (len(names) - 1))
    return table


def _print_scene(result: Result, console: Console) -> None:
    if result.scenes:
        best = ranked_scenes(result.scenes)[0]
        console.print(_plain(f"scene: {best.label} ({best.score:.2f})", console))


def _map_line(evaluation: Evaluation) -> str:
    each = zip(evaluation.tiou_thresholds, evaluation.map_per_tiou, strict=True)
    values = "  ".join(f"@{threshold:.2f} {100 * value:.1f}" for threshold, value in each)
    return f"mAP % {values}  average {100 * evaluation.average_map:.1f}"


def _bounds(segment: Segment) -> tuple[str, str]:
    return _clock(segment.start_seconds), _clock(segment.end_seconds)


def _clock(seconds: float) -> str:
    """Return a time as minutes, seconds and hundredths.

    >>> _clock(59.999)
    '1:00.00'
    """
    hundredths = round(seconds * 100)
    return f"{hundredths // 6000}:{hundredths // 100 % 60:02}.{hundredths % 100:02}"


def _console(console: Console | None) -> Console:
    if console is not None:
        return console
    from rich.console import Console as RichConsole

    return RichConsole()


def _new_table(title: str, console: Console) -> Table:
    from rich.table import Table as RichTable

    return RichTable(title=_plain(title, console), title_justify="left", title_style="bold")


def _plain(text: str, console: Console, style: str = "") -> Text:
    """Return text without markup, control characters, or characters that the stream cannot encode."""
    from rich.text import Text as RichText

    visible = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return RichText(visible.encode(console.encoding, "replace").decode(console.encoding), style=style)
