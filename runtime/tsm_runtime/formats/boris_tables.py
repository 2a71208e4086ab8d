"""Tables exported by BORIS: aggregated events (a row a segment), tabular events (a row a start or stop)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from tsm_runtime.errors import UsageError
from tsm_runtime.files import noting
from tsm_runtime.formats.numbers import parse_number, parse_seconds
from tsm_runtime.formats.text import segment_at
from tsm_runtime.formats.tool_file import Segments, ToolFile, video_id_of
from tsm_runtime.results import by_time

_BEHAVIOUR, _START, _STOP, _TIME = "Behavior", "Start (s)", "Stop (s)", "Time"
_MEDIA = ("Media file name", "Media file path", "Media file")
_PLAYER_1 = re.compile(r"player #1:\s*([^|]*)")

Cells = Mapping[str, str]


def has_boris_header(cells: Sequence[str]) -> bool:
    """Return whether the cells of a line are the header of one of the tables."""
    return _BEHAVIOUR in cells and ({_START, _STOP} <= set(cells) or {_TIME, "Subject"} <= set(cells))


def read_boris_table(file: ToolFile) -> Segments:
    """Return the segments per video of either table, separated by commas, semicolons or tabs.

    Times are those of the observation: its time offset and the lengths of earlier files are taken off, as
    far as the table has them.

    Raises:
        UsageError: a row is wrong, or an observation has several files without their lengths.
    """
    _check_single_files(file)
    found: Segments = {}
    begun: dict[tuple[str, ...], tuple[str, float]] = {}
    points = 0
    for where, cells in _rows(file):
        with noting(file.faults):
            media = _media_of(where, cells)
            segments = found.setdefault(video_id_of(media), [])
            kind = cells.get("Behavior type", "") or cells.get("Status", "")
            label = cells[_BEHAVIOUR]
            if kind == "POINT":
                points += 1
                segments += file.point(where, label, _seconds(where, cells, _time_column(cells), media))
            elif _START in cells:
                bounds = (_seconds(where, cells, name, media) for name in (_START, _STOP))
                segments.append(segment_at(where, label, *bounds))
            else:
                at = _seconds(where, cells, _TIME, media)
                _pair(where, cells, kind, at, begun, found)
    for where, at in begun.values():
        with noting(file.faults):
            raise UsageError(f"{where}: a START at {at:g} s has no STOP")
    file.note_points(points)
    return {video: by_time(segments) for video, segments in found.items()}


def _time_column(cells: Cells) -> str:
    return _START if _START in cells else _TIME


def _pair(
    where: str,
    cells: Cells,
    kind: str,
    at: float,
    begun: dict[tuple[str, ...], tuple[str, float]],
    found: Segments,
) -> None:
    """Remember a START, or add the segment that a STOP ends."""
    video_id = video_id_of(_media_of(where, cells))
    modifiers = (value for name, value in sorted(cells.items()) if name.startswith("Modifier"))
    observed = (cells.get("Observation id", ""), video_id, cells.get("Subject", ""))
    key = (*observed, cells[_BEHAVIOUR], *modifiers)
    if kind == "START":
        if key in begun:
            raise UsageError(f"{where}: a second START before a STOP")
        begun[key] = (where, at)
    elif kind == "STOP":
        if key not in begun:
            raise UsageError(f"{where}: a STOP without a START in the same file")
        _, start = begun.pop(key)
        found[video_id].append(segment_at(where, cells[_BEHAVIOUR], start, at))
    else:
        raise UsageError(f"{where}: the type is {kind!r}; expected START, STOP or POINT")


def _rows(file: ToolFile) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield place and cells of each row below the header, which old versions put below a description."""
    separator = max(",;\t", key=file.text.count)
    reader = csv.reader(io.StringIO(file.text, newline=""), delimiter=separator)
    header: list[str] = []
    try:
        for row in reader:
            if has_boris_header(row):
                header = row
            elif header and any(cell.strip() for cell in row):
                yield f"{file.path}, line {reader.line_num}", dict(zip(header, row, strict=False))
    except csv.Error as error:
        raise UsageError(f"{file.path}, line {reader.line_num}: not CSV: {error}") from error


def _media_of(where: str, cells: Cells) -> str:
    for name in _MEDIA:
        if cells.get(name, "NA") not in ("NA", ""):
            return cells[name]
    queue = _queue(cells)
    if queue:
        return queue[0]
    raise UsageError(f"{where}: no media file ({' or '.join(_MEDIA)})")


def _queue(cells: Cells) -> list[str]:
    """Return the files that player 1 shows one after another."""
    match = _PLAYER_1.match(cells.get("Source", ""))
    return [name for name in match[1].split(";") if name] if match else []


def _seconds(where: str, cells: Cells, column: str, media: str) -> float:
    """Return a time of the media file.

    Raises:
        UsageError: the cell is no time, or the beginning of the file is unknown.
    """
    try:
        at = parse_seconds(cells[column])
        offset = parse_number(cells.get("Time offset (s)") or "0")
    except ValueError:
        raise UsageError(f"{where}: {column} is {cells[column]!r}; expected seconds") from None
    return at - offset - _begin(where, cells, media)


def _begin(where: str, cells: Cells, media: str) -> float:
    queue = _queue(cells)
    if len(queue) < 2 or media not in queue:
        return 0.0
    lengths = (cells.get("Media duration (s)") or "").split("|")[0].split(";")
    try:
        begins = list(accumulate(map(float, lengths), initial=0.0))
        return begins[queue.index(media)]
    except (ValueError, IndexError):
        raise UsageError(
            f"{where}: player 1 shows several files, whose lengths the table lacks; give the .boris project"
        ) from None


def _check_single_files(file: ToolFile) -> None:
    """Check a table of an old version, which has no lengths, for observations of several files.

    Raises:
        UsageError: an observation has several files.
    """
    media: dict[str, set[str]] = {}
    for where, cells in _rows(file):
        if not _queue(cells):
            names = media.setdefault(cells.get("Observation id", ""), set())
            names.add(_media_of(where, cells))
            if len(names) > 1:
                raise UsageError(
                    f"{where}: its observation has several files, whose lengths the table lacks;"
                    " give the .boris project"
                )
