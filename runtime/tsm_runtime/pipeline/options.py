"""Options of a run: the part of the videos to score, and the segments to keep."""

from __future__ import annotations

from dataclasses import dataclass, field

from tsm_runtime.clips.options import ClipOptions
from tsm_runtime.errors import UsageError
from tsm_runtime.fusion.options import FusionOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Part of the videos to score, and segments to keep.

    Args:
        start_seconds, end_seconds: only intervals within these bounds are classified, on the grid of the
            whole video. end None: to the end.
        min_score: segments of a model with a lower score are dropped; in an ensemble before the fusion.
        batch_size: clips per call of the backend; None: the backend's own `best_batch`.
        rate: frames per second of videos without times, such as raw MJPEG; None: 25.
        allow_playlists: see `video.opening.open_file`.
        keep_features: results hold the features of frames; the models must give them.
        fusion: fusion options of an ensemble; its own min_score applies to fused segments.

    Raises:
        UsageError: a value is out of range.
    """

    start_seconds: float = 0.0
    end_seconds: float | None = None
    min_score: float = 0.0
    batch_size: int | None = None
    rate: float | None = None
    allow_playlists: bool = False
    keep_features: bool = False
    fusion: FusionOptions = field(default_factory=FusionOptions)

    def __post_init__(self) -> None:
        self.clips(1 if self.batch_size is None else self.batch_size)
        if not 0 <= self.min_score <= 1:
            raise UsageError(f"min-score {self.min_score:g}: expected 0 to 1")

    def clips(self, batch_size: int) -> ClipOptions:
        """Return the options of the clips, in batches of this size."""
        return ClipOptions(
            start_seconds=self.start_seconds,
            end_seconds=self.end_seconds,
            batch_size=batch_size,
            rate=self.rate,
            allow_playlists=self.allow_playlists,
        )
