"""Timed frames to interval scores with an online model: each sampled frame is scored when it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import Scores
from tsm_runtime.backends.online import OnlineScorer
from tsm_runtime.clips.builder import ClipBuilder
from tsm_runtime.clips.spec import ClipSpec, count_intervals

__all__ = ["IntervalScorer", "OnlineIntervals", "ScoredInterval"]


@dataclass(frozen=True, slots=True)
class ScoredInterval:
    """Scores of interval `index` from its first `num_frames` frames; action (1, A), scene (1, S) or None."""

    index: int
    num_frames: int
    scores: Scores


class IntervalScorer:
    """Scores the pictures of intervals, one after another; all that it keeps is what the model keeps.

    Args:
        scorer: of a single stream; nobody else may push into it.
        spec: the bundle's.

    Raises:
        ValueError: the scorer has several streams, its model takes other frames, or windows overlap: a model
            that sees a frame once cannot see it in two intervals.
    """

    def __init__(self, scorer: OnlineScorer, spec: ClipSpec) -> None:
        takes = (scorer.num_streams, scorer.model.num_frames, scorer.model.size)
        if takes != (1, spec.num_frames, spec.size):
            raise ValueError(
                f"expected a scorer of 1 stream, {spec.num_frames} frames of {spec.size} px, got {takes}"
            )
        if spec.num_open > 1:
            raise ValueError(
                f"expected intervals that do not overlap, got a window of {spec.window_seconds:g} s every"
                f" {spec.stride_seconds:g} s"
            )
        self.so_far: ScoredInterval | None = None
        """The newest interval, which may not be over, with the scores that it has by now."""
        self._spec = spec
        self._scorer = scorer
        self._waiting: list[ScoredInterval] = []  # has all its frames, but the interval is not over

    def push(self, interval: int, picture: npt.NDArray[np.uint8]) -> None:
        """Take the next picture of an interval, which is the last one's or a later one."""
        if self.so_far is None or interval != self.so_far.index:
            self._scorer.reset()
        scores = self._scorer.push(picture)
        self.so_far = ScoredInterval(interval, self._scorer.num_frames, scores)
        if self._scorer.num_frames == self._spec.num_frames:
            self._waiting.append(self.so_far)

    def over(self, stop: int) -> Iterator[ScoredInterval]:
        """Yield intervals before `stop`, which are over, if they had all their pictures; in order, once."""
        while self._waiting and self._waiting[0].index < stop:
            yield self._waiting.pop(0)


class OnlineIntervals:
    """Scores of the intervals of one video from frames that arrive in order of time.

    Frames, intervals, gaps and breaks are those of `clips.ClipBuilder`, whose `push` this one resembles; but
    no clip is kept: a frame goes through the model when it arrives, and memory does not grow with T.

    Args:
        scorer, spec: see `IntervalScorer`.
        first_interval, stop_interval: see `clips.ClipBuilder`.

    Raises:
        ValueError: as `IntervalScorer`.
    """

    def __init__(
        self,
        scorer: OnlineScorer,
        spec: ClipSpec,
        *,
        first_interval: int = 0,
        stop_interval: int | None = None,
    ) -> None:
        self.spec = spec
        self.grid = ClipBuilder(spec, 1, first_interval=first_interval, stop_interval=stop_interval)
        """Holds `gaps` and `breaks`."""
        self._intervals = IntervalScorer(scorer, spec)

    @property
    def so_far(self) -> ScoredInterval | None:
        """See `IntervalScorer`."""
        return self._intervals.so_far

    def push(
        self, start_seconds: float, end_seconds: float, picture: Callable[[], npt.NDArray[np.uint8]]
    ) -> Iterator[ScoredInterval]:
        """Take the frame shown in [start, end), where end is the start of the next frame.

        Args:
            start_seconds: presentation time of the frame.
            end_seconds: presentation time of its successor.
            picture: gives the (size, size, 3) uint8 picture; called at most once, and only if needed.

        Yields:
            Intervals that are over, whole, in order of time.
        """
        slots = self.grid.take_slots(start_seconds, end_seconds)
        if slots:
            pixels = picture()
            for slot in slots:
                self._intervals.push(slot // self.spec.num_frames, pixels)
        yield from self._intervals.over(count_intervals(end_seconds, self.spec.interval_seconds))
