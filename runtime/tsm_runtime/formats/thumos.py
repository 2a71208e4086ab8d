"""THUMOS: a text file per class, `video start end` a line."""

from __future__ import annotations

import re

from tsm_runtime.errors import UsageError
from tsm_runtime.files import noting
from tsm_runtime.formats.numbers import parse_number
from tsm_runtime.formats.text import segment_at
from tsm_runtime.formats.tool_file import Segments, ToolFile

_LINE = re.compile(r"(\S*[^\s\d.]\S*)\s+([0-9.]+)\s+([0-9.]+)\s*")
_PART = re.compile(r"_(?:val|test|validation|training|train)$")
_AMBIGUOUS = "Ambiguous"


def is_thumos(line: str) -> bool:
    """Return whether a line is the id of a video and two times."""
    return _LINE.fullmatch(line) is not None


def read_thumos(file: ToolFile) -> Segments:
    """Return the segments of one class per video; the label is the file's stem without `_val` or `_test`.

    The ambiguous instances of `Ambiguous_*.txt`, which no evaluation counts, are left out.

    Raises:
        UsageError: a line is wrong; the message names file and line.
    """
    label = _PART.sub("", file.path.stem)
    if label == _AMBIGUOUS:
        file.note("file", "of ambiguous instances left out", [file.path.name])
        return {}
    found: Segments = {}
    for number, line in enumerate(re.split(r"\r\n|\r|\n", file.text), start=1):
        if not line.strip():
            continue
        where = f"{file.path}, line {number}"
        with noting(file.faults):
            match = _LINE.fullmatch(line)
            if match is None:
                raise UsageError(f"{where}: expected a video and two times in seconds, got {line[:60]!r}")
            start, end = parse_number(match[2]), parse_number(match[3])
            found.setdefault(match[1], []).append(segment_at(where, label, start, end))
    return found
