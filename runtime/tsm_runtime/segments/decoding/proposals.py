"""Segments proposed by single frames, and the soft non-maximum suppression that thins them out.

Each frame with a score p of a label and distances d0, d1 proposes [m - d0, m + d1] around its middle m with
the score p * sqrt(centreness), where centreness = sqrt(min(d0, d1) / max(d0, d1)) (FCOS, Tian et al. 2019,
section 3.2; ActionFormer, Zhang et al. 2022). Soft-NMS (Bodla et al. 2017, arXiv 1704.04503) visits the
proposals of a label by falling score and multiplies the scores of the others by exp(-tIoU^2 / sigma). The
bounds of a chosen proposal are the means, weighted by their first scores, of those that overlap it by a tIoU
above 0.75.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_VOTING_IOU = 0.75
_LEAST_CENTRENESS = 0.05
_MOST_AT_ONCE = 1024
"""Largest number of proposals compared with one another; a longer chain is halved."""


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
    starts: Floats, ends: Floats, scores: Floats, sigma: float, least: float
) -> list[tuple[float, float, float]]:
    """Return (start, end, score) of the proposals of one label that remain, in no order.

    Args:
        starts: (N,) in seconds.
        ends: (N,) in seconds.
        scores: (N,) confidences.
        sigma: width of the Gaussian.
        least: proposals whose score falls below it are dropped.
    """
    if not len(starts):
        return []
    order = np.argsort(starts, kind="stable")
    starts, ends, scores = starts[order], ends[order], scores[order]
    reached = np.maximum.accumulate(ends)
    cuts = np.flatnonzero(starts[1:] >= reached[:-1]) + 1  # proposals of different chains do not overlap
    borders = np.concatenate([[0], cuts, [len(starts)]])
    alone = borders[:-1][(np.diff(borders) == 1) & (scores[borders[:-1]] >= least)]
    found = list(zip(starts[alone].tolist(), ends[alone].tolist(), scores[alone].tolist(), strict=True))
    for first in np.flatnonzero(np.diff(borders) > 1).tolist():
        chain = slice(int(borders[first]), int(borders[first + 1]))
        found += _suppress_chain(starts[chain], ends[chain], scores[chain], sigma, least)
    return found


def _suppress_chain(
    starts: Floats, ends: Floats, scores: Floats, sigma: float, least: float
) -> list[tuple[float, float, float]]:
    if len(starts) > _MOST_AT_ONCE:  # bounds the memory of the matrix below
        half = len(starts) // 2
        parts = slice(None, half), slice(half, None)
        return [
            each
            for part in parts
            for each in _suppress_chain(starts[part], ends[part], scores[part], sigma, least)
        ]
    inter = np.minimum(ends[:, None], ends) - np.maximum(starts[:, None], starts)
    union = np.maximum(ends[:, None], ends) - np.minimum(starts[:, None], starts)
    iou = np.maximum(inter, 0.0) / union
    votes = (iou > _VOTING_IOU) * scores
    bounds = votes @ np.array([starts, ends]).T / votes.sum(axis=1, keepdims=True)
    decay = np.exp(-(iou**2) / sigma)
    found: list[tuple[float, float, float]] = []
    left = scores.copy()
    while (score := left[best := int(left.argmax())]) >= least:
        found.append((float(bounds[best, 0]), float(bounds[best, 1]), float(min(1.0, score))))
        left *= decay[best]
        left[best] = -1.0
    return found
