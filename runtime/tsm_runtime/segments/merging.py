"""Segments from scores: consecutive cells with the same label become one segment, background is dropped.

`CellMerger` takes cells in order of time and serves files and live runs. `IntervalMerger` takes the intervals
of a live run, makes cells of them and merges those.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.results import Segment
from tsm_runtime.segments.cells import Cell, CellStream
from tsm_runtime.segments.rules import LabelRule, SegmentRules

Row = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class MergedSegment:
    """A segment of one model, closed or still open.

    Args:
        segment: label, bounds and score up to the last known cell.
        scene_sum: (S,) float64, sum of the scene scores of its cells; None without a scene head.
        num_cells: number of cells in the segment.
    """

    segment: Segment
    scene_sum: npt.NDArray[np.float64] | None
    num_cells: int


@dataclass(slots=True)
class _Run:
    """Consecutive cells of one label, from cell `start` on."""

    start: int
    score: float
    scene_sum: npt.NDArray[np.float64] | None


class CellMerger:
    """Merges cells of one model into segments. The confidence is the maximum of the scores (paper, 3.2).

    Memory does not grow with the number of cells.

    Args:
        labels: A action labels; background gives no segment.
        cell_seconds: s, length of a cell; cell k is [k*s, (k + 1)*s).
        rules: thresholds of a sigmoid head, and the shortest duration. Smoothing is not applied here.

    Raises:
        ValueError: there are thresholds, but not one for each label.
    """

    def __init__(self, labels: Sequence[str], cell_seconds: float, rules: SegmentRules | None = None) -> None:
        self._labels = tuple(labels)
        self._cell_seconds = cell_seconds
        self._rules = rules or SegmentRules()
        self._labels_in = LabelRule(labels, self._rules.thresholds)
        self._runs: dict[str, _Run] = {}
        self._stop = 0  # the cell after the last one, up to which all runs reach

    def push(self, cell: Cell) -> list[MergedSegment]:
        """Take the next cell and return the segments that it ends."""
        present = {self._labels[label]: float(cell.action[label]) for label in self._labels_in(cell.action)}
        ended = self._end_all_but(() if cell.begins else present)
        for label, score in present.items():
            run = self._runs.setdefault(
                label, _Run(cell.index, score, None if cell.scene is None else np.zeros(len(cell.scene)))
            )
            run.score = max(run.score, score)
            if run.scene_sum is not None and cell.scene is not None:
                run.scene_sum += cell.scene
        self._stop = cell.index + 1
        return ended

    def close(self) -> list[MergedSegment]:
        """End and return all open segments, as a gap or the end of the video does."""
        return self._end_all_but(())

    @property
    def open(self) -> list[MergedSegment]:
        """Segments up to the last cell, which the next cell may prolong."""
        return self._long_enough(self._segment(label) for label in self._runs)

    def open_since(self, label: str) -> float | None:
        """Return the start in seconds of the open segment of a label, or None if there is none."""
        run = self._runs.get(label)
        return None if run is None else run.start * self._cell_seconds

    def _end_all_but(self, labels: Container[str]) -> list[MergedSegment]:
        ending = [label for label in self._runs if label not in labels]
        ended = self._long_enough(self._segment(label) for label in ending)
        for label in ending:
            del self._runs[label]
        return ended

    def _long_enough(self, merged: Iterable[MergedSegment]) -> list[MergedSegment]:
        return [each for each in merged if self._rules.keeps(each.segment)]

    def _segment(self, label: str) -> MergedSegment:
        run = self._runs[label]
        segment = Segment(
            label=label,
            start_seconds=run.start * self._cell_seconds,
            end_seconds=self._stop * self._cell_seconds,
            score=run.score,
        )
        scene_sum = None if run.scene_sum is None else run.scene_sum.copy()
        return MergedSegment(segment, scene_sum, self._stop - run.start)


class IntervalMerger:
    """Merges the intervals of one model in a live run, in memory that does not grow.

    The segments, in order of their ends, equal those of `find_segments` on all intervals at once.

    Args:
        labels: A action labels.
        spec: where the intervals lie.
        rules: how scores become segments.
    """

    def __init__(self, labels: Sequence[str], spec: ClipSpec, rules: SegmentRules | None = None) -> None:
        rules = rules or SegmentRules()
        self._num_labels = len(labels)
        self._cell_seconds = spec.stride_seconds
        self._cells = CellStream(spec, rules)
        self._merger = CellMerger(labels, spec.stride_seconds, rules)
        self.num_intervals = 0
        """Intervals so far."""

    def push(
        self, index: int, action: Row, scene: Row | None = None, *, after_gap: bool = False
    ) -> list[MergedSegment]:
        """Take the next interval.

        Args:
            index: its number, higher than the last one; a missing number ends all open segments.
            action: (A,) probabilities.
            scene: (S,) probabilities, or None without a scene head.
            after_gap: a gap in the video lies before the interval and ends all open segments.

        Returns:
            Segments that have ended.

        Raises:
            ValueError: the number of scores is not the number of labels, or the index is not higher.
        """
        if action.shape != (self._num_labels,):
            raise ValueError(f"{action.shape} action scores for {self._num_labels} labels")
        if index < self._cells.next_interval:
            raise ValueError(f"interval {index} after interval {self._cells.next_interval - 1}")
        self.num_intervals += 1
        return self._merge(self._cells.push(index, action, scene, after_gap=after_gap))

    def skip_to(self, index: int) -> list[MergedSegment]:
        """Note that no interval before `index` follows; return the segments that this ends."""
        ended = self._merge(self._cells.skip_to(index))
        return ended if self._cells.is_open else [*ended, *self._merger.close()]

    def close(self) -> list[MergedSegment]:
        """End all open segments, as the end of the stream or a break does."""
        return [*self._merge(self._cells.close()), *self._merger.close()]

    @property
    def open(self) -> list[MergedSegment]:
        """Segments up to the last known cell, which the next cell may prolong."""
        return self._merger.open

    @property
    def next_index(self) -> int:
        """The first cell that can still follow."""
        return self._cells.next_index

    def earliest_start(self, label: str) -> float:
        """Return the earliest start in seconds of a segment of this label that can still be returned."""
        since = self._merger.open_since(label)
        return self.next_index * self._cell_seconds if since is None else since

    def _merge(self, cells: Iterable[Cell]) -> list[MergedSegment]:
        return [merged for cell in cells for merged in self._merger.push(cell)]
