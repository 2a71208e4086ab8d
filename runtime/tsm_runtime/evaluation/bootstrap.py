"""Confidence intervals of mAP by resampling videos.

Matching happens within a video, so it is not repeated: a replicate in which a video is drawn w times is the
set with w copies of that video, and its average precision follows from the hits of the whole set with weight
w. Copies of one prediction have equal scores and are adjacent, which is one valid order of equal scores; the
envelope takes the precision after the last of them. The result equals an evaluation of the copied set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.matching import Matching
from tsm_runtime.evaluation.segment_table import Floats, Ints

_BATCH = 128
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A percentile interval, 0 to 1."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapIntervals:
    """Percentile intervals over replicates of the videos.

    Args:
        replicates: number of replicates.
        seed: seed of the random numbers.
        confidence: share of the replicates inside an interval.
        average: interval of the mean over the thresholds.
        tiou: K intervals of mAP.
    """

    replicates: int
    seed: int
    confidence: float
    average: Interval
    tiou: tuple[Interval, ...]


def bootstrap_map(matching: Matching, *, replicates: int = 1000, seed: int = 0) -> BootstrapIntervals:
    """Return 95 % percentile intervals of mAP over replicates, which draw V of the V videos with replacement.

    The mean over classes covers those that have an instance in the replicate, as in the protocol.

    Raises:
        UsageError: fewer than two replicates, or fewer than two videos.
    """
    return _percentiles(_replicate_maps(matching, replicates, seed), seed)


def bootstrap_difference(
    matching: Matching, baseline: Matching, *, replicates: int = 1000, seed: int = 0
) -> BootstrapIntervals:
    """Return 95 % percentile intervals of the difference in mAP to a baseline on the same videos.

    Both are evaluated on the same replicates, so that the difficulty of a replicate cancels out.

    Raises:
        UsageError: as for `bootstrap_map`.
        ValueError: the matchings are of different videos, labels or thresholds.
    """
    if (matching.videos, matching.labels) != (baseline.videos, baseline.labels) or not np.array_equal(
        matching.thresholds, baseline.thresholds
    ):
        raise ValueError("a difference of mAP on different videos, labels or thresholds")
    ours, theirs = (_replicate_maps(each, replicates, seed) for each in (matching, baseline))
    return _percentiles(ours - theirs, seed)


def _replicate_maps(matching: Matching, replicates: int, seed: int) -> Floats:
    """Return the mAP of each replicate at each threshold, (replicates, K)."""
    if replicates < 2:
        raise UsageError(f"the bootstrap needs at least 2 replicates, got {replicates}")
    if len(matching.videos) < 2:
        raise UsageError("the bootstrap needs at least 2 videos")
    return np.concatenate(
        [map_of_replicates(matching, weight) for weight in _draw(len(matching.videos), replicates, seed)]
    )


def _percentiles(values: Floats, seed: int) -> BootstrapIntervals:
    tail = 50 * (1 - _CONFIDENCE)
    low, high = np.percentile(np.c_[values, values.mean(axis=1)], [tail, 100 - tail], axis=0)
    intervals = [Interval(low=a, high=b) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    return BootstrapIntervals(
        replicates=len(values),
        seed=seed,
        confidence=_CONFIDENCE,
        average=intervals[-1],
        tiou=tuple(intervals[:-1]),
    )


def _draw(num_videos: int, replicates: int, seed: int) -> Iterator[Ints]:
    """Yield how often each video is drawn, in blocks (V, up to _BATCH)."""
    random = np.random.default_rng(seed)
    for start in range(0, replicates, _BATCH):
        batch = min(_BATCH, replicates - start)
        drawn = random.integers(0, num_videos, size=(batch, num_videos))
        flat = np.bincount((drawn + num_videos * np.arange(batch)[:, np.newaxis]).ravel())
        counts = np.pad(flat, (0, batch * num_videos - len(flat))).reshape(batch, num_videos)
        yield np.ascontiguousarray(counts.T)


def map_of_replicates(matching: Matching, weight: Ints) -> Floats:
    """Return the mAP of B replicates at each threshold, (B, K); a replicate without instances has 0.

    Args:
        matching: the whole set.
        weight: (V, B) how often each video was drawn.
    """
    total = np.zeros((weight.shape[1], len(matching.thresholds)))
    classes = np.zeros(weight.shape[1])
    for label in range(len(matching.labels)):
        num_truth = _weighted_truth(matching, label, weight)
        total += _weighted_precision(matching, label, weight) / np.maximum(num_truth, 1)[:, np.newaxis]
        classes += num_truth > 0
    return np.asarray(total / np.maximum(classes, 1)[:, np.newaxis])


def _weighted_truth(matching: Matching, label: int, weight: Ints) -> Ints:
    """Return the number of instances of a class in each replicate, (B,).

    An instance of length zero whose video is unknown is in all replicates.
    """
    empty = matching.empty_video[matching.empty_label == label]
    count = weight[matching.truth.video[matching.truth.rows_of(label)]].sum(axis=0)
    return np.asarray(count + weight[empty[empty >= 0]].sum(axis=0) + np.sum(empty < 0))


def _weighted_precision(matching: Matching, label: int, weight: Ints) -> Floats:
    """Return the sum of the envelope over the hits of a class, (B, K)."""
    rows = matching.predictions.rows_of(label)
    hits = matching.hits[rows]
    found = np.zeros((weight.shape[1], hits.shape[1]))
    last = int(np.flatnonzero(hits.any(axis=1)).max(initial=-1)) + 1
    # Predictions after the last hit change nothing, and the envelope only uses the precision at hits.
    mine = weight[matching.predictions.video[rows][:last]]
    rank = np.cumsum(mine, axis=0)
    for k in range(hits.shape[1]):
        at = np.flatnonzero(hits[:last, k])
        weights = mine[at]
        precision = np.cumsum(weights, axis=0) / np.maximum(rank[at], 1)
        envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        found[:, k] = (envelope * weights).sum(axis=0)
    return found
