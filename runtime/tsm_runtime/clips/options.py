"""Options of cutting a video into clips: the requested part and the batch size."""

from __future__ import annotations

from dataclasses import dataclass

from tsm_runtime.errors import UsageError

_LATEST_SECONDS = 1e9
"""Upper limit of start and end in seconds, about thirty years: no arithmetic on them overflows."""


_HIGHEST_RATE = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipOptions:
    """Requested part of a video, and the number of clips per batch.

    Args:
        start_seconds, end_seconds: only intervals within this range are used; the grid is that of the whole
            video. end None: the end of the video.
        batch_size: clips per batch.
        rate: frames per second of videos without timestamps; None: 25 is assumed.
        allow_playlists: see `video.opening.open_file`.

    Raises:
        UsageError: a value is out of range.
    """

    start_seconds: float = 0.0
    end_seconds: float | None = None
    batch_size: int = 1
    rate: float | None = None
    allow_playlists: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.start_seconds < _LATEST_SECONDS:
            raise UsageError(f"start {self.start_seconds:g}: expected seconds, 0 or more")
        end = self.end_seconds
        if end is not None and not self.start_seconds < end < _LATEST_SECONDS:
            raise UsageError(f"end {end:g}: expected seconds, more than the start ({self.start_seconds:g})")
        if self.rate is not None and not 0 < self.rate <= _HIGHEST_RATE:
            raise UsageError(f"rate {self.rate:g}: expected frames per second, up to {_HIGHEST_RATE}")
        if self.batch_size < 1:
            raise UsageError(f"batch {self.batch_size}: expected 1 or more")
