"""What to run on and what to keep."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tsm_runtime.clips.builder import ClipSpec
from tsm_runtime.errors import UsageError
from tsm_runtime.fusion.fuse import FusionOptions
from tsm_runtime.segments.smoothing import SegmentRules

__all__ = ["Options", "Overrides"]

_LATEST_SECONDS = 1e9
"""Bounds of the asked part lie below: some thirty years, so that no arithmetic on them overflows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to run on and what to keep.

    Args:
        start_seconds, end_seconds: only intervals that lie within are classified; the grid stays that of the
            whole video. end None: to the end.
        min_score: segments of a model below it are dropped; in an ensemble before they are fused.
        batch_size: clips per call of the backend; None: as the backend likes it.
        fusion: of several members; its own min_score is that of fused segments.

    Raises:
        UsageError: a value is out of range.
    """

    start_seconds: float = 0.0
    end_seconds: float | None = None
    min_score: float = 0.0
    batch_size: int | None = None
    fusion: FusionOptions = field(default_factory=FusionOptions)

    def __post_init__(self) -> None:
        if not 0 <= self.start_seconds < _LATEST_SECONDS:
            raise UsageError(f"start {self.start_seconds:g}: expected seconds, 0 or more")
        end = self.end_seconds
        if end is not None and not self.start_seconds < end < _LATEST_SECONDS:
            raise UsageError(f"end {end:g}: expected seconds, more than the start ({self.start_seconds:g})")
        if not 0 <= self.min_score <= 1:
            raise UsageError(f"min-score {self.min_score:g}: expected 0 to 1")
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"batch {self.batch_size}: expected 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What takes the place of a bundle's own settings; None: as the bundle says, 0: off.

    Args:
        smoothing_seconds, min_duration_seconds: see `post_processing.SegmentRules`.
        window_seconds, stride_seconds: see `clips.ClipSpec`.
    """

    smoothing_seconds: float | None = None
    min_duration_seconds: float | None = None
    window_seconds: float | None = None
    stride_seconds: float | None = None

    def apply(self, spec: ClipSpec, rules: SegmentRules) -> tuple[ClipSpec, SegmentRules]:
        """Return a model's settings with the given ones in their place.

        Raises:
            UsageError: a value is out of range for this model; the message begins with the option.
        """
        try:
            return (
                replace(
                    spec,
                    window_seconds=_given(self.window_seconds, spec.window_seconds),
                    stride_seconds=_given(self.stride_seconds, spec.stride_seconds),
                ),
                replace(
                    rules,
                    smoothing_seconds=_given(self.smoothing_seconds, rules.smoothing_seconds),
                    min_duration_seconds=_given(self.min_duration_seconds, rules.min_duration_seconds),
                ),
            )
        except ValueError as error:
            raise UsageError(f"--{error}") from error


def _given(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
