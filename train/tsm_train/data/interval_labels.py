"""The action labels of an interval, by how much of it each action covers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tsm_runtime.formats.ground_truth import _TOLERANCE_SECONDS
from tsm_runtime.results import BACKGROUND, Segment


def interval_labels(
    segments: Iterable[Segment],
    num_intervals: int,
    interval_seconds: float,
    *,
    offset_seconds: float = 0.0,
) -> list[str]:
    """`interval_label` of the intervals [offset + k*t, offset + (k+1)*t), k = 0 ... num_intervals - 1."""
    touching: defaultdict[int, list[Segment]] = defaultdict(list)
    for segment in segments:
        # One interval more on both sides: whether rounding put the border left or right, it is looked at.
        first = math.floor((segment.start_seconds - offset_seconds) / interval_seconds) - 1
        last = math.floor((segment.end_seconds - offset_seconds) / interval_seconds) + 1
        for k in range(max(first, 0), min(last + 1, num_intervals)):
            touching[k].append(segment)
    borders = [offset_seconds + k * interval_seconds for k in range(num_intervals + 1)]
    return [
        interval_label(touching[k], borders[k], borders[k + 1]) if k in touching else BACKGROUND
        for k in range(num_intervals)
    ]


def interval_label(segments: Iterable[Segment], start_seconds: float, end_seconds: float) -> str:
    """Choose the one label that a softmax head is to learn for [start, end).

    The label that covers at least half of the interval, and most of it. On a tie the one whose instance
    (its shortest that reaches into the interval) is shortest, then the first by name. None: `BACKGROUND`.

    >>> walk = Segment(label="walk", start_seconds=0.0, end_seconds=9.0)
    >>> wave = Segment(label="wave", start_seconds=1.0, end_seconds=2.0)
    >>> interval_label([walk, wave], 1.0, 2.0)
    'wave'
    """
    inside = [s for s in segments if s.start_seconds < end_seconds and s.end_seconds > start_seconds]
    coverage = interval_coverage(inside, start_seconds, end_seconds)
    most = max(coverage.values(), default=0.0)
    if most < (end_seconds - start_seconds) / 2 - _TOLERANCE_SECONDS:
        return BACKGROUND
    tied = {label for label, seconds in coverage.items() if seconds >= most - _TOLERANCE_SECONDS}
    lengths = _shortest_instances(segment for segment in inside if segment.label in tied)
    shortest = min(lengths.values())
    return min(label for label, seconds in lengths.items() if seconds <= shortest + _TOLERANCE_SECONDS)


def interval_coverage(
    segments: Iterable[Segment], start_seconds: float, end_seconds: float
) -> Mapping[str, float]:
    """Seconds of [start, end) that the union of each label's segments covers, for labels with any."""
    parts: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for segment in segments:
        start = max(segment.start_seconds, start_seconds)
        end = min(segment.end_seconds, end_seconds)
        if start < end:
            parts[segment.label].append((start, end))
    return {label: _union_length(spans) for label, spans in parts.items()}


def _union_length(spans: Sequence[tuple[float, float]]) -> float:
    total = 0.0
    reached = -math.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _shortest_instances(segments: Iterable[Segment]) -> dict[str, float]:
    lengths: dict[str, float] = {}
    for segment in segments:
        length = segment.end_seconds - segment.start_seconds
        lengths[segment.label] = min(length, lengths.get(segment.label, math.inf))
    return lengths
