"""Scores and features of a video before a person has labelled it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Scores of one video's intervals by one or several models.

    Args:
        video_id: its id.
        views: of each model (or of the mirrored pictures of one) an (K, A) array of probabilities.
        starts: (K,) seconds at which the intervals begin; `cell_seconds` is their length.
        labels: of the A columns.
        features: (K, F) of the intervals, or None.
        is_labelled: whether a person labelled it: then it is not suggested, and what it shows is known.
    """

    video_id: str
    views: Sequence[Scores]
    starts: npt.NDArray[np.float64]
    cell_seconds: float
    labels: tuple[str, ...]
    features: npt.NDArray[np.float32] | None = None
    is_labelled: bool = False

    def __post_init__(self) -> None:
        shape = (len(self.starts), len(self.labels))
        for view in self.views:
            if view.shape != shape:
                raise ValueError(f"{self.video_id}: scores of shape {view.shape}, expected {shape}")

    @property
    def mean(self) -> Scores:
        """(K, A), the mean of the views."""
        mean: Scores = np.mean(np.stack(self.views), axis=0)
        return mean

    @property
    def duration_seconds(self) -> float:
        """From the beginning to the end of the last interval."""
        return float(self.starts[-1] + self.cell_seconds) if len(self.starts) else 0.0


def entropy(scores: Scores) -> npt.NDArray[np.float64]:
    """(K,) entropy of each row over its largest possible value, so from 0 to 1.

    Rows of a sigmoid head do not sum to 1; then it is the mean of the entropies of the classes.
    """
    p = np.clip(scores.astype(np.float64), 1e-12, 1.0)
    if np.allclose(p.sum(1), 1, atol=1e-3):
        return np.asarray(-(p * np.log(p)).sum(1) / np.log(max(2, p.shape[1])))
    q = np.clip(1 - p, 1e-12, 1.0)
    return np.asarray(-(p * np.log2(p) + q * np.log2(q)).mean(1))


def margin_doubt(scores: Scores) -> npt.NDArray[np.float64]:
    """(K,) 1 - (best - second best): 1 where two classes are equally likely."""
    if scores.shape[1] < 2:
        return np.asarray(1 - np.abs(2 * scores[:, 0].astype(np.float64) - 1))
    top = np.sort(scores.astype(np.float64), axis=1)[:, -2:]
    return np.asarray(1 - (top[:, 1] - top[:, 0]))


def disagreement(views: Sequence[Scores]) -> npt.NDArray[np.float64]:
    """(K,) Jensen-Shannon divergence of the views in bits, 0 for a single one (Lin 1991, equation 4.1)."""
    if len(views) < 2:
        return np.zeros(len(views[0]))
    p = np.clip(np.stack(views).astype(np.float64), 1e-12, 1.0)
    p /= p.sum(2, keepdims=True)
    mean = p.mean(0)
    shannon = -(mean * np.log2(mean)).sum(1) + (p * np.log2(p)).sum(2).mean(0)
    return np.asarray(np.maximum(0.0, shannon))
