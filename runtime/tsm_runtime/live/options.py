"""Options of a live run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tsm_runtime.errors import UsageError
from tsm_runtime.fusion.options import FusionOptions
from tsm_runtime.live.stream_run import DropPolicy, StreamSettings

_LONGEST_LOOKAHEAD_SECONDS = 600.0
"""Frames within the look-ahead are held in memory and decoded again and again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions:
    """How to run on a stream.

    Args:
        show_open: also report segments that are not over.
        drop: what happens when scoring is too slow: the `oldest` waiting intervals are dropped, or `none` and
            the source waits. None: oldest for sources in real time, else none.
        batch_size: clips per call of a model at most; fewer while fewer wait.
        reconnect_seconds: how long to try to reconnect to a lost stream; 0: the run ends there.
        min_score: segments of a model below it are dropped; in an ensemble before they are fused.
        fusion: of several members.
        lookahead_seconds: how many seconds of later frames the label of a frame may depend on, where segments
            are made of the scores of frames by `viterbi` or `durations`, see `decoding.lookahead`.
        bundles: SHA-256 of each member's bundle, for the `Start` event; empty: not known.
        video_id: name of the stream in the events; empty: that of the source.

    Raises:
        UsageError: a value is out of range.
    """

    show_open: bool = False
    drop: DropPolicy | None = None
    batch_size: int = 8
    reconnect_seconds: float = math.inf
    min_score: float = 0.0
    fusion: FusionOptions = field(default_factory=FusionOptions)
    lookahead_seconds: float = 2.0
    bundles: tuple[str, ...] = ()
    video_id: str = ""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UsageError(f"batch {self.batch_size}: expected 1 or more")
        if not self.reconnect_seconds >= 0:
            raise UsageError(f"reconnect {self.reconnect_seconds:g}: expected seconds, 0 or more")
        if not 0 <= self.min_score <= 1:
            raise UsageError(f"min-score {self.min_score:g}: expected 0 to 1")
        if not 0 <= self.lookahead_seconds <= _LONGEST_LOOKAHEAD_SECONDS:
            raise UsageError(
                f"lookahead {self.lookahead_seconds:g}: expected 0 to {_LONGEST_LOOKAHEAD_SECONDS:g} seconds"
            )

    def settings(self, video_id: str, *, waits_for_source: bool) -> StreamSettings:
        """Return the settings of one stream."""
        return StreamSettings(
            video_id=video_id,
            drop=self.drop,
            show_open=self.show_open,
            batch_size=self.batch_size,
            reconnect_seconds=self.reconnect_seconds,
            min_score=self.min_score,
            fusion=self.fusion,
            bundles=self.bundles,
            lookahead_seconds=self.lookahead_seconds,
            waits_for_source=waits_for_source,
        )
