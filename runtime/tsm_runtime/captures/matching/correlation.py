"""Lag and speed of the best agreement of the features of two recordings, and its strength."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.captures.matching.features import RATE, Features

Array = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

MIN_OVERLAP_SECONDS = 3.0
"""Shorter overlaps are not compared."""

_OTHER_PEAK_SECONDS = 0.3
"""Peaks nearer than this are the same one."""

_MAX_SPEED = 0.0015
_SPEEDS = np.linspace(-_MAX_SPEED, _MAX_SPEED, 13)
_USUAL_SPEED = 0.0005
"""Standard deviation of the speeds that are expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Best agreement: time of the reference = offset_seconds + (1 + drift) * time of the video.

    Args:
        offset_seconds: where second 0 of the video lies on the reference's time line.
        drift: by how much the reference's clock runs faster than the video's.
        strength: height in standard deviations of what unrelated recordings give.
        second: strength of the next best lag.
        overlap_seconds: length of the compared part.
    """

    offset_seconds: float
    drift: float
    strength: float
    second: float
    overlap_seconds: float

    @property
    def prominence(self) -> float:
        """By how much the best lag stands out; recordings that repeat themselves have none."""
        return self.strength - self.second


class Correlator:
    """Locates videos in one reference, whose Fourier transforms are cached.

    Args:
        reference: one or several kinds of features of the same recording; their strengths are combined.
        longest: rows of the longest video that will be looked for.
    """

    def __init__(self, reference: Sequence[Features], longest: int) -> None:
        self._reference = reference
        num_rows = len(reference[0].rows)
        self._num_rows = num_rows
        self._size = 1 << (num_rows + int(longest * (1 + _MAX_SPEED)) + 1).bit_length()
        self._spectra = [_Spectra.of(features, self._size) for features in reference]

    def peak(self, video: Sequence[Features]) -> Peak | None:
        """Return where a video fits best, over all lags and speeds within 0.15 %.

        Args:
            video: the same kinds of features as of the reference.

        Returns:
            The peak; None where the two have less than `MIN_OVERLAP_SECONDS` to compare.
        """
        if min(each.active_seconds for each in (*self._reference, *video)) < MIN_OVERLAP_SECONDS:
            return None
        curves = [self._curve(video, float(speed)) for speed in _SPEEDS]
        # Prefer the likely speed if the recordings do not determine it.
        likely = (
            np.array([curve.heights.max() for curve in curves]) ** 2 / 2 - (_SPEEDS / _USUAL_SPEED) ** 2 / 2
        )
        best = int(np.argmax(likely))
        curve = curves[best]
        top = int(np.argmax(curve.heights))
        if curve.heights[top] <= 0:
            return None
        return Peak(
            offset_seconds=float(curve.lags[top] + _vertex(curve.heights, top)) / RATE,
            drift=float(_SPEEDS[best]) + _vertex(likely, best) * float(_SPEEDS[1] - _SPEEDS[0]),
            strength=float(curve.heights[top]),
            second=max(each.best_away_from(int(curve.lags[top])) for each in curves),
            overlap_seconds=float(curve.overlaps[top]) / RATE,
        )

    def _curve(self, video: Sequence[Features], speed: float) -> _Curve:
        curves = [
            _strengths(spectra, at_speed(features, speed), self._num_rows)
            for spectra, features in zip(self._spectra, video, strict=True)
        ]
        heights = sum(curve.heights for curve in curves) / np.sqrt(len(curves))
        return _Curve(curves[0].lags, np.asarray(heights), curves[0].overlaps)


@dataclass(frozen=True, slots=True)
class _Curve:
    """Strength over lags, in rows; and how many rows are compared at each."""

    lags: npt.NDArray[np.int64]
    heights: Doubles
    overlaps: Doubles

    def best_away_from(self, lag: int) -> float:
        away = np.abs(self.lags - lag) > _OTHER_PEAK_SECONDS * RATE
        return float(self.heights[away].max(initial=0.0))


@dataclass(frozen=True, slots=True)
class _Spectra:
    """Fourier transforms of features: of the rows by band, of their energy, and of where they are active."""

    rows: npt.NDArray[np.complex64]
    energy: npt.NDArray[np.complex64]
    active: npt.NDArray[np.complex64]
    size: int

    @classmethod
    def of(cls, features: Features, size: int) -> _Spectra:
        energy = (features.rows**2).sum(axis=1)
        return cls(
            np.fft.rfft(features.rows, size, axis=0).astype(np.complex64),
            np.fft.rfft(energy, size).astype(np.complex64),
            np.fft.rfft(features.active, size).astype(np.complex64),
            size,
        )


def at_speed(video: Features, speed: float) -> Features:
    """Stretch a video's features to the reference's clock."""
    if speed == 0:
        return video
    places = np.arange(int(len(video.rows) * (1 + speed))) / (1 + speed)
    below = np.minimum(places.astype(np.int64), len(video.rows) - 1)
    above = np.minimum(below + 1, len(video.rows) - 1)
    share = (places - below).astype(np.float32)[:, None]
    rows = video.rows[below] * (1 - share) + video.rows[above] * share
    return Features(rows=rows, active=video.active[below])


def _strengths(reference: _Spectra, video: Features, num_rows: int) -> _Curve:
    """Return the strength at each lag of a video whose speed is the reference's."""
    spectra = _Spectra.of(video, reference.size)
    lags = np.arange(1 - len(video.rows), num_rows)

    def at_lags(product: npt.NDArray[np.complexfloating]) -> Doubles:
        return np.asarray(np.fft.irfft(product, reference.size)[lags % reference.size], np.float64)

    together = at_lags((reference.rows * spectra.rows.conj()).sum(axis=1))
    of_reference = at_lags(reference.energy * spectra.active.conj())
    of_video = at_lags(reference.active * spectra.energy.conj())
    overlaps = at_lags(reference.active * spectra.active.conj())
    enough = overlaps >= MIN_OVERLAP_SECONDS * RATE
    energy = np.sqrt(np.maximum(of_reference * of_video, 1e-6))
    # Under chance a coefficient of correlation spreads as 1 / sqrt(length).
    scaled = np.where(enough, together / energy * np.sqrt(np.maximum(overlaps, 1.0)), 0.0)
    return _Curve(lags, scaled / _spread(scaled[enough], video.rows.shape[1]), overlaps)


def _spread(scaled: Doubles, num_bands: int) -> float:
    """Standard deviation by the median, not below that of bands which know nothing of each other."""
    by_median = float(np.median(np.abs(scaled))) / 0.6745 if len(scaled) else 0.0
    return max(by_median, 1 / float(np.sqrt(num_bands)))


def _vertex(values: Doubles, top: int) -> float:
    """Place of a parabola's top through three neighbours, in steps from `top`."""
    if not 0 < top < len(values) - 1:
        return 0.0
    left, middle, right = (float(value) for value in values[top - 1 : top + 2])
    bend = left - 2 * middle + right
    return 0.0 if bend >= 0 else 0.5 * (left - right) / bend
