"""Incremental conversion of scores of intervals to scores of cells.

All cells together equal those of `segments.smoothing`, which takes all intervals at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.segments.rules import SegmentRules
from tsm_runtime.segments.smoothing import covering_mean, moving_average, smoothing_weights

Row = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Cell:
    """Scores of the cell [index*s, (index + 1)*s) seconds.

    Args:
        index: its number.
        action: (A,) probabilities, averaged and smoothed.
        scene: (S,) probabilities, averaged; None without a scene head.
        begins: True for the first cell of a piece: a gap lies before it, or no cell does.
    """

    index: int
    action: Row
    scene: Row | None
    begins: bool = False


def wait_seconds(spec: ClipSpec, rules: SegmentRules) -> float:
    """Return how long after the end of a cell its scores may still depend on later frames.

    The sum of: the part of the cell's last interval beyond the cell, the part of that interval's window
    beyond the interval, and half the width of the smoothing, rounded up to whole strides.
    """
    reach = len(smoothing_weights(rules.smoothing_seconds / spec.stride_seconds)) - 1
    return spec.interval_seconds - spec.stride_seconds + spec.margin_seconds + reach * spec.stride_seconds


class CellStream:
    """Yields the cells of one model, each as soon as its scores are final. Memory does not grow.

    A cell waits for the intervals that cover it and for the cells within reach of the smoothing. A gap, a
    skipped interval and the end of the stream end a piece: waiting cells are then made from the scores
    present.

    All cells together equal `smooth_scores(cell_scores(...))`, bit for bit.

    Args:
        spec: where the intervals lie.
        rules: width of the smoothing.
    """

    def __init__(self, spec: ClipSpec, rules: SegmentRules) -> None:
        self._num_overlapping = spec.num_overlapping
        self._weights = smoothing_weights(rules.smoothing_seconds / spec.stride_seconds)
        reach = len(self._weights) - 1
        self._covering: deque[tuple[Row, Row | None]] = deque(maxlen=self._num_overlapping)
        """Scores of the last intervals of the piece."""
        self._cells: deque[Cell] = deque(maxlen=2 * reach + 1)
        """The last cells of the piece, not smoothed; the last `_num_waiting` have not been yielded."""
        self._num_waiting = 0
        self._next_interval = 0
        self._next_cell = 0  # the next one to average; cells before it belong to an earlier piece
        self._begins = True

    @property
    def next_index(self) -> int:
        """Lowest index of a cell that can still follow."""
        if self._covering:
            return self._next_cell - self._num_waiting
        return max(self._next_cell, self._next_interval)

    @property
    def next_interval(self) -> int:
        """Lowest index of an interval that can still be pushed."""
        return self._next_interval

    def push(self, index: int, action: Row, scene: Row | None, *, after_gap: bool) -> Iterator[Cell]:
        """Take the next interval and yield the cells that are complete with it.

        Args:
            index: its number, `next_interval` or higher; a missing number ends the piece.
            action: (A,) probabilities.
            scene: (S,) probabilities, or None without a scene head.
            after_gap: a gap in the video lies before the interval and ends the piece.
        """
        if after_gap or index != self._next_interval:
            yield from self.close()
        if not self._covering:
            self._next_cell, self._begins = max(self._next_cell, index), True
        self._next_interval = index + 1
        self._covering.append((action, scene))
        if index >= self._next_cell:  # else the cell belongs to the piece before
            yield from self._average(index - self._next_cell + 1)

    def skip_to(self, index: int) -> Iterator[Cell]:
        """Note that no interval before `index` follows, and yield the cells that waited for one."""
        if index > self._next_interval:
            yield from self.close()
            self._next_interval = index

    def close(self) -> Iterator[Cell]:
        """End the piece and yield all waiting cells."""
        if self._covering:
            yield from self._average(self._next_interval + self._num_overlapping - 1 - self._next_cell)
            yield from self._smoothed(self._num_waiting)
        self._covering.clear()
        self._cells.clear()

    @property
    def is_open(self) -> bool:
        """Whether the next interval can continue the piece."""
        return bool(self._covering)

    def _average(self, number: int) -> Iterator[Cell]:
        """Average `number` further cells from the intervals present, and yield those that can be smoothed."""
        first = self._next_interval - len(self._covering)  # interval of the first row
        cells = range(self._next_cell, self._next_cell + number)
        bounds = cells.start - first, cells.stop - first
        action = covering_mean(np.stack([row for row, _ in self._covering]), self._num_overlapping, *bounds)
        rows = [row for _, row in self._covering if row is not None]
        scene = covering_mean(np.stack(rows), self._num_overlapping, *bounds) if rows else None
        for place, index in enumerate(cells):
            self._cells.append(
                Cell(index, action[place], None if scene is None else scene[place], self._begins)
            )
            self._begins = False
            self._next_cell += 1
            self._num_waiting += 1
            yield from self._smoothed(self._num_waiting - (len(self._weights) - 1))

    def _smoothed(self, number: int) -> Iterator[Cell]:
        """Yield the first `number` waiting cells, smoothed."""
        if number <= 0:
            return
        start = len(self._cells) - self._num_waiting
        action = moving_average(
            np.stack([cell.action for cell in self._cells]), self._weights, start, start + number
        )
        waiting = [self._cells[start + place] for place in range(number)]
        self._num_waiting -= number
        for cell, row in zip(waiting, action, strict=True):
            yield Cell(cell.index, row, cell.scene, cell.begins)
