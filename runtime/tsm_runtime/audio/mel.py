"""Log-mel frames of sound, in numpy: the same function in training and deployment.

Frame j is the spectrum of `window_seconds` of sound around (j + 1/2) * `hop_seconds`: magnitudes of a
Hann-windowed FFT, summed by triangles on the mel scale of HTK, 2595 log10(1 + f / 700), and log(x + 0.01).
With the default values these are the features of VGGish (Hershey et al. 2017), and weights trained on
those fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tsm_runtime.audio.reader import SAMPLE_RATE, Samples

LogMel = npt.NDArray[np.float32]

_FRAMES_AT_ONCE = 4096
"""Bounds the memory of the spectra: 8 MB at 257 bins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MelSpec:
    """How sound becomes log-mel frames.

    Args:
        num_bands: of the mel scale.
        window_seconds: length of a Hann window.
        hop_seconds: between the middles of two frames.
        low_hertz: lower edge of the first band.
        high_hertz: upper edge of the last band.
        floor: is added to a magnitude before its logarithm.
    """

    num_bands: int = 64
    window_seconds: float = 0.025
    hop_seconds: float = 0.010
    low_hertz: float = 125.0
    high_hertz: float = 7500.0
    floor: float = 0.01


def log_mel(samples: Samples, spec: MelSpec, rate: int = SAMPLE_RATE) -> LogMel:
    """Return the (J, num_bands) float32 log-mel frames of (N,) samples, J = floor(N / hop)."""
    return np.asarray(np.log(mel_magnitudes(samples, spec, rate) + np.float32(spec.floor)), np.float32)


def mel_magnitudes(samples: Samples, spec: MelSpec, rate: int = SAMPLE_RATE) -> LogMel:
    """Return (J, num_bands) float32 magnitudes in mel bands; zeros stand before and after the samples."""
    window = round(spec.window_seconds * rate)
    hop = round(spec.hop_seconds * rate)
    num_frames = len(samples) // hop
    size = 1 << (window - 1).bit_length()
    weights = _triangles(spec, rate, size)
    hann = np.hanning(window + 1)[:-1].astype(np.float32)
    before = (window - hop) // 2
    padded = np.pad(samples, (before, window))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][:num_frames]
    out = np.empty((num_frames, spec.num_bands), np.float32)
    for begin in range(0, num_frames, _FRAMES_AT_ONCE):
        part = slice(begin, begin + _FRAMES_AT_ONCE)
        out[part] = np.abs(np.fft.rfft(frames[part] * hann, size)).astype(np.float32) @ weights
    return out


@lru_cache(maxsize=8)
def _triangles(spec: MelSpec, rate: int, size: int) -> LogMel:
    """Return (size / 2 + 1, num_bands) weights; the bin of frequency 0 belongs to no band."""
    bins = _mel(np.arange(size // 2 + 1) * rate / size)
    edges = np.linspace(_mel(np.array(spec.low_hertz)), _mel(np.array(spec.high_hertz)), spec.num_bands + 2)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - low) / (middle - low)
    falling = (high - bins[:, None]) / (high - middle)
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0
    return weights.astype(np.float32)


def _mel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Frequency to mel, by HTK."""
    return np.asarray(2595.0 * np.log10(1.0 + hertz / 700.0))
