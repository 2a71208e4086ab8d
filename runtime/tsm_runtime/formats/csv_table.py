"""The plain CSV `video,label,start,end,score`, and CSV cells and rows for the other CSV formats."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from tsm_runtime.errors import UsageError
from tsm_runtime.files import Faults, noting
from tsm_runtime.formats.numbers import number_in
from tsm_runtime.formats.text import check_ids, rounded, segment_at
from tsm_runtime.results import Result, Segment, ranked_scenes

CSV_COLUMNS = ("video", "label", "start", "end", "score")
ExtraColumn = Literal["scene", "duration", "model"]
EXTRA_COLUMNS: tuple[ExtraColumn, ...] = get_args(ExtraColumn)

_SEPARATORS = (",", ";", "\t")

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""Start of a cell that a spreadsheet would run as a formula, or of an escaped one."""


def results_to_csv(results: Sequence[Result], columns: Sequence[ExtraColumn] = (), model: str = "") -> str:
    """Return one line per segment: `video,label,start,end,score`; times in seconds with six decimals.

    Further columns follow: the best scene, the length of the video in seconds, and `model`.

    A video id or label that a spreadsheet would run as a formula gets an apostrophe in front, which
    `read_segments` removes. A video without segments is not in the file.

    Raises:
        ValueError: two results have the same video id.
    """
    check_ids(results)
    lines = [",".join((*CSV_COLUMNS, *columns))]
    for result in results:
        scene = ranked_scenes(result.scenes)[0].label if result.scenes else ""
        cells = {"scene": csv_cell(scene), "duration": repr(rounded(result.duration_seconds)), "model": model}
        extra = [cells[name] for name in columns]
        for segment in result.segments:
            numbers = (segment.start_seconds, segment.end_seconds, segment.score)
            texts = (csv_cell(result.video_id), csv_cell(segment.label))
            lines.append(",".join((*texts, *(repr(rounded(number)) for number in numbers), *extra)))
    return "\n".join(lines) + "\n"


def csv_cell(text: str) -> str:
    """Return a text as a cell: escaped against formulas, and quoted if necessary."""
    # Not by the csv module: with "\n" line ends that of Python 3.11 leaves a carriage return unquoted.
    harmless = f"'{text}" if _FORMULA.match(text) else text
    if re.search(r'[,"\r\n]', harmless) or harmless != harmless.strip():
        return '"' + harmless.replace('"', '""') + '"'
    return harmless


def without_apostrophe(cell: str) -> str:
    """Undo the escape of a formula by `csv_cell`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def csv_rows(
    path: Path, text: str, columns: Sequence[str], faults: Faults = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the place ("FILE, line 2") and the cells by column name of each row; empty rows are left out.

    Cells are separated by commas, semicolons or tabs, according to the header or Excel's first line `sep=;`.

    Args:
        path: path for messages.
        text: content of the file.
        columns: required columns.
        faults: collects rows with another number of cells than the header, which are then left out.

    Raises:
        UsageError: a column is missing, a row has another number of cells, or the text is not a CSV.
    """
    first_line, separator, text = _separated(text, columns)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    try:
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in columns if name not in header]
        if missing:
            expected = ",".join(columns)
            raise UsageError(f"{path}: no column {', '.join(missing)}; expected the header {expected}")
        for row in reader:
            where = f"{path}, line {reader.line_num + first_line}"
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                with noting(faults):
                    raise UsageError(f"{where}: {len(row)} cells, the header has {len(header)}")
                continue
            yield where, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num + first_line}: not CSV: {error}") from error


def _separated(text: str, columns: Sequence[str]) -> tuple[int, str, str]:
    """Return the number of lines before the header, the separator, and the text from the header on."""
    stated = re.match(r"sep=(.)\r?\n", text)
    if stated:
        return 1, stated[1], text[stated.end() :]
    header = re.split(r"\r\n|\r|\n", text, maxsplit=1)[0]
    found = [
        each for each in _SEPARATORS if set(columns) <= {cell.strip(' "') for cell in header.split(each)}
    ]
    return 0, found[0] if found else ",", text


def header_of(text: str) -> list[str]:
    """Return the names of a table's columns, whatever separates them."""
    _, separator, text = _separated(text, ())
    header = re.split(r"\r\n|\r|\n", text, maxsplit=1)[0]
    separator = separator if separator in header else max(_SEPARATORS, key=header.count)
    return [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]


def read_csv(path: Path, text: str) -> dict[str, list[Segment]]:
    """Return the segments per video; columns may be in any order, others are ignored.

    Raises:
        UsageError: a line is wrong; the message names file and line.
    """
    found: dict[str, list[Segment]] = {}
    for place, cells in csv_rows(path, text, CSV_COLUMNS):
        video_id = without_apostrophe(cells["video"])
        found.setdefault(video_id, []).append(_read_row(f"{place} (video {video_id!r})", cells))
    return found


def _read_row(where: str, cells: Mapping[str, str]) -> Segment:
    numbers = [number_in(where, name, cells[name]) for name in ("start", "end", "score")]
    return segment_at(where, without_apostrophe(cells["label"]), *numbers)
