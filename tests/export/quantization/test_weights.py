"""Weights in 8 bits: scales, and sums of pairs that fit into 16 bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsm_export.quantization.weights import (
    common_scale,
    round_paired_weights,
    round_weights,
    weight_scales,
)


def scales_of(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return weight_scales(values, np.zeros(len(values)), 1.0)


def restored(steps: npt.NDArray[np.int8], scales: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return steps * scales.astype(np.float64).reshape(-1, *[1] * (steps.ndim - 1))


@given(st.integers(0, 2**32 - 1), st.floats(1e-12, 1e4), st.floats(1e-6, 10))
def test_weights_and_bias_fit_their_integers(seed: int, size: float, input_scale: float) -> None:
    """A channel whose weights died keeps its bias."""
    rng = np.random.default_rng(seed)
    weights = size * rng.normal(size=(4, 3, 1, 1))
    weights[1] = 0
    bias = rng.normal(size=4) * 100
    scales = weight_scales(weights, bias, input_scale)
    assert scales.dtype == np.float32
    assert (scales > 0).all()
    columns = scales.astype(np.float64)[:, None, None, None]
    assert np.abs(np.round(weights / columns)).max() <= 128
    steps = bias / (input_scale * scales.astype(np.float64))
    assert np.abs(steps).max() <= 2**31 * (1 + 1e-6)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3, 4, 5, 8]), st.sampled_from([1, 3]))
def test_no_pair_saturates(seed: int, channels: int, edge: int) -> None:
    values = np.random.default_rng(seed).standard_t(2, size=(4, channels, edge, edge))
    scales = scales_of(values)
    steps, read_by = round_paired_weights(values, scales)
    assert (read_by >= scales).all()
    assert np.abs(steps.astype(int)).max() <= 127
    rows = np.moveaxis(steps, 1, -1).reshape(4, -1).astype(int)
    sums = np.abs(rows[:, :-1] + rows[:, 1:])[:, :: 1 + (channels % 2 == 0)]
    assert 255 * sums.max(initial=0) < 2**15


def test_most_weights_keep_their_8_bits() -> None:
    """The error is 1.35 times that of 8 bits; that of 7 bits is twice as large."""
    values = np.random.default_rng(0).normal(size=(64, 128, 3, 3))
    scales = scales_of(values)
    paired = restored(*round_paired_weights(values, scales))
    eight = restored(round_weights(values, scales), scales)
    seven = restored(round_weights(values, 2 * scales), 2 * scales)
    errors = [float(np.square(each - values).mean() ** 0.5) for each in (eight, paired, seven)]
    assert errors[2] == pytest.approx(2 * errors[0], rel=0.05)
    assert errors[1] < 1.4 * errors[0]


def test_weights_that_fit_stay_as_they_are() -> None:
    values = np.array([[127.0, -127.0], [64.0, 64.0]]).reshape(2, 2, 1, 1)
    steps, scales = round_paired_weights(values, np.ones(2, np.float32))
    np.testing.assert_array_equal(steps, values)
    np.testing.assert_array_equal(scales, 1)


@pytest.mark.parametrize(
    ("weights", "scale", "expected"),
    [
        ((127, 127, 5, -3), 2, (64, 64, 2, -2)),  # at scale 1 it would be (64, 64), half of what they are
        ((100, 31, 9, 8), 1.15, (87, 27, 8, 7)),
    ],
)
def test_the_excess_comes_off_or_the_scale_grows(
    weights: tuple[int, ...], scale: float, expected: tuple[int, ...]
) -> None:
    values = np.array(weights, float).reshape(1, 4, 1, 1)
    steps, scales = round_paired_weights(values, np.ones(1, np.float32))
    assert scales == pytest.approx(scale)
    assert steps.ravel().tolist() == list(expected)


@given(st.floats(-30, 30), st.floats(0, 12), st.integers(0, 2**32 - 1))
def test_one_scale_and_factors_are_exact_in_half_precision(size: float, spread: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(6, 3, 2, 2)) * 2.0 ** (size / 3 - spread * rng.random((6, 1, 1, 1)))
    values[2] = 0
    scale, factors = common_scale(values)
    assert np.float16(scale) == scale
    np.testing.assert_array_equal(factors.astype(np.float16), factors)
    assert factors.min() >= 1
    assert factors.max() <= 2048
    steps = round_weights(values, scale * factors)
    restored = steps * (scale * factors.astype(np.float64))[:, None, None, None]
    # Half a step, plus what a factor rounded down in half precision leaves of the largest weight.
    allowed = (0.5 + 127 / 2**11) * scale * factors.astype(np.float64)
    assert (np.abs(restored - values).max(axis=(1, 2, 3)) <= allowed).all()
