"""Segments proposed by single frames, and the soft non-maximum suppression that thins them out.

Each frame with a score p of a label and distances d0, d1 proposes [m - d0, m + d1] around its middle m with
the score p * sqrt(centreness), where centreness = sqrt(min(d0, d1) / max(d0, d1)) (FCOS, Tian et al. 2019,
section 3.2; ActionFormer, Zhang et al. 2022). Soft-NMS (Bodla et al. 2017, arXiv 1704.04503) visits the
proposals of a label by falling score and multiplies the scores of the others by exp(-tIoU^2 / sigma). The
bounds of a chosen proposal are the means, weighted by their first scores, of those that overlap it by a tIoU
above 0.75.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_VOTING_IOU = 0.75
_LEAST_CENTRENESS = 0.05
_MOST_AT_ONCE = 1024
"""Largest number of proposals compared with one another; longer chains are divided, to bound the time."""


def frame_proposals(
    scores: npt.NDArray[np.float32],
    distances: npt.NDArray[np.float32],
    middles: Floats,
    least: float,
    piece_seconds: tuple[float, float],
) -> tuple[Floats, Floats, Floats]:
    """Return starts, ends and scores of the proposals of one label, in order of time.

    Args:
        scores: (F,) probabilities of the label.
        distances: (F, 2) in seconds.
        middles: (F,) in seconds.
        least: frames with a lower score propose nothing.
        piece_seconds: start and end of the piece without gaps, which no proposal leaves.
    """
    rows = np.flatnonzero(scores >= least)
    back, forward = distances[rows, 0].astype(np.float64), distances[rows, 1].astype(np.float64)
    starts = np.clip(middles[rows] - back, *piece_seconds)
    ends = np.clip(middles[rows] + forward, *piece_seconds)
    centreness = np.sqrt(np.minimum(back, forward) / np.maximum(np.maximum(back, forward), 1e-6))
    weighted = scores[rows] * np.sqrt(np.clip(centreness, _LEAST_CENTRENESS, 1.0))
    valid = ends > starts
    return starts[valid], ends[valid], weighted[valid].astype(np.float64)


def soft_suppressed(
    proposals: Sequence[tuple[Floats, Floats, Floats]], sigma: float, least: float
) -> list[tuple[int, float, float, float]]:
    """Return (label, start, end, score) of the proposals that remain, in no order.

    Args:
        proposals: starts (N,), ends (N,) in seconds and scores (N,), for each label.
        sigma: width of the Gaussian.
        least: proposals whose score falls below it are dropped.
    """
    labels = np.repeat(np.arange(len(proposals)), [len(starts) for starts, _, _ in proposals])
    if not len(labels):
        return []
    starts, ends, scores = (np.concatenate(column) for column in zip(*proposals, strict=True))
    order = np.lexsort((starts, labels))
    starts, ends, scores = starts[order], ends[order], scores[order]
    borders = _chain_borders(labels, starts, ends)
    found: list[tuple[int, float, float, float]] = []
    for rows in _batches(borders):
        held = rows >= 0
        for chain, start, end, score in _suppress_chains(
            starts[rows], ends[rows], np.where(held, scores[rows], 0.0), sigma, least
        ):
            found += zip(
                labels[rows[chain, 0]].tolist(), start.tolist(), end.tolist(), score.tolist(), strict=True
            )
    return found


def _chain_borders(labels: Ints, starts: Floats, ends: Floats) -> Ints:
    """Return the borders of the chains: runs of proposals of one label of which each overlaps an earlier one.

    Args:
        labels: (N,) numbers, increasing.
        starts: (N,) in seconds, increasing within a label.
        ends: (N,) in seconds.
    """
    # With the labels one after another on a line a single pass finds where nothing reaches on.
    length = ends.max() + 1.0
    reached = np.maximum.accumulate(ends + labels * length)
    cuts = np.flatnonzero((starts + labels * length)[1:] >= reached[:-1]) + 1
    borders = np.concatenate([[0], cuts, [len(starts)]])
    parts = [np.arange(a, b, _MOST_AT_ONCE) for a, b in pairwise(borders.tolist()) if b - a > _MOST_AT_ONCE]
    return np.unique(np.concatenate([borders, *parts]))


def _batches(borders: Ints) -> Iterator[Ints]:
    """Yield the rows (C, N) of chains of similar length, -1 where a chain is shorter than N."""
    lengths = np.diff(borders)
    sizes = 2 ** np.ceil(np.log2(lengths)).astype(np.int64)
    for size in np.unique(sizes).tolist():
        chains = np.flatnonzero(sizes == size)
        at_once = max(1, _MOST_AT_ONCE**2 // size)
        for begin in range(0, len(chains), at_once):
            own = chains[begin : begin + at_once]
            places = np.arange(size)
            yield np.where(places < lengths[own, None], borders[own, None] + places, -1)


def _suppress_chains(
    starts: Floats, ends: Floats, scores: Floats, sigma: float, least: float
) -> Iterator[tuple[Ints, Floats, Floats, Floats]]:
    """Yield chains, starts, ends and scores of what remains of C chains, the best of each chain at a time.

    Args:
        starts: (C, N) in seconds, of N proposals in each chain.
        ends: (C, N) in seconds.
        scores: (C, N) confidences; 0 where a chain is shorter than N.
        sigma: see `soft_suppressed`.
        least: see `soft_suppressed`.
    """
    left, chains = scores.copy(), np.arange(len(scores))
    while len(chains):
        rows, best = np.arange(len(chains)), left.argmax(axis=1)
        score = left[rows, best]
        if not (going_on := score >= least).all():
            starts, ends, scores, left = (part[going_on] for part in (starts, ends, scores, left))
            chains, best, score = chains[going_on], best[going_on], score[going_on]
            rows = rows[: len(chains)]
        start, end = starts[rows, best, None], ends[rows, best, None]
        iou = np.maximum(np.minimum(ends, end) - np.maximum(starts, start), 0.0)
        iou /= np.maximum(ends, end) - np.minimum(starts, start)
        votes = (iou > _VOTING_IOU) * scores
        votes /= votes.sum(axis=1, keepdims=True)
        yield chains, (votes * starts).sum(axis=1), (votes * ends).sum(axis=1), np.minimum(1.0, score)
        left *= np.exp(-(iou**2) / sigma)
        left[rows, best] = -1.0
