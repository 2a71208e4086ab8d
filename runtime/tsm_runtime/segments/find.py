"""Segments of a complete video from its scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.results import IntervalScores, Segment
from tsm_runtime.segments.cells import Cell
from tsm_runtime.segments.merging import CellMerger
from tsm_runtime.segments.rules import SegmentRules
from tsm_runtime.segments.smoothing import cell_scores, smooth_scores


def merge_intervals(
    scores: IntervalScores,
    labels: Sequence[str],
    interval_seconds: float,
    thresholds: Sequence[float] = (),
    min_duration_seconds: float = 0.0,
) -> list[Segment]:
    """Merge consecutive intervals of one label into segments; confidence is the maximum (paper, 3.2).

    Args:
        scores: probabilities per interval; intervals do not overlap.
        labels: A action labels; background gives no segment.
        interval_seconds: t.
        thresholds: see `LabelRule`.
        min_duration_seconds: shorter segments are dropped; 0: none.

    Returns:
        Segments in order of time. A missing interval or a break ends a segment.

    Raises:
        ValueError: the number of labels is not the number of action scores or thresholds.
    """
    if scores.action.shape[1] != len(labels):
        raise ValueError(f"{scores.action.shape[1]} action scores for {len(labels)} labels")
    rules = SegmentRules(thresholds=tuple(thresholds), min_duration_seconds=min_duration_seconds)
    merger = CellMerger(labels, interval_seconds, rules)
    merged = [each.segment for cell in _cells(scores) for each in merger.push(cell)]
    merged += [each.segment for each in merger.close()]
    order = {label: number for number, label in enumerate(labels)}
    return sorted(merged, key=lambda s: (s.start_seconds, s.end_seconds, order[s.label]))


def find_segments(
    intervals: IntervalScores, labels: Sequence[str], spec: ClipSpec, rules: SegmentRules
) -> tuple[list[Segment], IntervalScores]:
    """Return the segments of a video in order of time, and the scores they are made from.

    Args:
        intervals: scores of the model, on the grid of `spec`.
        labels: A action labels.
        spec: where the intervals lie.
        rules: smoothing, thresholds and shortest duration.

    Returns:
        Segments, and scores of cells of `spec.stride_seconds`.

    Raises:
        ValueError: the numbers of labels, scores and thresholds differ.
    """
    stride = spec.stride_seconds
    cells = smooth_scores(cell_scores(intervals, spec.num_overlapping), stride, rules.smoothing_seconds)
    segments = merge_intervals(cells, labels, stride, rules.thresholds, rules.min_duration_seconds)
    return segments, cells


def _cells(scores: IntervalScores) -> Iterator[Cell]:
    """Yield the rows of scores as cells without scenes, which no segment of a file needs."""
    previous = -1
    for index, action in zip(scores.indices.tolist(), scores.action, strict=True):
        yield Cell(index, action, None, begins=index != previous + 1 or index in scores.breaks)
        previous = index
