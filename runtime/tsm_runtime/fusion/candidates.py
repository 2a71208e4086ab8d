"""Candidates of an ensemble as a table, their weighted confidence, and the paper's merging (section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tsm_runtime.results import Segment

Denominator = Literal["all", "present"]
"""Members that sum(w_i) covers: all that have the video (a segment that one of them misses loses confidence),
or only those that found this segment."""

MICROSECONDS = 1e6
"""Microseconds per second. Bounds are whole microseconds, so keys compare exactly and tIoU is a quotient of
integers."""

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Distinct candidates, sorted by (group, start, end); a group is one class in one video.

    Args:
        group: (K,).
        start, end: (K,) whole microseconds.
        confidence: (K, M) score of each member, nan where it does not have the candidate.
        has_video: (K, M) whether the member has the candidate's video.
    """

    group: _Ints
    start: _Floats
    end: _Floats
    confidence: _Floats
    has_video: _Bools

    def take(self, rows: _Bools | slice) -> Candidates:
        """Return the selected rows."""
        return Candidates(
            self.group[rows], self.start[rows], self.end[rows], self.confidence[rows], self.has_video[rows]
        )


@dataclass(frozen=True, slots=True)
class Fused:
    """Fused segments as columns, each (F,), in no particular order; start and end in whole microseconds."""

    group: _Ints
    start: _Floats
    end: _Floats
    score: _Floats


def gather_candidates(
    members: Sequence[Mapping[str, Sequence[Segment]]],
) -> tuple[list[tuple[str, str]], Candidates]:
    """Key the segments of M members by (video, label, start, end); see `fuse_segments` for duplicates.

    Returns:
        (video id, label) of each group, sorted, and the table.
    """
    found: dict[tuple[str, str, int, int], list[float]] = {}
    for member, videos in enumerate(members):
        for video_id, segments in videos.items():
            for segment in segments:
                start, end = _microseconds(segment.start_seconds), _microseconds(segment.end_seconds)
                if start == end:
                    continue
                scores = found.setdefault((video_id, segment.label, start, end), [math.nan] * len(members))
                score = round(segment.score, 6)
                if not scores[member] >= score:  # also where it is nan
                    scores[member] = score
    keys = sorted(found)
    labels = list(dict.fromkeys((video_id, label) for video_id, label, _, _ in keys))
    numbers = {pair: number for number, pair in enumerate(labels)}
    group = np.array([numbers[video_id, label] for video_id, label, _, _ in keys], dtype=np.int64)
    has_video = np.array(
        [[video_id in videos for videos in members] for video_id, _ in labels], dtype=np.bool_
    )
    return labels, Candidates(
        group=group,
        start=np.array([start for _, _, start, _ in keys], dtype=np.float64),
        end=np.array([end for _, _, _, end in keys], dtype=np.float64),
        confidence=np.array([found[key] for key in keys], dtype=np.float64).reshape(len(keys), len(members)),
        has_video=has_video.reshape(len(labels), len(members))[group],
    )


def _microseconds(seconds: float) -> int:
    # Scores are rounded as in files first, so that memory and files agree even where rounding is ambiguous.
    return round(round(seconds, 6) * MICROSECONDS)


def weighted_confidence(candidates: Candidates, weights: _Floats, denominator: Denominator) -> _Floats:
    """Return the weighted mean sum(w_i c_i) / sum(w_i) of K candidates over M members (paper, 3.3).

    Args:
        candidates: K rows.
        weights: (M,), all above 0.
        denominator: see `Denominator`.

    Returns:
        (K,), rounded to nine decimals, so that members that agree on 0.3 give 0.3 with any weights.
    """
    found = ~np.isnan(candidates.confidence)
    voters = candidates.has_video if denominator == "all" else found
    sums = _sorted_sum(np.where(found, candidates.confidence * weights, 0.0))
    return np.asarray(np.round(sums / _sorted_sum(np.where(voters, weights, 0.0)), 9), dtype=np.float64)


