"""Scores of cells from scores of overlapping intervals, and their moving average.

Both are additions to the paper and off by default.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tsm_runtime.clips.spec import TIME_TOLERANCE_SECONDS
from tsm_runtime.results import IntervalScores

Rows = npt.NDArray[np.float32]


def cell_scores(intervals: IntervalScores, num_overlapping: int) -> IntervalScores:
    """Return scores of cells one stride long: the mean over the intervals that cover the cell.

    Interval k covers the cells k to k + `num_overlapping` - 1. At the ends of the video, and on both sides of
    a gap, fewer cover a cell. A cell inside a gap that intervals of both sides reach belongs to the side
    before, whose last frame is still on screen there; so no mean is taken across a gap.

    Args:
        intervals: scores per interval.
        num_overlapping: m = t/s; 1 returns the input unchanged.
    """
    if num_overlapping == 1:
        return intervals
    indices: list[npt.NDArray[np.int64]] = []
    parts: list[tuple[Rows, Rows | None]] = []
    breaks: set[int] = set()
    stop = 0  # first cell that belongs to no piece so far
    for piece in _pieces(intervals):
        first = int(intervals.indices[piece.start])
        start, end = max(first, stop), int(intervals.indices[piece.stop - 1]) + num_overlapping
        if indices and start == stop:
            breaks.add(start)
        indices.append(np.arange(start, end, dtype=np.int64))
        scene = intervals.scene
        parts.append(
            (
                covering_mean(intervals.action[piece], num_overlapping, start - first),
                None if scene is None else covering_mean(scene[piece], num_overlapping, start - first),
            )
        )
        stop = end
    if not indices:
        return intervals
    scenes = [scene for _, scene in parts if scene is not None]
    return IntervalScores(
        indices=np.concatenate(indices),
        action=np.concatenate([action for action, _ in parts]),
        scene=np.concatenate(scenes) if scenes else None,
        breaks=frozenset(breaks),
    )


def covering_mean(rows: Rows, num_overlapping: int, start: int = 0, stop: int | None = None) -> Rows:
    """Return the mean of the covering rows for cells `start` to `stop` of a piece.

    Args:
        rows: (n, C), scores of consecutive intervals; row k covers the cells k to k + m - 1.
        num_overlapping: m.
        start: the first cell.
        stop: end of the range, exclusive; None: n + m - 1.

    Returns:
        (stop - start, C). A row does not depend on the other requested cells, nor on rows that do not cover
        it.
    """
    stop = len(rows) + num_overlapping - 1 if stop is None else stop
    total = np.zeros((stop - start, rows.shape[1]))
    covering = np.zeros((len(total), 1))
    for offset in range(num_overlapping):
        low, high = max(start, offset), min(stop, len(rows) + offset)
        if low < high:
            total[low - start : high - start] += rows[low - offset : high - offset]
            covering[low - start : high - start] += 1
    return (total / covering).astype(np.float32)


def smooth_scores(scores: IntervalScores, cell_seconds: float, width_seconds: float) -> IntervalScores:
    """Replace action scores by their centred moving average, which does not reach across gaps.

    Scores are taken as constant within a cell; the average is over `width_seconds` around the cell's middle,
    limited to the cells up to the next gap. So a width of one cell or less changes nothing, three cells
    are the mean of three, and two cells weigh the neighbours half. Scene scores stay.

    Args:
        scores: per cell; cells do not overlap.
        cell_seconds: length of a cell.
        width_seconds: width of the average; 0: no smoothing.
    """
    most = 2 * len(scores.indices) + 1  # in cells: covers all cells from either end
    weights = smoothing_weights(min(width_seconds / cell_seconds, most))
    if len(weights) == 1:
        return scores
    action = np.empty_like(scores.action)
    for piece in _pieces(scores):
        action[piece] = moving_average(scores.action[piece], weights)
    return replace(scores, action=action)


def smoothing_weights(num_cells: float) -> list[float]:
    """Return the share of a cell 0, 1, 2 ... cells away that lies in a window of `num_cells` cells.

    >>> smoothing_weights(0.0), smoothing_weights(2.0), smoothing_weights(3.0)
    ([1.0], [1.0, 0.5], [1.0, 1.0])
    """
    reach = num_cells / 2 - 0.5  # beyond the cell itself, on either side
    count = max(0, math.ceil(reach - TIME_TOLERANCE_SECONDS))
    return [1.0, *(min(1.0, reach - offset) for offset in range(count))]


def moving_average(rows: Rows, weights: list[float], start: int = 0, stop: int | None = None) -> Rows:
    """Return the weighted means of rows `start` to `stop` and their neighbours.

    Args:
        rows: (n, C), scores of consecutive cells.
        weights: weights of neighbours at distance 0, 1, 2, ...; the ends have fewer neighbours.
        start: the first row.
        stop: end of the range, exclusive; None: n.

    Returns:
        (stop - start, C). A row does not depend on the other requested rows, nor on rows beyond the reach
        of its weights.
    """
    stop = len(rows) if stop is None else stop
    total = rows[start:stop].astype(np.float64)
    weight = np.ones((len(total), 1))
    for offset, share in enumerate(weights[1 : len(rows)], start=1):
        low, high = max(start, offset), min(stop, len(rows) - offset)
        if low < stop:  # rows with a neighbour `offset` before
            total[low - start :] += share * rows[low - offset : stop - offset].astype(np.float64)
            weight[low - start :] += share
        if start < high:  # and after
            total[: high - start] += share * rows[start + offset : high + offset].astype(np.float64)
            weight[: high - start] += share
    return (total / weight).astype(np.float32)


def _pieces(scores: IntervalScores) -> Iterator[slice]:
    """Yield the rows between gaps."""
    indices = scores.indices
    broken = (np.diff(indices) != 1) | np.isin(indices[1:], sorted(scores.breaks))
    borders = [0, *(np.flatnonzero(broken) + 1).tolist(), len(indices)]
    for start, stop in pairwise(borders):
        if stop > start:
            yield slice(start, stop)
