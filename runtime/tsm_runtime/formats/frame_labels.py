"""Labels of frames as text, one a line (MS-TCN), and as a table of 0 and 1 (deepethogram)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tsm_runtime.errors import UsageError
from tsm_runtime.files import read_text
from tsm_runtime.formats.csv_table import csv_cell, csv_rows, without_apostrophe
from tsm_runtime.formats.frame_runs import runs_of_frames, runs_of_rows
from tsm_runtime.formats.text import one_result, segment_at
from tsm_runtime.formats.tool_file import Segments, ToolFile
from tsm_runtime.results import BACKGROUND, Result

MAPPING = "mapping.txt"
"""File of class numbers and names beside or above a folder of frame labels."""

_TABLE_SUFFIX = "_labels"
_ON, _OFF, _UNKNOWN = {"1", "1.0", "True", "true"}, {"0", "0.0", "False", "false"}, {"-1", "-1.0", ""}


# --- one label a line -----------------------------------------------------------------------------


def read_frame_labels(file: ToolFile) -> Segments:
    """Return the segments of the one video of a file with a label a line; its id is the file's stem.

    With a `mapping.txt` (`number name` a line) beside the file or in the folder above, a number in the place
    of a name is replaced, and every label must be there.

    Raises:
        UsageError: a label is not in the mapping, or the frame rate is not given.
    """
    names = _mapping(file.path)
    rows = re.split(r"\r\n|\r|\n", file.text.rstrip())
    known = set(names.values())
    labels = []
    for number, row in enumerate(rows, start=1):
        label = names.get(row.strip(), row.strip())
        if known and label not in known:
            raise UsageError(f"{file.path}, line {number}: label {label!r} is not in {MAPPING}")
        labels.append(label)
    rate = file.frame_rate()
    return {
        file.path.stem: [
            segment_at(f"{file.path}, line {start + 1}", label, start / rate, stop / rate)
            for start, stop, label in runs_of_rows(labels)
            if not file.is_background(label)
        ]
    }


def _mapping(path: Path) -> Mapping[str, str]:
    """Return the names of classes by number; empty where there is no mapping."""
    for folder in (path.parent, path.parent.parent):
        if (folder / MAPPING).is_file():
            lines = read_text(folder / MAPPING).splitlines()
            pairs = [line.split(None, 1) for line in lines if line.strip()]
            return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}
    return {}


def results_to_frame_labels(results: Sequence[Result], rates: Mapping[str, float]) -> str:
    """Return a label a line for each frame of one video; the segment of the highest score counts.

    Frames without a segment are "background". The format holds one label a frame, and no scores.

    Raises:
        UsageError: there is not exactly one video.
    """
    result = one_result(results, "frame-labels")
    rows = [BACKGROUND] * num_frames(result, rates[result.video_id])
    for segment in sorted(result.segments, key=lambda s: s.score):
        start, stop = _frames(segment.start_seconds, segment.end_seconds, rates[result.video_id], len(rows))
        rows[start:stop] = [segment.label] * (stop - start)
    return "".join(re.sub(r"[\r\n]", " ", label) + "\n" for label in rows)


def num_frames(result: Result, rate: float) -> int:
    """Return the number of frames up to the end of the video, or of the last segment if that is unknown."""
    ends = (segment.end_seconds for segment in result.segments)
    return math.ceil(max([result.duration_seconds, *ends]) * rate - 1e-6)


def _frames(start: float, end: float, rate: float, count: int) -> tuple[int, int]:
    first = min(round(start * rate), count)
    return first, min(max(round(end * rate), first + 1), count)


# --- a table of 0 and 1 ---------------------------------------------------------------------------


def is_one_hot(header: Sequence[str], row: Sequence[str]) -> bool:
    """Return whether a table has a row a frame and a column a class, with 0 and 1 in the cells."""
    cells = row[1:] if _is_index(header) else row
    return bool(cells) and len(row) == len(header) and all(cell in _ON | _OFF | _UNKNOWN for cell in cells)


def _is_index(header: Sequence[str]) -> bool:
    return bool(header) and header[0].strip().lower() in ("", "frame", "index", "unnamed: 0", "frames")


def read_one_hot(file: ToolFile) -> Segments:
    """Return the segments of the one video of a table of frames and classes, as by deepethogram.

    The video's id is the file's stem without `_labels`. Frames with -1 have no label yet; a table with no
    other is not annotated.

    Raises:
        UsageError: a cell holds something else, or the frame rate is not given.
    """
    video_id = file.path.stem.removesuffix(_TABLE_SUFFIX)
    frames: dict[int, set[str]] = {}
    is_labelled = False
    for number, (where, cells) in enumerate(csv_rows(file.path, file.text, ())):
        columns = list(cells)
        names = columns[1:] if _is_index(columns) else columns
        frames[number] = set()
        for name in names:
            value = cells[name].strip()
            if value not in _ON | _OFF | _UNKNOWN:
                raise UsageError(f"{where}: {name!r} is {value!r}; expected 0, 1, or -1 for no label yet")
            is_labelled |= value not in _UNKNOWN
            if value in _ON and not file.is_background(name):
                frames[number].add(without_apostrophe(name))
    if not is_labelled:
        file.unannotated.append(video_id)
        return {}
    return {video_id: runs_of_frames(str(file.path), frames, file.frame_rate())}


def results_to_one_hot(results: Sequence[Result], rates: Mapping[str, float]) -> str:
    """Return a row for each frame of one video and a column a class, the first for the background.

    Raises:
        UsageError: there is not exactly one video.
    """
    result = one_result(results, "one-hot")
    rate = rates[result.video_id]
    names = sorted({segment.label for segment in result.segments})
    rows = [[0] * len(names) for _ in range(num_frames(result, rate))]
    for segment in result.segments:
        for row in rows[slice(*_frames(segment.start_seconds, segment.end_seconds, rate, len(rows)))]:
            row[names.index(segment.label)] = 1
    lines = [",".join(["", BACKGROUND, *map(csv_cell, names)])]
    lines += [",".join(map(str, [number, int(not any(row)), *row])) for number, row in enumerate(rows)]
    return "\n".join(lines) + "\n"
