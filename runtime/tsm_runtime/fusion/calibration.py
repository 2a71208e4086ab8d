"""Calibration of a member's confidences by temperature.

A score p is treated as a probability, so the temperature acts on its logit: sigmoid(log(p / (1 - p)) / T),
the two-class case of Guo, Pleiss, Sun, Weinberger 2017 (arXiv 1706.04599). T > 1 corrects an over-confident
member, T < 1 an under-confident one; the order of a member's segments does not change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tsm_runtime.errors import UsageError
from tsm_runtime.results import Result, Segment
from tsm_runtime.segments.temperature import at_temperature

TEMPERATURES = (0.1, 10.0)
"""Search range of the temperature."""

_MARGIN = 1e-6  # scores of exactly 0 and 1 have no logit; files hold six decimals anyway
_BINS = 10
_GOLDEN = (math.sqrt(5) - 1) / 2
_STEPS = 48  # of golden section: the interval shrinks to a 10^-10 of its width

_Floats = npt.NDArray[np.float64]
_Bools = npt.NDArray[np.bool_]


def calibrated(score: _Floats, temperature: float) -> _Floats:
    """Return calibrated scores (any shape, 0 to 1, nan stays), rounded to six decimals as in files."""
    if temperature == 1:
        return score
    return np.asarray(np.round(at_temperature(score, temperature, _MARGIN), 6), dtype=np.float64)


def calibrate_segments(
    segments: Mapping[str, Sequence[Segment]], temperature: float
) -> dict[str, list[Segment]]:
    """Return the segments per video with calibrated scores.

    Raises:
        UsageError: a score is not in 0 to 1.
    """
    calibrated_segments = {}
    for video_id, found in segments.items():
        scores = np.array([segment.score for segment in found], dtype=np.float64)
        if np.any((scores < 0) | (scores > 1)):
            raise UsageError(
                f"video {video_id!r}: score {scores[(scores < 0) | (scores > 1)][0]:g} is no probability;"
                " a temperature takes scores from 0 to 1"
            )
        new = calibrated(scores, temperature).tolist()
        calibrated_segments[video_id] = [
            replace(segment, score=score) for segment, score in zip(found, new, strict=True)
        ]
    return calibrated_segments


def calibrated_result(result: Result, temperature: float) -> Result:
    """Return a result with calibrated segment scores."""
    if temperature == 1:
        return result
    # Scores are rounded first, as in files, so that fusing in memory and fusing files give the same result.
    held = [replace(segment, score=round(segment.score, 6)) for segment in result.segments]
    calibrated_segments = calibrate_segments({result.video_id: held}, temperature)
    return replace(result, segments=tuple(calibrated_segments[result.video_id]))


def negative_log_likelihood(score: _Floats, hit: _Bools, temperature: float) -> float:
    """Return the mean negative log likelihood of (P,) detections being hits or not, at a temperature."""
    clipped = np.clip(score, _MARGIN, 1 - _MARGIN)
    logits = np.log(clipped / (1 - clipped)) / temperature
    return float(np.logaddexp(0.0, np.where(hit, -logits, logits)).mean())


def fit_temperature(score: _Floats, hit: _Bools) -> float:
    """Return the temperature that minimises the negative log likelihood of detections being true positives.

    The likelihood is convex in 1 / T, so golden-section search finds the only minimum within `TEMPERATURES`.

    Args:
        score: (P,) from 0 to 1.
        hit: (P,) whether a detection is a true positive.

    Returns:
        The temperature, rounded to four decimals; 1 without detections.
    """
    if not len(score):
        return 1.0
    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    for _ in range(_STEPS):
        width = _GOLDEN * (high - low)
        first, second = high - width, low + width
        if negative_log_likelihood(score, hit, 1 / first) <= negative_log_likelihood(score, hit, 1 / second):
            high = second
        else:
            low = first
    return round(2 / (low + high), 4)


def calibration_error(score: _Floats, hit: _Bools) -> float:
    """Return the expected calibration error over ten bins of equal width (arXiv 1706.04599, 2).

    Args:
        score: (P,) from 0 to 1.
        hit: (P,) whether a detection is a true positive.

    Returns:
        The mean over detections of the distance between the mean score and the share of hits of their bin; 0
        without detections.
    """
    if not len(score):
        return 0.0
    bins = np.minimum((score * _BINS).astype(np.int64), _BINS - 1)
    difference = np.bincount(bins, score - hit, _BINS)
    return float(np.abs(difference).sum() / len(score))
