"""Scores of intervals to segments: argmax, merge equal neighbours, drop the background.

A sigmoid head scores each label on its own: there, for each label, runs of scores at its threshold or above.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.results import Segment
from tsm_runtime.segments.cells import Cell, CellStream
from tsm_runtime.segments.rules import LabelRule, SegmentRules

__all__ = ["Found", "MemberMerger", "SegmentMerger"]


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


Row = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Found:
    """A segment of one member, closed or still open.

    Args:
        segment: as it is by now.
        scene_sum: (S,) float64, sum of the scene scores of its cells; None without a scene head.
        num_cells: how many they are.
    """

    segment: Segment
    scene_sum: npt.NDArray[np.float64] | None
    num_cells: int


@dataclass(slots=True)
class _Run:
    """Cells from `start` on that have one label."""

    start: int
    score: float
    scene_sum: npt.NDArray[np.float64] | None


class MemberMerger:
    """Merges the intervals of one model, in memory that does not grow.

    The segments it gives, in order of their ends, are those of `post_processing.find_segments` on all
    intervals at once. Bounds and numbers below are of cells, which are the intervals unless these overlap.

    Args:
        labels: A action labels.
        spec: where the intervals lie.
        rules: how scores become segments.
    """

    def __init__(self, labels: Sequence[str], spec: ClipSpec, rules: SegmentRules | None = None) -> None:
        self._labels = tuple(labels)
        self._cell_seconds = spec.stride_seconds
        self._rules = rules or SegmentRules()
        self._labels_in = LabelRule(labels, self._rules.thresholds)
        self._cells = CellStream(spec, self._rules)
        self._runs: dict[str, _Run] = {}
        self._stop = 0  # of the last cell, which all runs reach
        self.num_intervals = 0
        """Intervals so far."""

    def push(
        self, index: int, action: Row, scene: Row | None = None, *, after_gap: bool = False
    ) -> list[Found]:
        """Take the next interval.

        Args:
            index: its number, higher than the last one's; a number that is left out ends what is open.
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
        if index < self._cells.next_interval:
            raise ValueError(f"interval {index} after interval {self._cells.next_interval - 1}")
        self.num_intervals += 1
        return self._take(self._cells.push(index, action, scene, after_gap=after_gap))

    def skip_to(self, index: int) -> list[Found]:
        """Note that no interval before `index` comes any more; return the segments that this ends."""
        ended = self._take(self._cells.skip_to(index))
        return ended if self._cells.is_open else [*ended, *self._end(())]

    def close(self) -> list[Found]:
        """End what is open, as the end of the stream or a break does."""
        return [*self._take(self._cells.close()), *self._end(())]

    @property
    def open(self) -> list[Found]:
        """Segments up to the last cell that is known, which the next one may prolong."""
        return self._long(self._found(label) for label in self._runs)

    @property
    def next_index(self) -> int:
        """The first cell that can still come."""
        return self._cells.next_index

    def earliest_start(self, label: str) -> float:
        """Return the second before which no segment of this label can begin that has not been given yet."""
        run = self._runs.get(label)
        return (self.next_index if run is None else run.start) * self._cell_seconds

    def _take(self, cells: Iterable[Cell]) -> list[Found]:
        return [found for cell in cells for found in self._take_one(cell)]

    def _take_one(self, cell: Cell) -> list[Found]:
        found = {self._labels[label]: float(cell.action[label]) for label in self._labels_in(cell.action)}
        ended = self._end(() if cell.begins else found)
        for label, score in found.items():
            run = self._runs.setdefault(
                label, _Run(cell.index, score, None if cell.scene is None else np.zeros(len(cell.scene)))
            )
            run.score = max(run.score, score)
            if run.scene_sum is not None and cell.scene is not None:
                run.scene_sum += cell.scene
        self._stop = cell.index + 1
        return ended

    def _end(self, but: Container[str]) -> list[Found]:
        """Take out the runs of other labels than these."""
        ending = [label for label in self._runs if label not in but]
        ended = self._long(self._found(label) for label in ending)
        for label in ending:
            del self._runs[label]
        return ended

    def _long(self, found: Iterable[Found]) -> list[Found]:
        return [each for each in found if self._rules.keeps(each.segment)]

    def _found(self, label: str) -> Found:
        run = self._runs[label]
        segment = Segment(
            label=label,
            start_seconds=run.start * self._cell_seconds,
            end_seconds=self._stop * self._cell_seconds,
            score=run.score,
        )
        return Found(segment, None if run.scene_sum is None else run.scene_sum.copy(), self._stop - run.start)
