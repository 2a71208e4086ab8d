"""Scores of intervals to segments: argmax, merge equal neighbours, drop the background.

A sigmoid head scores each label on its own: there, for each label, runs of scores at its threshold or above.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["BACKGROUND", "IntervalScores", "LabelRule", "Segment", "SegmentMerger", "merge_intervals"]

BACKGROUND = "background"
"""Reserved name of the last action index of a softmax head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One action instance: `label` from `start_seconds` to `end_seconds` with confidence `score`.

    Raises:
        ValueError: a bound or the score is not finite, or the segment is empty or negative.
    """

    label: str
    start_seconds: float
    end_seconds: float
    score: float = 1.0

    def __post_init__(self) -> None:
        bounds = (self.start_seconds, self.end_seconds, self.score)
        if not all(math.isfinite(value) for value in bounds):
            raise ValueError(f"segment {self.label!r} has a bound or score that is not finite: {bounds}")
        if not 0 <= self.start_seconds < self.end_seconds:
            raise ValueError(
                f"segment {self.label!r} must satisfy 0 <= start < end, got "
                f"[{self.start_seconds}, {self.end_seconds}]"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalScores:
    """Class probabilities of the classified intervals of one video, or of cells that they were made into.

    Args:
        indices: (K,) int64, strictly increasing; cell k is [k*s, (k+1)*s) seconds, and so is interval k where
            intervals do not overlap; else it is [k*s, k*s + t).
        action: (K, A) float32; of a softmax head the background is last.
        scene: (K, S) float32, or None for a model without scene head.
        breaks: numbers k such that a gap in the video lies between k - 1 and k.
    """

    indices: npt.NDArray[np.int64]
    action: npt.NDArray[np.float32]
    scene: npt.NDArray[np.float32] | None = None
    breaks: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        count = len(self.indices)
        if self.action.ndim != 2 or len(self.action) != count:
            raise ValueError(f"action scores: expected ({count}, A), got {self.action.shape}")
        if self.scene is not None and (self.scene.ndim != 2 or len(self.scene) != count):
            raise ValueError(f"scene scores: expected ({count}, S), got {self.scene.shape}")
        if np.any(np.diff(self.indices) <= 0):
            raise ValueError("interval indices must be strictly increasing")


def merge_intervals(
    scores: IntervalScores, labels: Sequence[str], interval_seconds: float, thresholds: Sequence[float] = ()
) -> list[Segment]:
    """Merge consecutive intervals of one label into segments; confidence is the maximum (paper, 3.2).

    Args:
        scores: probabilities per interval; intervals do not overlap.
        labels: A action labels; background gives no segment.
        interval_seconds: t.
        thresholds: see `LabelRule`.

    Returns:
        Segments in order of time. A missing interval or a break ends a segment.

    Raises:
        ValueError: the number of labels is not the number of action scores.
    """
    if scores.action.shape[1] != len(labels):
        raise ValueError(f"{scores.action.shape[1]} action scores for {len(labels)} labels")
    merger = SegmentMerger(labels, interval_seconds, thresholds)
    segments: list[Segment] = []
    for index, row in zip(scores.indices.tolist(), scores.action, strict=True):
        segments += merger.push(index, row, after_gap=index in scores.breaks)
    segments += merger.finish()
    order = {label: number for number, label in enumerate(labels)}
    return sorted(segments, key=lambda s: (s.start_seconds, s.end_seconds, order[s.label]))


class LabelRule:
    """Tells which labels an interval has.

    Args:
        labels: A action labels.
        thresholds: of a sigmoid head, one for each label: an interval has every label whose score is at its
            threshold or above, compared in float32 as models give it. Empty: a softmax head, an interval has
            the label with the highest score (of equal ones the first), unless that is `BACKGROUND`.

    Raises:
        ValueError: there are thresholds, but not one for each label.
    """

    def __init__(self, labels: Sequence[str], thresholds: Sequence[float] = ()) -> None:
        if len(thresholds) not in (0, len(labels)):
            raise ValueError(f"{len(thresholds)} thresholds for {len(labels)} labels")
        self._labels = tuple(labels)
        self._thresholds = np.array(thresholds, np.float32)

    def __call__(self, scores: npt.NDArray[np.float32]) -> list[int]:
        """Return the numbers of the labels, increasing, that scores (A,) give."""
        if len(self._thresholds):
            return [int(label) for label in np.flatnonzero(scores >= self._thresholds)]
        best = int(scores.argmax())
        return [] if self._labels[best] == BACKGROUND else [best]


class SegmentMerger:
    """Merges intervals that come one by one, in order of time; `merge_intervals` is this over all of a video.

    Args:
        labels: A action labels.
        interval_seconds: t.
        thresholds: see `LabelRule`.

    Raises:
        ValueError: there are thresholds, but not one for each label.
    """

    def __init__(
        self, labels: Sequence[str], interval_seconds: float, thresholds: Sequence[float] = ()
    ) -> None:
        self._labels = tuple(labels)
        self._interval_seconds = interval_seconds
        self._labels_in = LabelRule(labels, thresholds)
        self._open: dict[int, tuple[int, float]] = {}  # label: its first interval, its highest score
        self._last = -1

    @property
    def open(self) -> list[Segment]:
        """Segments up to the last interval that the next one may prolong, in order of labels."""
        return [self._segment(label) for label in sorted(self._open)]

    def push(self, index: int, scores: npt.NDArray[np.float32], *, after_gap: bool = False) -> list[Segment]:
        """Take the next interval.

        Args:
            index: its number, higher than the last one's; one that was left out ends all segments.
            scores: (A,) probabilities.
            after_gap: a gap in the video lies before it: all segments end there.

        Returns:
            Segments that have ended, in order of labels.
        """
        joined = index == self._last + 1 and not after_gap
        found = self._labels_in(scores)
        ended = [] if joined and self._open.keys() <= set(found) else self._end(found if joined else ())
        for label in found:
            first, best = self._open.get(label, (index, -math.inf))
            self._open[label] = (first, max(best, float(scores[label])))
        self._last = index
        return ended

    def finish(self) -> list[Segment]:
        """Return the segments that the end of the video ends."""
        return self._end(())

    def _end(self, but: Sequence[int]) -> list[Segment]:
        """Take out and return the open segments of other labels than these."""
        ending = sorted(self._open.keys() - set(but))
        ended = [self._segment(label) for label in ending]
        for label in ending:
            del self._open[label]
        return ended

    def _segment(self, label: int) -> Segment:
        first, best = self._open[label]
        return Segment(
            label=self._labels[label],
            start_seconds=first * self._interval_seconds,
            end_seconds=(self._last + 1) * self._interval_seconds,
            score=best,
        )
