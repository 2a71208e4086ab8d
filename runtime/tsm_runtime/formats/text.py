"""Helpers that the formats share: checks of results, numbers, text and lanes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from tsm_runtime.errors import UsageError
from tsm_runtime.results import Result, Segment

_HIDDEN = re.compile(r"\\u([0-9a-f]{4})")


def check_ids(results: Sequence[Result]) -> None:
    """Check that no two results are of the same video.

    Raises:
        ValueError: two results have the same id, which the message names.
    """
    seen: set[str] = set()
    for result in results:
        if result.video_id in seen:
            raise ValueError(f"two results have the video id {result.video_id!r}")
        seen.add(result.video_id)


def one_result(results: Sequence[Result], format_name: str) -> Result:
    """Return the only result, for a format whose file belongs to one video.

    Raises:
        UsageError: there is not exactly one.
    """
    if len(results) != 1:
        raise UsageError(
            f"a file of format {format_name} holds one video, but there are {len(results)};"
            " choose a folder: --output FOLDER/"
        )
    return results[0]


def json_bytes(value: object) -> bytes:
    """Return a value as indented JSON; half surrogate pairs are escaped."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1)
    return f"{text}\n".encode("utf-8", "backslashreplace")


def rounded(value: float) -> float:
    """Return the number with six decimals, and 0.0 for -0.0."""
    return round(float(value), 6) + 0.0


def milliseconds(segment: Segment) -> tuple[int, int]:
    """Return the bounds in whole milliseconds, at least one millisecond apart."""
    start = round(segment.start_seconds * 1000)
    return start, max(round(segment.end_seconds * 1000), start + 1)


def segment_at(where: str, label: str, start: float, end: float, score: float = 1.0) -> Segment:
    """Return a segment made of read values.

    Raises:
        UsageError: the values are not a segment; the message begins with `where`.
    """
    if not label.strip():
        raise UsageError(f"{where}: empty label")
    try:
        return Segment(label=label, start_seconds=start, end_seconds=end, score=score)
    except (ValueError, OverflowError) as error:  # an integer of hundreds of digits overflows
        raise UsageError(f"{where}: {error}") from error


def lanes(spans: Sequence[tuple[float, float]]) -> list[int]:
    """Assign spans to as few lanes as possible, without overlap within a lane.

    Args:
        spans: (start, end) in any order.

    Returns:
        The lane of each span, from 0.

    >>> lanes([(0, 4), (1, 2), (2, 3), (4, 5)])
    [0, 1, 1, 0]
    """
    ends: list[float] = []
    chosen = [0] * len(spans)
    for i in sorted(range(len(spans)), key=lambda i: spans[i]):
        start, end = spans[i]
        lane = next((n for n, taken_until in enumerate(ends) if taken_until <= start), len(ends))
        ends[lane : lane + 1] = [end]
        chosen[i] = lane
    return chosen


def hide(text: str, forbidden: re.Pattern[str]) -> str:
    r"""Escape characters that a format cannot hold as \uXXXX; `reveal` restores the text.

    Args:
        text: any text.
        forbidden: matches one character below U+10000 at a time. If the text itself contains \uXXXX, its
            backslash is escaped too; other backslashes stay.

    >>> print(hide("a\tb \\ c", re.compile("\t")))
    a\u0009b \ c
    """

    def escape(match: re.Match[str]) -> str:
        return f"\\u{ord(match[0]):04x}"

    return forbidden.sub(escape, re.sub(r"\\(?=u[0-9a-f]{4})", escape, text))


def reveal(text: str) -> str:
    """Undo `hide`."""
    return _HIDDEN.sub(lambda match: chr(int(match[1], 16)), text)
