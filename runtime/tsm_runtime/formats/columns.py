"""CSV of any shape by the names of its columns; the annotations of EPIC-KITCHENS are one such shape."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import Literal, get_args

from tsm_runtime.errors import UsageError
from tsm_runtime.files import noting
from tsm_runtime.formats.csv_table import csv_rows, without_apostrophe
from tsm_runtime.formats.numbers import number_in, parse_seconds
from tsm_runtime.formats.text import segment_at
from tsm_runtime.formats.tool_file import Segments, ToolFile, video_id_of
from tsm_runtime.results import Segment
from tsm_runtime.video.finding import MEDIA_SUFFIXES

Unit = Literal["seconds", "ms", "frames"]

EPIC_COLUMNS = ("video_id", "start_timestamp", "stop_timestamp", "verb", "noun")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnNames:
    """Which column holds what; "" where there is none.

    Args:
        video: the video's id or file name; "": the file is of one video, named by its stem.
        start: where a segment begins.
        end: where it ends; in frames: the first frame after it.
        last: last frame of the segment, in the place of `end`.
        duration: length, in the place of `end`.
        label: the action.
        score: confidence.
        unit: of all times; seconds may also be clocks such as 0:01:02.5.
    """

    video: str = ""
    start: str
    end: str = ""
    last: str = ""
    duration: str = ""
    label: str
    score: str = ""
    unit: Unit = "seconds"

    @classmethod
    def parse(cls, text: str) -> ColumnNames:
        """Return the columns of `video=NAME,start=NAME,end=NAME,label=NAME[,score=NAME][,unit=ms|frames]`.

        A part with a comma is put into double quotes. If all names are numbers, they count the columns of a
        table without header, from 1.

        Raises:
            UsageError: the text has another form, or a part is missing.
        """
        where = f"columns {text!r}"
        given: dict[str, str] = {}
        for part in next(csv.reader([text]), []):
            key, _, name = part.partition("=")
            if key.strip() not in {field.name for field in fields(cls)} or not name.strip():
                known = ", ".join(field.name for field in fields(cls))
                raise UsageError(f"{where}: {part!r}; expected NAME=COLUMN with {known}")
            given[key.strip()] = name.strip()
        if missing := [name for name in ("start", "label") if name not in given]:
            raise UsageError(f"{where}: no {' and no '.join(missing)}")
        if sum(name in given for name in ("end", "last", "duration")) != 1:
            raise UsageError(f"{where}: expected one of end, last and duration")
        if given.get("unit", "seconds") not in get_args(Unit):
            raise UsageError(f"{where}: unit {given['unit']!r}; expected {', '.join(get_args(Unit))}")
        if "last" in given and given.get("unit") != "frames":
            raise UsageError(f"{where}: last is the number of a frame: add unit=frames")
        return cls(**given)  # type: ignore[arg-type]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that a table must have."""
        every = (self.video, self.start, self.end, self.last, self.duration, self.label, self.score)
        return tuple(name for name in every if name)


def read_columns(file: ToolFile) -> Segments:
    """Return the segments per video of a table whose columns the options name.

    Rows without label, or with one of the background, only name their video.

    Raises:
        UsageError: a column is missing, or a row is wrong; the message names file and line.
    """
    columns = ColumnNames.parse(file.options.columns)
    found: Segments = {}
    for where, cells in _rows(file, columns):
        with noting(file.faults):
            video_id = (
                _video_id(without_apostrophe(cells[columns.video])) if columns.video else file.path.stem
            )
            segments = found.setdefault(video_id, [])
            label = without_apostrophe(cells[columns.label]).strip()
            if not file.is_background(label):
                segments.append(_segment(file, f"{where} (video {video_id!r})", cells, columns, label))
    return found


def _video_id(cell: str) -> str:
    r"""Return the id of a video by a cell: without suffix, and of a path from a root the stem alone.

    >>> _video_id("day 1/clip.mp4"), _video_id("C:\\day 1\\clip.mp4"), _video_id("clip.v2")
    ('day 1/clip', 'clip', 'clip.v2')
    """
    name = cell.strip().replace("\\", "/")
    if name.startswith("/") or name[1:2] == ":":
        return video_id_of(name)
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in MEDIA_SUFFIXES else name


def _rows(file: ToolFile, columns: ColumnNames) -> Iterator[tuple[str, Mapping[str, str]]]:
    if not all(name.isdecimal() for name in columns.names):
        yield from csv_rows(file.path, file.text, columns.names, file.faults)
        return
    separator = max(",;\t", key=file.text.count)
    wanted = max(map(int, columns.names))
    for number, row in enumerate(
        csv.reader(io.StringIO(file.text, newline=""), delimiter=separator), start=1
    ):
        where = f"{file.path}, line {number}"
        if len(row) < wanted and any(cell.strip() for cell in row):
            with noting(file.faults):
                raise UsageError(f"{where}: {len(row)} cells; the columns go up to {wanted}")
        elif row:
            yield where, {str(n): cell for n, cell in enumerate(row, start=1)}


def _segment(
    file: ToolFile, where: str, cells: Mapping[str, str], columns: ColumnNames, label: str
) -> Segment:
    start = _time(file, where, cells, columns.start, columns.unit)
    if columns.duration:
        end = start + _time(file, where, cells, columns.duration, columns.unit, is_length=True)
    else:
        end = _time(file, where, cells, columns.end or columns.last, columns.unit)
    if columns.last:
        end += 1 / file.frame_rate()
    score = number_in(where, columns.score, cells[columns.score]) if columns.score else 1.0
    return segment_at(where, label, start, end, score)


def _time(
    file: ToolFile, where: str, cells: Mapping[str, str], column: str, unit: Unit, *, is_length: bool = False
) -> float:
    if unit == "seconds":
        try:
            return parse_seconds(cells[column], decimal_comma=True)
        except ValueError:
            raise UsageError(f"{where}: {column} is {cells[column]!r}; expected seconds") from None
    value = number_in(where, column, cells[column])
    if unit == "ms":
        return value / 1000
    return (value - (0 if is_length else file.options.first_frame)) / file.frame_rate()


# --- EPIC-KITCHENS --------------------------------------------------------------------------------


def is_epic(header: Sequence[str]) -> bool:
    """Return whether a table's header is that of EPIC-KITCHENS."""
    return set(EPIC_COLUMNS) <= set(header)


def read_epic(file: ToolFile) -> Segments:
    """Return the segments per video; labels are verb and noun, or the column of the option `attribute`.

    Raises:
        UsageError: a row is wrong, or there is no such column.
    """
    wanted = (file.options.attribute,) if file.options.attribute else EPIC_COLUMNS[3:]
    video, start, stop = EPIC_COLUMNS[:3]
    names = ColumnNames(video=video, start=start, end=stop, label="label")
    found: Segments = {}
    for where, cells in csv_rows(file.path, file.text, (video, start, stop, *wanted), file.faults):
        with noting(file.faults):
            label = " ".join(cells[name].strip() for name in wanted)
            found.setdefault(cells[video], []).append(_segment(file, where, cells, names, label))
    return found
