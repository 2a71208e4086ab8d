"""Audacity labels: `start<tab>end<tab>label`, one line per segment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tsm_runtime.errors import UsageError
from tsm_runtime.formats.numbers import parse_number
from tsm_runtime.formats.text import hide, one_result, reveal, rounded, segment_at
from tsm_runtime.results import Result, Segment

_NOT_IN_A_LINE = re.compile(r"[\t\r\n]")


def results_to_audacity(results: Sequence[Result]) -> str:
    r"""Return an Audacity label track; times are in seconds with six decimals.

    The format cannot hold scores, scenes and the video's id: when read back, scores are 1.0 and the id is the
    file's stem. Tabs and line ends in a label are written as \u0009, \u000a and \u000d, which
    `read_segments` decodes.

    Raises:
        UsageError: there is not exactly one video.
    """
    return "".join(
        f"{rounded(s.start_seconds):.6f}\t{rounded(s.end_seconds):.6f}\t{hide(s.label, _NOT_IN_A_LINE)}\n"
        for s in one_result(results, "audacity").segments
    )


def read_audacity(path: Path, text: str) -> dict[str, list[Segment]]:
    """Return the segments of a label track, with score 1.0; lines with a frequency range are left out.

    Raises:
        UsageError: a line is wrong; the message names file and line.
    """
    segments = []
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        if not line or line.startswith("\\\t"):
            continue
        where = f"{path}, line {number}"
        cells = line.split("\t", 2)
        try:
            start, end = (parse_number(cell, decimal_comma=True) for cell in cells[:2])
        except (ValueError, IndexError):
            raise UsageError(
                f"{where}: expected start<tab>end<tab>label in seconds, got {line[:60]!r}"
            ) from None
        segments.append(segment_at(where, reveal("".join(cells[2:])), start, end))
    return {path.stem: segments}
