"""What to run on and what to keep."""

from __future__ import annotations

from dataclasses import dataclass, field

from tsm_runtime.errors import UsageError
from tsm_runtime.fusion.fuse import FusionOptions

__all__ = ["Options"]

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
        allow_playlists: see `video.opening.open_file`.
        fusion: of several members; its own min_score is that of fused segments.

    Raises:
        UsageError: a value is out of range.
    """

    start_seconds: float = 0.0
    end_seconds: float | None = None
    min_score: float = 0.0
    batch_size: int | None = None
    allow_playlists: bool = False
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
