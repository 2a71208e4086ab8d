"""Scores of intervals to segments while they come, as `segments.merge_intervals` does with all at once."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.segments import BACKGROUND, Segment

__all__ = ["Found", "MemberMerger"]

Row = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Found:
    """A segment of one member, closed or still open.

    Args:
        segment: as it is by now.
        scene_sum: (S,) float64, sum of the scene scores of its intervals; None without a scene head.
        num_intervals: how many they are.
    """

    segment: Segment
    scene_sum: npt.NDArray[np.float64] | None
    num_intervals: int


@dataclass(slots=True)
class _Run:
    """Intervals from `start` on that have one label."""

    start: int
    score: float
    scene_sum: npt.NDArray[np.float64] | None


class MemberMerger:
    """Merges the intervals of one model, in memory that does not grow.

    The segments it gives, in their order, are those of `merge_intervals` on all intervals at once.

    Args:
        labels: A action labels, `BACKGROUND` last.
        interval_seconds: t.
    """

    def __init__(self, labels: Sequence[str], interval_seconds: float) -> None:
        self._labels = tuple(labels)
        self._interval_seconds = interval_seconds
        self._runs: dict[str, _Run] = {}
        self._stop = 0  # of the last interval, which all runs reach
        self.next_index = 0
        """The first interval that can still come."""
        self.num_intervals = 0
        """Intervals so far."""

    def push(
        self, index: int, action: Row, scene: Row | None = None, *, after_gap: bool = False
    ) -> list[Found]:
        """Take the next interval.

        Args:
            index: its number, `next_index` or higher; a number that is left out ends what is open.
            action: (A,) probabilities.
            scene: (S,) probabilities, or None without a scene head.
            after_gap: a gap in the video lies before it: what is open ends there.

        Returns:
            Segments that have ended.

        Raises:
            ValueError: another number of scores than of labels, or an index that had its turn.
        """
        if action.shape != (len(self._labels),):
            raise ValueError(f"{action.shape} action scores for {len(self._labels)} labels")
        if index < self.next_index:
            raise ValueError(f"interval {index} after interval {self.next_index - 1}")
        found = self._labels_of(action)
        ended = self._end(found if index == self._stop and not after_gap else ())
        for label, score in found.items():
            run = self._runs.setdefault(
                label, _Run(index, score, None if scene is None else np.zeros(len(scene)))
            )
            run.score = max(run.score, score)
            if run.scene_sum is not None and scene is not None:
                run.scene_sum += scene
        self._stop = self.next_index = index + 1
        self.num_intervals += 1
        return ended

    def skip_to(self, index: int) -> list[Found]:
        """Note that no interval before `index` comes any more; return the segments that this ends."""
        self.next_index = max(self.next_index, index)
        return self._end(()) if self._stop < self.next_index else []

    def close(self) -> list[Found]:
        """End what is open, as the end of the stream or a break does."""
        return self._end(())

    @property
    def open(self) -> list[Found]:
        """Segments up to the last interval, which the next one may prolong."""
        return [self._found(label) for label in self._runs]

    def earliest_start(self, label: str) -> float:
        """Return the second before which no segment of this label can begin that has not been given yet."""
        run = self._runs.get(label)
        return (self.next_index if run is None else run.start) * self._interval_seconds

    def _labels_of(self, action: Row) -> dict[str, float]:
        best = int(action.argmax())
        label = self._labels[best]
        return {} if label == BACKGROUND else {label: float(action[best])}

    def _end(self, but: Container[str]) -> list[Found]:
        """Take out the runs of other labels than these."""
        ending = [label for label in self._runs if label not in but]
        ended = [self._found(label) for label in ending]
        for label in ending:
            del self._runs[label]
        return ended

    def _found(self, label: str) -> Found:
        run = self._runs[label]
        segment = Segment(
            label=label,
            start_seconds=run.start * self._interval_seconds,
            end_seconds=self._stop * self._interval_seconds,
            score=run.score,
        )
        return Found(segment, None if run.scene_sum is None else run.scene_sum.copy(), self._stop - run.start)