def _sorted_sum(terms: _Floats) -> _Floats:
    """Return the sum of each row; the order of its terms and zeros among them do not change it."""
    total = np.zeros(len(terms))
    for column in np.sort(terms, axis=1).T:
        total += column
    return total


def chain_overlapping(candidates: Candidates) -> tuple[_Ints, _Ints]:
    """Return the first row and the length of each run of candidates of one group that overlap in a chain."""
    first: list[int] = []
    group, reached = -1, -math.inf
    columns = (candidates.group.tolist(), candidates.start.tolist(), candidates.end.tolist())
    for row, (number, start, end) in enumerate(zip(*columns, strict=True)):
        if number != group or start >= reached:
            first.append(row)
            group, reached = number, end
        else:
            reached = max(reached, end)
    starts = np.array(first, dtype=np.int64)
    return starts, np.diff(starts, append=len(candidates.start))


# --- the paper's merging --------------------------------------------------------------------------


def merge_clusters(candidates: Candidates, iou: float) -> _Ints:
    """Cluster the candidates that become one segment by repeated union; scores are not used.

    One pass visits the spans of a group in order of (start, end). A span joins the first earlier span whose
    tIoU with it exceeds `iou`, and that span grows to the union; otherwise the span stays unchanged. Passes
    repeat, each in order of (start, end), until one changes nothing; then no pair exceeds `iou`.

    Returns:
        (K,) cluster numbers, consecutive from 0.
    """
    cluster = np.empty(len(candidates.start), dtype=np.int64)
    number = 0
    first, size = chain_overlapping(candidates)
    starts, ends = candidates.start.tolist(), candidates.end.tolist()
    for begin, count in zip(first.tolist(), size.tolist(), strict=True):
        if count == 1:
            cluster[begin] = number
            number += 1
            continue
        spans = {(starts[row], ends[row]): [row] for row in range(begin, begin + count)}
        for rows in _merged(spans, iou):
            cluster[rows] = number
            number += 1
    return cluster


_Span = tuple[float, float]


def _merged(spans: dict[_Span, list[int]], iou: float) -> Iterable[list[int]]:
    while True:
        merged = _merge_pass(spans, iou)
        if len(merged) == len(spans):
            return merged.values()
        spans = merged


def _merge_pass(spans: Mapping[_Span, list[int]], iou: float) -> dict[_Span, list[int]]:
    kept: list[tuple[float, float, list[int]]] = []
    open_: list[int] = []  # numbers of kept spans that a later one can still join
    for start, end in sorted(spans):
        open_ = [k for k in open_ if (kept[k][1] - start) / (kept[k][1] - kept[k][0]) > iou]
        for k in open_:
            kept_start, kept_end, rows = kept[k]
            overlap = min(kept_end, end) - start
            if overlap / (max(kept_end, end) - kept_start) > iou:
                kept[k] = (kept_start, max(kept_end, end), rows + spans[start, end])
                break
        else:
            open_.append(len(kept))
            kept.append((start, end, spans[start, end]))
    merged: dict[_Span, list[int]] = {}
    for start, end, rows in kept:  # spans that have become equal have tIoU 1
        merged[start, end] = merged.get((start, end), []) + rows
    return merged


def unite(candidates: Candidates, score: _Floats, cluster: _Ints) -> Fused:
    """Return the union of each cluster's spans, with the maximum confidence.

    Args:
        candidates: K rows.
        score: (K,).
        cluster: (K,) from `merge_clusters`.
    """
    order = np.argsort(cluster, kind="stable")
    first = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    if not len(first):
        return Fused(candidates.group, candidates.start, candidates.end, score)
    return Fused(
        group=candidates.group[order][first],
        start=np.minimum.reduceat(candidates.start[order], first),
        end=np.maximum.reduceat(candidates.end[order], first),
        score=np.maximum.reduceat(score[order], first),
    )
