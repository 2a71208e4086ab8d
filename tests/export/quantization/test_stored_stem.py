"""A convolution on groups of columns is the convolution on columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import helper

from tsm_export.quantization.recognise import Normalisation
from tsm_export.quantization.stored_stem import group_columns, plan_stem

SIZE = 16


def convolve(
    pictures: npt.NDArray[np.float64],
    weight: npt.NDArray[np.float64],
    pads: tuple[int, int, int, int],
    strides: tuple[int, int],
) -> npt.NDArray[np.float64]:
    """(N, C, H, W) by the definition: a sum over taps. Pads are top, left, bottom, right."""
    top, left, bottom, right = pads
    padded = np.pad(pictures, ((0, 0), (0, 0), (top, bottom), (left, right)))
    height = (padded.shape[2] - weight.shape[2]) // strides[0] + 1
    width = (padded.shape[3] - weight.shape[3]) // strides[1] + 1
    result = np.zeros((len(pictures), len(weight), height, width))
    for y in range(weight.shape[2]):
        for x in range(weight.shape[3]):
            rows = padded[:, :, y : y + height * strides[0] : strides[0]][:, :, :height]
            taken = rows[..., x : x + width * strides[1] : strides[1]][..., :width]
            result += np.einsum("nchw,oc->nohw", taken, weight[:, :, y, x])
    return result


def grouped(pictures: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N, C, H, W) to (N, 4 * C, H, W / 4): what a group's bytes are, when colours lie last in memory."""
    n, c, h, w = pictures.shape
    return pictures.transpose(0, 2, 3, 1).reshape(n, h, w // 4, 4 * c).transpose(0, 3, 1, 2)


@given(width=st.integers(1, 9), left=st.integers(0, 4), seed=st.integers(0, 99))
def test_two_columns_of_output_at_once(width: int, left: int, seed: int) -> None:
    assume(left < width)
    rng = np.random.default_rng(seed)
    weight = rng.integers(-9, 9, (2, 3, 3, width)).astype(np.float64)
    pictures = rng.integers(0, 9, (1, 3, 6, SIZE)).astype(np.float64)
    right = max(0, SIZE - 2 + width - SIZE - left)  # so that there are SIZE / 2 columns of output
    expected = convolve(pictures, weight, (1, left, 1, right), (2, 2))[..., : SIZE // 2]
    wide, before, behind = group_columns(weight, left)
    got = convolve(grouped(pictures), wide, (1, before, 1, behind), (2, 1))
    n, channels, h, w = got.shape
    assert w == SIZE // 4
    apart = got.transpose(0, 2, 3, 1).reshape(n, h, 2 * w, channels // 2).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(apart[..., : expected.shape[3]], expected)


def stem_of(
    width: int, size: int = SIZE, mean: Any = (127.0,) * 3, std: Any = (128.0,) * 3, **more: Any
) -> Any:
    attributes = {"pads": [width // 2] * 4, "strides": [2, 2], **more}
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    scale = 1 / np.array(std)
    weight = np.ones((4, 3, width, width), np.float32)
    return plan_stem(node, weight, Normalisation(size, scale, -np.array(mean) * scale))


@pytest.mark.parametrize(("width", "groups"), [(1, 1), (3, 2), (5, 3), (7, 3)])
def test_the_plan(width: int, groups: int) -> None:
    stem = stem_of(width)
    assert (stem.columns, stem.outputs_at_once, stem.output_height) == (4, 2, SIZE // 2)
    assert stem.weight.shape == (8, 12, width, groups)
    assert stem.attributes["strides"] == [2, 1]
    assert stem.attributes["kernel_shape"] == [width, groups]
    assert stem.weight.sum() == pytest.approx(2 * 4 * 3 * width * width / 128)


@pytest.mark.parametrize(
    "more",
    [
        {"strides": [1, 1]},
        {"strides": [2, 4]},
        {"size": 18},
        {"pads": [0, 0, 0, 0]},  # seven columns of output
        {"dilations": [2, 2]},
        {"auto_pad": "SAME_UPPER"},
        {"pads": [1, 3, 1, 0]},  # a column of output from zeros alone
    ],
)
def test_what_cannot_be_grouped(more: dict[str, Any]) -> None:
    stem = stem_of(3, **more)
    assert (stem.columns, stem.outputs_at_once) == (1, 1)
    assert stem.weight.shape == (4, 3, 3, 3)
    assert list(stem.attributes["strides"]) == more.get("strides", [2, 2])


def test_which_grid_the_pixels_have() -> None:
    even = stem_of(3)
    assert even.is_exact
    assert (even.grid.scale, even.grid.zero_point) == (1, 127)
    assert stem_of(3, std=(50.0, 60.0, 70.0)).is_exact  # scales are the weights' affair
    for mean in ((127.5,) * 3, (127.0, 127.0, 128.0), (-1.0,) * 3):
        stem = stem_of(3, mean=mean)
        assert not stem.is_exact
        assert stem.grid.lowest <= -max(mean) + float(stem.grid.scale)
        assert stem.grid.highest >= 255 - min(mean) - float(stem.grid.scale)
