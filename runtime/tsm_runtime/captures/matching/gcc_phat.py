"""Generalised cross-correlation with phase transform (Knapp and Carter 1976), over several speeds.

It compares the waveforms themselves, so it also places steady noise, in which there is no onset to compare.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tsm_runtime.audio.spec import Samples
from tsm_runtime.captures.matching.correlation import Peak

Complexes = npt.NDArray[np.complexfloating]

_SPEEDS = np.arange(-12, 13) * 1e-4
_BAND_HERTZ = (80.0, 3500.0)
_OTHER_PEAK_SECONDS = 0.05


def gcc_phat(reference: Samples, video: Samples, rate: int) -> Peak | None:
    """Return the lag and speed at which two waveforms agree best.

    Args:
        reference: (N,) samples.
        video: (M,) samples; a minute is enough.
        rate: samples per second of both, at least 7000.

    Returns:
        The peak, its strengths in standard deviations over all lags; None where one is silent.
    """
    if not (reference.any() and video.any()):
        return None
    size = 1 << (len(reference) + int(len(video) * 1.002)).bit_length()
    frequencies = np.fft.rfftfreq(size, 1 / rate)
    band = (frequencies >= _BAND_HERTZ[0]) & (frequencies <= _BAND_HERTZ[1])
    whitened = _phases(reference, size, band)
    best: Peak | None = None
    for speed in _SPEEDS:
        peak = _peak_at_speed(whitened, len(reference), video, float(speed), size, band, rate)
        if best is None or peak.strength > best.strength:
            best = peak
    return best


def _peak_at_speed(
    whitened: Complexes,
    num_reference: int,
    video: Samples,
    speed: float,
    size: int,
    band: npt.NDArray[np.bool_],
    rate: int,
) -> Peak:
    length = int(len(video) * (1 + speed))
    stretched = np.interp(np.arange(length) / (1 + speed), np.arange(len(video)), video)
    lags = np.arange(1 - length, num_reference)
    product = whitened * _phases(stretched, size, band).conj()
    curve = np.abs(np.fft.irfft(product, size)[lags % size])
    top = int(np.argmax(curve))
    spread = float(np.sqrt(np.mean(curve**2))) + 1e-12
    away = np.abs(lags - lags[top]) > _OTHER_PEAK_SECONDS * rate
    overlap = min(num_reference, lags[top] + length) - max(0, lags[top])
    return Peak(
        offset_seconds=float(lags[top]) / rate,
        drift=speed,
        strength=float(curve[top]) / spread,
        second=float(curve[away].max(initial=0.0)) / spread,
        overlap_seconds=float(overlap) / rate,
    )


def _phases(samples: npt.NDArray[np.floating], size: int, band: npt.NDArray[np.bool_]) -> Complexes:
    spectrum = np.fft.rfft(samples, size)
    return np.where(band, spectrum / (np.abs(spectrum) + 1e-12), 0.0)
