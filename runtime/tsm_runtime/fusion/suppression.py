"""Alternatives to the paper's merging: non-maximum suppression, soft-NMS, weighted boxes fusion.

All take candidates of one class in one video, sorted by (start, end), with bounds in whole microseconds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tsm_runtime.evaluation.segment_table import pairwise_tiou
from tsm_runtime.fusion.candidates import Denominator

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]


def suppress(start: _Floats, end: _Floats, score: _Floats, iou: float) -> _Ints:
    """Return the rows that non-maximum suppression keeps; a kept row drops rows whose tIoU exceeds `iou`."""
    waiting = np.lexsort((end, start, -score))
    kept = []
    while len(waiting):
        best, waiting = waiting[:1], waiting[1:]
        kept.append(best)
        waiting = waiting[pairwise_tiou(start[best], end[best], start[waiting], end[waiting]) <= iou]
    return np.concatenate(kept)


def soft_suppress(
    start: _Floats, end: _Floats, score: _Floats, decay: Callable[[_Floats], _Floats], min_score: float
) -> _Floats:
    """Return the scores after soft-NMS (Bodla et al. 2017).

    Args:
        start: (K,).
        end: (K,).
        score: (K,).
        decay: maps tIoUs with the segment just kept to factors.
        min_score: the loop ends when the best remaining score is below it.

    Returns:
        (K,) scores; scores below the minimum may not be fully decayed.
    """
    score = score.copy()
    waiting = np.arange(len(score))
    while len(waiting):
        position = int(np.argmax(score[waiting]))  # the first of equal ones, by (start, end)
        best = waiting[position : position + 1]
        if score[best[0]] < min_score:
            break
        waiting = np.delete(waiting, position)
        score[waiting] *= decay(pairwise_tiou(start[best], end[best], start[waiting], end[waiting]))
    return score


def decay_linear(tiou: _Floats, iou: float) -> _Floats:
    """Return 1 - tIoU where tIoU exceeds the threshold, else 1."""
    return np.where(tiou > iou, 1 - tiou, 1.0)


def decay_gaussian(tiou: _Floats, sigma: float) -> _Floats:
    """Return exp(-tIoU^2 / sigma)."""
    return np.asarray(np.exp(-(tiou**2) / sigma), dtype=np.float64)


def weighted_boxes(
    start: _Floats,
    end: _Floats,
    confidence: _Floats,
    has_video: _Bools,
    weights: _Floats,
    iou: float,
    denominator: Denominator,
) -> tuple[_Floats, _Floats, _Floats]:
    """Return start, end and confidence of the clusters of weighted boxes fusion (Solovyev et al. 2021).

    Args:
        start: (K,).
        end: (K,).
        confidence: (K, M), nan where a member does not have the candidate.
        has_video: (M,) whether a member has the video.
        weights: (M,).
        iou: tIoU with a cluster's fused span that a segment must exceed to join it.
        denominator: "all": as in the source; "present": the cluster's own weighted mean.
    """
    row, member = np.nonzero(~np.isnan(confidence))
    weight = weights[member]
    mass = confidence[row, member] * weight
    order = np.lexsort((weight, end[row], start[row], -mass))
    clusters: list[_Cluster] = []
    for i in order.tolist():
        box = (float(start[row[i]]), float(end[row[i]]), float(mass[i]), float(weight[i]))
        overlaps = [cluster.tiou(box[0], box[1]) for cluster in clusters]
        best = max(overlaps, default=0.0)
        if best > iou:
            clusters[overlaps.index(best)].add(*box)
        else:
            clusters.append(_Cluster(*box))
    num_members, total = int(has_video.sum()), float(np.sort(weights[has_video]).sum())
    scores = [
        cluster.mass / cluster.weight
        if denominator == "present"
        else cluster.mass * min(1.0, num_members / cluster.count) / total
        for cluster in clusters
    ]
    starts = np.round([cluster.start for cluster in clusters])
    ends = np.maximum(np.round([cluster.end for cluster in clusters]), starts + 1)
    return starts, ends, np.round(scores, 9)


class _Cluster:
    """Segments that become one; `start` and `end` are the fused bounds, `mass` the sum of w_i c_i."""

    def __init__(self, start: float, end: float, mass: float, weight: float) -> None:
        self.start, self.end = start, end
        self.mass, self.weight, self.count = mass, weight, 1

    def add(self, start: float, end: float, mass: float, weight: float) -> None:
        self.mass += mass
        self.weight += weight
        self.count += 1
        share = mass / self.mass if self.mass else 0.0  # if all scores are 0, the first bounds stay
        self.start += share * (start - self.start)
        self.end += share * (end - self.end)

    def tiou(self, start: float, end: float) -> float:
        overlap = max(0.0, min(self.end, end) - max(self.start, start))
        # Rounded: fused bounds are not whole, and their last digit must not decide between clusters.
        return round(overlap / (self.end - self.start + end - start - overlap), 9)
