"""Detections and instances with unchecked bounds, for evaluators that accept invalid segments."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from tsm_runtime.errors import UsageError
from tsm_runtime.formats.numbers import parse_number
from tsm_runtime.results import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSegment(Segment):
    """A segment whose bounds may be equal, in the wrong order, or below 0.

    Raises:
        ValueError: a bound or the score is not finite.
    """

    def __post_init__(self) -> None:
        values = (self.start_seconds, self.end_seconds, self.score)
        if not all(map(math.isfinite, values)):
            raise ValueError(
                f"segment {self.label!r} has a bound or score that is not finite: {values};"
                " expected two finite numbers and a finite score"
            )


class _Entry(msgspec.Struct):
    label: str
    segment: tuple[float | str, float | str]
    score: float = 1.0


def raw_segment(where: str, raw: object) -> RawSegment:
    """Return a detection or an instance; bounds may be numbers as text.

    Raises:
        UsageError: `raw` has another shape, or a bound or score is not a finite number; the message begins
            with `where`.
    """
    try:
        entry = msgspec.convert(raw, _Entry)
        start, end = (_seconds(bound) for bound in entry.segment)
        return RawSegment(label=entry.label, start_seconds=start, end_seconds=end, score=entry.score)
    except (ValueError, OverflowError) as error:  # msgspec.ValidationError is a ValueError
        raise UsageError(f"{where}: {error}") from error


def _seconds(bound: float | str) -> float:
    return parse_number(bound) if isinstance(bound, str) else bound
