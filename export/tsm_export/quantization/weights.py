"""Weights in 8 bits: their scales, and steps whose sums are right on processors without VNNI.

Such processors (x86 with AVX2 or AVX-512 alone) multiply uint8 activations by int8 weights and add the
products of two neighbours in 16 bits, which saturates: 255 * 127 fits, 255 * (127 + 127) does not. Weights
of 7 bits avoid it and double the rounding error of every weight. Here weights keep 8 bits, and only the few
pairs whose sum is too large come nearer to zero.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_INT32_MAX = 2**31 - 1
LARGEST_STEP = 127
LARGEST_PAIR = 128
"""Largest sum of two neighbouring weights: 255 * 128 is below 2 ** 15."""

_CHANNEL_RANGE = 1024
_LEAST_HALF = 2.0**-24
"""The least positive number of half precision."""

_FACTORS = (1.0, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.6, 1.8, 2.0)
"""Factors of the scale that are tried; with the last, any two weights fit."""


def weight_scales(
    values: npt.NDArray[np.float64], bias: npt.NDArray[np.float64], input_scale: float
) -> npt.NDArray[np.float32]:
    """Return a scale per output channel: to the largest weight, and such that the bias fits into 32 bits.

    Args:
        values: (O, C, height, width).
        bias: (O,).
        input_scale: of the activations that the weights multiply.
    """
    largest = np.abs(values).reshape(len(values), -1).max(axis=1) / LARGEST_STEP
    for_bias = np.abs(bias) / (input_scale * _INT32_MAX)
    return _not_tiny(np.maximum(largest, for_bias).astype(np.float32))


def common_scale(values: npt.NDArray[np.float64]) -> tuple[np.float32, npt.NDArray[np.float32]]:
    """Return one scale of all weights, a power of two, and a factor per output channel that it is times.

    Both are exact in half precision. Channels are not told apart below a thousandth of the largest one, so
    that a factor, at most 2048, makes no finite number infinite that a convolution gives.

    Args:
        values: (O, C, height, width).

    Returns:
        The scale, and (O,) factors of at least 1.
    """
    largest = np.abs(values).reshape(len(values), -1).max(axis=1) / LARGEST_STEP
    least = max(float(largest.max()) / _CHANNEL_RANGE, _LEAST_HALF)
    scale = 2.0 ** np.floor(np.log2(np.maximum(largest, least).min()))
    factors = (np.maximum(largest, least) / scale).astype(np.float16).astype(np.float32)
    return np.float32(scale), factors


def _not_tiny(scales: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.where(scales < np.finfo(np.float32).tiny, np.float32(1), scales)


def round_weights(values: npt.NDArray[np.float64], scales: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
    """Return weights (O, C, height, width) as steps of each output channel's scale, (O,)."""
    steps = np.round(values / scales.astype(np.float64).reshape(-1, *[1] * (values.ndim - 1)))
    return np.clip(steps, -LARGEST_STEP, LARGEST_STEP).astype(np.int8)


def round_paired_weights(
    values: npt.NDArray[np.float64], scales: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return steps of which no two neighbours sum to more than `LARGEST_PAIR`, and their scales.

    Neighbours in the order of the sums: row, column, input channel. Each output channel takes the scale, of
    several from the given one to its double, with which the squared error of its weights is least.

    Args:
        values: (O, C, height, width).
        scales: (O,), the least that is allowed.
    """
    rows = np.moveaxis(values, 1, -1).reshape(len(values), -1)
    aligned = values.shape[1] % 2 == 0
    best, steps, chosen = np.full(len(rows), np.inf), np.zeros(rows.shape, np.int8), scales.copy()
    for factor in _FACTORS:
        tried = (scales * np.float32(factor)).astype(np.float32)
        rounded = _fit_pairs(rows / tried.astype(np.float64)[:, None], aligned=aligned)
        errors = np.square(rounded * tried.astype(np.float64)[:, None] - rows).sum(axis=1)
        better = errors < best
        best[better], steps[better], chosen[better] = errors[better], rounded[better], tried[better]
    size, channels, *window = values.shape
    return np.moveaxis(steps.reshape(size, *window, channels), -1, 1).copy(), chosen


def _fit_pairs(rows: npt.NDArray[np.float64], *, aligned: bool) -> npt.NDArray[np.int8]:
    """Round (O, K) to steps; where two neighbours of one sign are too large, take the excess off both.

    Args:
        rows: in units of a step.
        aligned: the pairs are (0, 1), (2, 3) and so on; else also (1, 2), (3, 4), as kernels that sum odd
            numbers of channels may start a pair anywhere.
    """
    steps = np.clip(np.round(rows), -LARGEST_STEP, LARGEST_STEP).astype(np.int64)
    for start in (0,) if aligned else (0, 1):
        end = start + (steps.shape[1] - start) // 2 * 2
        first, second = steps[:, start:end:2], steps[:, start + 1 : end : 2]
        total = first + second
        excess = np.sign(total) * np.maximum(np.abs(total) - LARGEST_PAIR, 0)
        half = excess // 2
        steps[:, start:end:2], steps[:, start + 1 : end : 2] = first - half, second - (excess - half)
    return steps.astype(np.int8)
