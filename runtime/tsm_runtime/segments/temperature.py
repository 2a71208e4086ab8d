"""Confidences at a temperature: sigmoid(logit(p) / T), the two-class case of arXiv 1706.04599."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tsm_runtime.results import Segment

Floats = npt.NDArray[np.float64]

_MARGIN = 1e-9
"""Keeps scores of exactly 0 and 1 finite, and those of float32 apart."""


def at_temperature(scores: Floats, temperature: float, margin: float = _MARGIN) -> Floats:
    """Return scores (any shape, 0 to 1, nan stays) at a temperature; none overtakes another.

    Args:
        scores: probabilities.
        temperature: above 1 brings them nearer to 0.5, below 1 farther away.
        margin: scores are clipped to [margin, 1 - margin].
    """
    clipped = np.clip(scores, margin, 1 - margin)
    logits = np.log(clipped / (1 - clipped)) / temperature
    return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float64)


def segment_at_temperature(segment: Segment, temperature: float) -> Segment:
    """Return a segment with its score at a temperature; as it is at 1."""
    if temperature == 1:
        return segment
    score = float(at_temperature(np.float64(segment.score), temperature))  # type: ignore[arg-type]
    return replace(segment, score=score)
