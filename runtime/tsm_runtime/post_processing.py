"""From the scores of intervals to the segments of a video: cells, smoothing, merging, shortest duration.

With all of it off this is `segments.merge_intervals`, as in the paper. What is beyond it is our choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tsm_runtime.clips import TIME_TOLERANCE_SECONDS, ClipSpec
from tsm_runtime.segments import IntervalScores, Segment, merge_intervals

__all__ = ["SegmentRules", "cell_scores", "find_segments", "smooth_scores"]

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRules:
    """How scores become segments.

    Args:
        thresholds: of a sigmoid head, one for each label; empty: a softmax head.
        smoothing_seconds: width of a centred moving average of the scores; 0: none.
        min_duration_seconds: shorter segments are dropped; 0: none.

    Raises:
        ValueError: a value is out of range.
    """

    thresholds: tuple[float, ...] = ()
    smoothing_seconds: float = 0.0
    min_duration_seconds: float = 0.0

    def __post_init__(self) -> None:
        for threshold in self.thresholds:
            if not 0 < threshold <= 1:
                raise ValueError(f"threshold {threshold:g}: expected more than 0, at most 1")
        for name in ("smoothing", "min_duration"):
            seconds: float = getattr(self, f"{name}_seconds")
            if not 0 <= seconds < math.inf:
                raise ValueError(f"{name.replace('_', '-')} {seconds:g}: expected seconds, 0 or more")

    def keeps(self, segment: Segment) -> bool:
        """Whether a segment is long enough."""
        seconds = segment.end_seconds - segment.start_seconds
        return seconds >= self.min_duration_seconds - TIME_TOLERANCE_SECONDS


def find_segments(
    intervals: IntervalScores, labels: tuple[str, ...], spec: ClipSpec, rules: SegmentRules
) -> tuple[list[Segment], IntervalScores]:
    """Return the segments of a video in order of time, and the scores that they were made from.

    Args:
        intervals: as the model scored them, on the grid of `spec`.
        labels: A action labels.
        spec: where the intervals lie.
        rules: what to do.

    Returns:
        Segments, and scores of cells of `spec.stride_seconds`.

    Raises:
        ValueError: labels, scores and thresholds are not equally many.
    """
    cells = smooth_scores(
        cell_scores(intervals, spec.num_overlapping), spec.stride_seconds, rules.smoothing_seconds
    )
    segments = merge_intervals(cells, labels, spec.stride_seconds, rules.thresholds)
    return [segment for segment in segments if rules.keeps(segment)], cells


def cell_scores(intervals: IntervalScores, num_overlapping: int) -> IntervalScores:
    """Scores of cells one stride long: the mean over the intervals that cover the cell.

    Interval k covers the cells k to k + `num_overlapping` - 1. At the ends of the video, and on both sides of
    a gap, fewer cover a cell. A cell inside a gap that intervals of both sides reach belongs to the side
    before, whose last frame is still on screen there; so no mean is taken across a gap.

    Args:
        intervals: scores per interval.
        num_overlapping: m = t/s; 1 gives back what came in.
    """
    if num_overlapping == 1:
        return intervals
    indices: list[npt.NDArray[np.int64]] = []
    parts: list[tuple[Rows, Rows | None]] = []
    breaks: set[int] = set()
    stop = 0  # first cell that no piece so far has
    for piece in _pieces(intervals):
        first = int(intervals.indices[piece.start])
        start, end = max(first, stop), int(intervals.indices[piece.stop - 1]) + num_overlapping
        if indices and start == stop:
            breaks.add(start)
        indices.append(np.arange(start, end, dtype=np.int64))
        scene = intervals.scene
        parts.append(
            (
                _covering_mean(intervals.action[piece], num_overlapping)[start - first :],
                None if scene is None else _covering_mean(scene[piece], num_overlapping)[start - first :],
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


def _covering_mean(rows: Rows, num_overlapping: int) -> Rows:
    """Return for each cell (n + m - 1, C) the mean of the rows (n, C) that cover it, up to m of them."""
    count = len(rows)
    total = np.zeros((count + num_overlapping - 1, rows.shape[1]))
    covering = np.zeros((len(total), 1))
    for offset in range(num_overlapping):
        total[offset : offset + count] += rows
        covering[offset : offset + count] += 1
    return (total / covering).astype(np.float32)


def smooth_scores(scores: IntervalScores, cell_seconds: float, width_seconds: float) -> IntervalScores:
    """Replace action scores by their centred moving average, which does not reach across gaps.

    Scores are taken as constant within a cell; the average is over `width_seconds` around the cell's middle,
    as far as there are cells up to the next gap. So a width of one cell or less changes nothing, three cells
    are the mean of three, and two cells weigh the neighbours half. Scene scores stay.

    Args:
        scores: per cell; cells do not overlap.
        cell_seconds: length of a cell.
        width_seconds: of the average; 0: none.
    """
    weights = _weights(width_seconds / cell_seconds)
    if len(weights) == 1:
        return scores
    action = np.empty_like(scores.action)
    for piece in _pieces(scores):
        action[piece] = _average(scores.action[piece], weights)
    return replace(scores, action=action)


def _weights(num_cells: float) -> list[float]:
    """Return how much of a cell 0, 1, 2 ... cells away lies in the window of so many cells.

    >>> _weights(0.0), _weights(2.0), _weights(3.0)
    ([1.0], [1.0, 0.5], [1.0, 1.0])
    """
    reach = num_cells / 2 - 0.5  # beyond the cell itself, on either side
    count = max(0, math.ceil(reach - TIME_TOLERANCE_SECONDS))
    return [1.0, *(min(1.0, reach - offset) for offset in range(count))]


def _average(rows: Rows, weights: list[float]) -> Rows:
    """Return the weighted means (n, C) of rows (n, C) and their neighbours up to len(weights) - 1 away."""
    total = rows.astype(np.float64)
    weight = np.ones((len(rows), 1))
    for offset, share in enumerate(weights[1 : len(rows)], start=1):
        total[offset:] += share * rows[:-offset].astype(np.float64)
        total[:-offset] += share * rows[offset:].astype(np.float64)
        weight[offset:] += share
        weight[:-offset] += share
    return (total / weight).astype(np.float32)


def _pieces(scores: IntervalScores) -> Iterator[slice]:
    """Yield the rows between gaps."""
    indices = scores.indices
    broken = (np.diff(indices) != 1) | np.isin(indices[1:], sorted(scores.breaks))
    borders = [0, *(np.flatnonzero(broken) + 1).tolist(), len(indices)]
    for start, stop in pairwise(borders):
        if stop > start:
            yield slice(start, stop)
