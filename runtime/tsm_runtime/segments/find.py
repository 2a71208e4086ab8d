"""."""

from __future__ import annotations

from collections.abc import Sequence

from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.results import IntervalScores, Segment
from tsm_runtime.segments.merging import SegmentMerger
from tsm_runtime.segments.rules import SegmentRules
from tsm_runtime.segments.smoothing import cell_scores, smooth_scores

__all__ = ["find_segments", "merge_intervals"]


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
