"""The first convolution on the frames' own bytes, written for onnxruntime's CPU provider.

onnxruntime copies the pixels under each tap of a convolution one by one, and three bytes at a time that costs
more than the arithmetic. So four columns of pixels with three colours become one column with twelve channels,
which lie in memory just so, and the convolution makes two columns of its output at once: its kernel is as
wide as the groups of columns that these two need, filled up with zeros. The sums are the same; a 3x3
convolution takes a third of the time, a 7x7 one half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from tsm_export.quantization.ranges import Grid, grid_of
from tsm_export.quantization.recognise import Normalisation
from tsm_export.quantization.stored_parts import StoredPart, whole_numbers

_COLUMNS = 4
_STRIDE = 2
_SAME = 1e-6
"""Share by which numbers may differ that were found from float32 values and are meant to be the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stem:
    """How the first convolution is computed.

    Args:
        size: edge of the pictures in pixels.
        columns: of pixels that become one; 1: they stay as they are.
        mean: (3,) what is taken off the pixels. Their scale is in the weights.
        grid: of the pixels without their mean.
        is_exact: whether all of these lie on the grid, so that bytes stay what they are.
        weight: (O * columns / 2, 3 * columns, height, width), or (O, 3, height, width) for one column.
        attributes: of the convolution.
    """

    size: int
    columns: int
    mean: npt.NDArray[np.float64]
    grid: Grid
    is_exact: bool
    weight: npt.NDArray[np.float64]
    attributes: Mapping[str, Any]

    @property
    def outputs_at_once(self) -> int:
        """Columns of the output that become one."""
        return max(1, self.columns // _STRIDE)

    @property
    def output_height(self) -> int:
        """Rows of the output."""
        top, bottom = self.attributes["pads"][::2]
        rows: int = (self.size + top + bottom - self.weight.shape[2]) // self.attributes["strides"][0]
        return rows + 1


def plan_stem(convolution: onnx.NodeProto, weight: npt.NDArray[Any], normalisation: Normalisation) -> Stem:
    """Return how a convolution of normalised pixels is computed from bytes.

    Args:
        convolution: the node.
        weight: (O, 3, height, width).
        normalisation: of the pixels.
    """
    mean = -normalisation.offset / normalisation.scale
    zero = round(float(mean.mean()))
    is_exact = 0 <= zero <= 255 and float(np.abs(mean - zero).max()) <= 255 * _SAME
    grid = grid_of(-float(mean.max()), 255 - float(mean.min()), "cpu")
    scaled = weight.astype(np.float64) * normalisation.scale[:, None, None]
    attributes = {each.name: helper.get_attribute_value(each) for each in convolution.attribute}
    columns = _COLUMNS if _can_group(attributes, weight.shape[3], normalisation.size) else 1
    if columns > 1:
        top, left, bottom, _ = attributes["pads"]
        scaled, before, behind = group_columns(scaled, left)
        attributes |= {
            "pads": [top, before, bottom, behind],
            "strides": [attributes["strides"][0], 1],
            "kernel_shape": list(scaled.shape[2:]),
        }
    return Stem(
        size=normalisation.size,
        columns=columns,
        mean=mean,
        grid=Grid(np.float32(1), zero, np.uint8) if is_exact else grid,
        is_exact=is_exact,
        weight=scaled,
        attributes=attributes,
    )


def _can_group(attributes: Mapping[str, Any], width: int, size: int) -> bool:
    """Return whether a convolution of pictures has a column of output for every second column of pixels."""
    pads, strides = attributes.get("pads", [0, 0, 0, 0]), attributes.get("strides", [1, 1])
    plain = attributes.get("auto_pad", b"NOTSET") == b"NOTSET" and attributes.get("group", 1) == 1
    if not plain or set(attributes.get("dilations", [1])) != {1} or strides[1] != _STRIDE or size % _COLUMNS:
        return False
    columns = (size + pads[1] + pads[3] - width) // _STRIDE + 1
    return bool(columns == size // _STRIDE and pads[1] < width)


def group_columns(weight: npt.NDArray[np.float64], left: int) -> tuple[npt.NDArray[np.float64], int, int]:
    """Return the weights of a convolution that does the same on groups of four columns.

    Args:
        weight: (O, C, height, width) of a convolution that steps by two columns.
        left: columns of zeros before the picture, fewer than the kernel is wide.

    Returns:
        (2 * O, 4 * C, height, groups): output columns 0 and 1 of a group one after the other, the channels of
        its four columns of pixels one after the other; then the groups of zeros before and behind a row.
    """
    outputs, channels, height, width = weight.shape
    at_once = _COLUMNS // _STRIDE
    first = -left // _COLUMNS
    last = (_STRIDE * (at_once - 1) - left + width - 1) // _COLUMNS
    grouped = np.zeros((at_once, outputs, _COLUMNS, channels, height, last - first + 1))
    for output in range(at_once):
        for tap in range(width):
            group, column = divmod(_STRIDE * output - left + tap, _COLUMNS)
            grouped[output, :, column, :, :, group - first] = weight[..., tap]
    shape = (at_once * outputs, _COLUMNS * channels, height, last - first + 1)
    return grouped.reshape(shape), -first, last


def stored_pixels(stem: Stem, frames: str, grid_inputs: Sequence[str]) -> StoredPart:
    """Frames (N, T, S, S, 3) uint8 to pixels without their mean, (T*N, 3 * columns, S, S / columns) stored.

    Where these lie on the grid, the frames' own bytes are it. Else the mean is taken off whole rows of
    pixels: with colours as an axis of their own, onnxruntime works in loops of three.
    """
    size, columns = stem.size, stem.columns
    constants: dict[str, npt.NDArray[Any]] = {
        "columns": whole_numbers(-1, size, size // columns, 3 * columns)
    }
    nodes = [helper.make_node("Transpose", [frames], ["in_time"], perm=[1, 0, 2, 3, 4])]
    if not stem.is_exact:
        constants["row"] = whole_numbers(-1, size, 3 * size)
        constants["mean"] = np.tile(stem.mean.astype(np.float32), size)
        nodes += [
            helper.make_node("Cast", ["in_time"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["float", "row"], ["rows"]),
            helper.make_node("Sub", ["rows", "mean"], ["centred"]),
            helper.make_node("QuantizeLinear", ["centred", *grid_inputs], ["quantized"]),
        ]
    nodes += [
        helper.make_node("Reshape", ["in_time" if stem.is_exact else "quantized", "columns"], ["grouped"]),
        helper.make_node("Transpose", ["grouped"], ["pixels"], perm=[0, 3, 1, 2]),
    ]
    return StoredPart(nodes, constants)


def stored_outputs(stem: Stem, made: str) -> StoredPart:
    """Take the columns of the convolution's output apart again: to (T*N, O, height, width) stored."""
    at_once = stem.outputs_at_once
    channels, width = len(stem.weight) // at_once, stem.size // _STRIDE
    nodes = [  # onnxruntime drops these transpositions together with its own
        helper.make_node("Transpose", [made], ["turned"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["turned", "apart"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["outputs"], perm=[0, 3, 1, 2]),
    ]
    return StoredPart(nodes, {"apart": whole_numbers(-1, stem.output_height, width, channels)})
