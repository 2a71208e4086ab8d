"""Log-mel frames of sound, in numpy: the same function in training and deployment.

Frame j is the spectrum of `window_seconds` of sound around (j + 1/2) * `hop_seconds`: magnitudes of a
Hann-windowed FFT, summed by triangles on the mel scale of HTK, 2595 log10(1 + f / 700), and log(x + 0.01).
With the default values these are the features of VGGish (Hershey et al. 2017), and weights trained on
those fit.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tsm_runtime.audio.spec import SAMPLE_RATE, MelSpec, Samples

LogMel = npt.NDArray[np.float32]

BLOCK_FRAMES = 4
"""Frames of one matrix product. All frames are computed in such blocks, so that a track that arrives piece by
piece has the values of a whole one to the last bit."""

_BLOCKS_AT_ONCE = 1024
"""Bounds the memory of the spectra: 8 MB at 257 bins."""


def log_mel(samples: Samples, spec: MelSpec, rate: int = SAMPLE_RATE) -> LogMel:
    """Return the (J, num_bands) float32 log-mel frames of (N,) samples, J = floor(N / hop)."""
    return as_log(mel_magnitudes(samples, spec, rate), spec)


def as_log(magnitudes: LogMel, spec: MelSpec) -> LogMel:
    """Return the logarithms of magnitudes in mel bands."""
    return np.asarray(np.log(magnitudes + np.float32(spec.floor)), np.float32)


def mel_magnitudes(samples: Samples, spec: MelSpec, rate: int = SAMPLE_RATE) -> LogMel:
    """Return (J, num_bands) float32 magnitudes in mel bands; zeros stand before and after the samples."""
    before, window, hop = frame_samples(spec, rate)
    num_frames = len(samples) // hop
    num_blocks = -(-num_frames // BLOCK_FRAMES)
    after = max(0, num_blocks * BLOCK_FRAMES * hop + window - len(samples))
    padded = np.pad(samples, (before, after))
    out = np.empty((num_blocks * BLOCK_FRAMES, spec.num_bands), np.float32)
    step = BLOCK_FRAMES * hop
    for first in range(0, num_blocks, _BLOCKS_AT_ONCE):
        count = min(_BLOCKS_AT_ONCE, num_blocks - first)
        part = padded[first * step : (first + count) * step - hop + window]
        out[first * BLOCK_FRAMES : (first + count) * BLOCK_FRAMES] = block_magnitudes(part, spec, rate)
    return out[:num_frames]


def block_magnitudes(samples: Samples, spec: MelSpec, rate: int = SAMPLE_RATE) -> LogMel:
    """Return (K * BLOCK_FRAMES, num_bands) magnitudes of whole blocks of frames.

    Args:
        samples: from the first sample of the first frame's window to the last of the last frame's.
        spec: of the frames.
        rate: samples per second.
    """
    _, window, hop = frame_samples(spec, rate)
    size = 1 << (window - 1).bit_length()
    hann = np.hanning(window + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    spectra = np.abs(np.fft.rfft(frames * hann, size)).astype(np.float32)
    blocks = spectra.reshape(-1, BLOCK_FRAMES, spectra.shape[1])
    products = np.matmul(blocks, _triangles(spec, rate, size))
    return np.asarray(products.reshape(-1, spec.num_bands), np.float32)


def frame_samples(spec: MelSpec, rate: int = SAMPLE_RATE) -> tuple[int, int, int]:
    """Return in samples: how far frame 0's window begins before the sound, its length, and the hop."""
    window, hop = round(spec.window_seconds * rate), round(spec.hop_seconds * rate)
    return (window - hop) // 2, window, hop


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
