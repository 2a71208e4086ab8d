"""Scores of intervals from an online model, which scores each sampled frame when it arrives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import Scores
from tsm_runtime.backends.online import OnlineScorer
from tsm_runtime.clips.spec import ClipSpec


@dataclass(frozen=True, slots=True)
class ScoredInterval:
    """Scores of interval `index`; action (1, A), scene (1, S) or None."""

    index: int
    scores: Scores


class IntervalScorer:
    """Scores the pictures of intervals, one after another, and keeps no picture.

    Args:
        scorer: scorer of a single stream, used by this object alone.
        spec: the clips of the bundle.

    Raises:
        ValueError: the scorer has several streams, its model takes other frames, or windows overlap: an
            online model sees each frame once and cannot use it in two intervals.
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
        self._spec = spec
        self._scorer = scorer
        self._current = -1  # the interval of the last picture
        self._waiting: list[ScoredInterval] = []  # intervals with all their pictures that are not over

    def push(self, interval: int, picture: npt.NDArray[np.uint8]) -> None:
        """Take the next picture of the current interval or of a later one."""
        if interval != self._current:
            self._scorer.reset()
        self._current = interval
        scores = self._scorer.push(picture)
        if self._scorer.num_frames == self._spec.num_frames:
            self._waiting.append(ScoredInterval(interval, scores))

    def over(self, stop: int) -> Iterator[ScoredInterval]:
        """Yield the complete intervals before `stop`, in order, each once."""
        while self._waiting and self._waiting[0].index < stop:
            yield self._waiting.pop(0)
