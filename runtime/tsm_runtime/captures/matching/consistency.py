"""Consistency check: recordings must agree over their whole overlap, not only at one common event."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tsm_runtime.captures.matching.correlation import Peak, at_speed
from tsm_runtime.captures.matching.features import RATE, Features

Array = npt.NDArray[np.float32]

_LEFT_OUT = 0.2
"""Share of the seconds, those that agree best, that do not count; two at least."""

_APART_SECONDS = 0.7
_NUM_SHIFTS = 60


def agreement(reference: Sequence[Features], video: Sequence[Features], peak: Peak) -> float:
    """Return how well most seconds agree, in standard deviations of what shifted recordings give.

    The seconds that agree best are left out: a door that slams, or a cut from one scene to the next, is in
    many recordings.

    Args:
        reference: features, see `Correlator`.
        video: the same kinds of features.
        peak: where the video lies.
    """
    scores = [
        _agreement(one, at_speed(other, peak.drift), round(peak.offset_seconds * RATE))
        for one, other in zip(reference, video, strict=True)
    ]
    return float(sum(scores) / np.sqrt(len(scores)))


def _agreement(reference: Features, video: Features, lag: int) -> float:
    begin, end = max(0, lag), min(len(reference.rows), lag + len(video.rows))
    ours = reference.rows[begin:end] * reference.active[begin:end, None]
    theirs = video.rows[begin - lag : end - lag] * video.active[begin - lag : end - lag, None]
    step = round(_APART_SECONDS * RATE)
    shifts = range(step, len(ours) - step, max(step, (len(ours) - 2 * step) // _NUM_SHIFTS))
    by_chance = np.array([_trimmed(ours, np.roll(theirs, shift, axis=0)) for shift in shifts])
    if len(by_chance) < 3:
        return 0.0
    return (_trimmed(ours, theirs) - float(by_chance.mean())) / (float(by_chance.std()) + 1e-6)


def _trimmed(ours: Array, theirs: Array) -> float:
    """Mean coefficient of correlation over seconds, the best left out."""
    begins = np.arange(0, len(ours) - RATE // 2, RATE)
    together = np.add.reduceat((ours * theirs).sum(axis=1), begins)
    energy = np.sqrt(
        np.add.reduceat((ours**2).sum(axis=1), begins) * np.add.reduceat((theirs**2).sum(axis=1), begins)
    )
    each = np.sort(together[energy > 0] / energy[energy > 0])
    left_out = max(2, round(_LEFT_OUT * len(each)))
    return float(each[:-left_out].mean()) if len(each) > left_out else 0.0
