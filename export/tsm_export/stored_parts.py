"""Parts of a network that work on stored 8-bit values as they are, written for onnxruntime's CPU provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from tsm_export.ranges import Grid
from tsm_export.recognise import Normalisation, Shift

__all__ = ["StoredPart", "exact_grid", "stored_pixels", "stored_shift"]

_CHANNELS_LAST_FROM = 128
"""Channels from which a shift is faster with channels last in memory, as onnxruntime's integer convolutions
have them. Fewer make short copies, and turning the tensor around twice costs less (measured with 8 frames).
"""


@dataclass(frozen=True, slots=True)
class StoredPart:
    """Nodes, the last of which makes the result, and the constants they read, by local names."""

    nodes: Sequence[onnx.NodeProto]
    constants: Mapping[str, npt.NDArray[Any]]


def exact_grid(normalisation: Normalisation) -> Grid | None:
    """Return the grid on which every normalised pixel lies exactly, if there is one for all three colours."""
    scale, offset = normalisation.scale, normalisation.offset
    if np.ptp(scale) > 1e-9 * scale[0] or np.ptp(offset) > 1e-9 or scale[0] <= 0:
        return None
    zero = -offset[0] / scale[0]
    if abs(zero - round(zero)) > 1e-4 or not 0 <= round(zero) <= 255:
        return None
    return Grid(np.float32(scale[0]), round(zero), np.uint8)


def stored_pixels(normalisation: Normalisation, frames: str, grid_inputs: Sequence[str]) -> StoredPart:
    """Frames (N, T, S, S, 3) uint8 to normalised pixels (N*T, 3, S, S) on a grid.

    Where the grid is exact, the frames' own bytes are it. Else whole rows of pixels are normalised at a
    time: with colours as an axis of their own, onnxruntime works in loops of three.
    """
    size = normalisation.size
    picture = _whole(-1, size, size, 3)
    to_planes = helper.make_node("Transpose", ["pictures"], ["pixels"], perm=[0, 3, 1, 2])
    if exact_grid(normalisation) is not None:
        nodes = [helper.make_node("Reshape", [frames, "picture"], ["pictures"]), to_planes]
        return StoredPart(nodes, {"picture": picture})
    nodes = [
        helper.make_node("Cast", [frames], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["float", "row"], ["rows"]),
        helper.make_node("Mul", ["rows", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["normalised"]),
        helper.make_node("QuantizeLinear", ["normalised", *grid_inputs], ["quantized"]),
        helper.make_node("Reshape", ["quantized", "picture"], ["pictures"]),
        to_planes,
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "picture": picture,
        "row": _whole(-1, size, 3 * size),
        "scale": np.tile(normalisation.scale.astype(np.float32), size),
        "offset": np.tile(normalisation.offset.astype(np.float32), size),
    }
    return StoredPart(nodes, constants)


def stored_shift(shift: Shift, source: str, zero: str) -> StoredPart:
    """Shift the frames of a stored (N*T, C, H, W) tensor; `zero` is the stored value of zero."""
    t = shift.num_frames
    last = shift.channels >= _CHANNELS_LAST_FROM
    axis = 3 if last else 2
    c, h, w = shift.channels, shift.height, shift.width
    constants = {
        "clip": _whole(-1, t, h * w, c) if last else _whole(-1, t, c, h * w),
        "groups": _whole(shift.following, shift.preceding, c - shift.following - shift.preceding),
        "first": _whole(0),
        "second": _whole(1),
        "last": _whole(t - 1),
        "end": _whole(t),
        "at_end": _whole(0, 0, 0, 0, 0, 1, 0, 0),
        "at_start": _whole(0, 1, 0, 0, 0, 0, 0, 0),
        "frame": _whole(-1, h, w, c) if last else _whole(-1, c, h, w),
    }
    nodes = [
        helper.make_node("Reshape", ["turned" if last else source, "clip"], ["clips"]),
        helper.make_node("Split", ["clips", "groups"], ["of_next", "of_previous", "still"], axis=axis),
        helper.make_node("Slice", ["of_next", "second", "end", "second"], ["next"]),
        helper.make_node("Pad", ["next", "at_end", zero], ["following"]),
        helper.make_node("Slice", ["of_previous", "first", "last", "second"], ["previous"]),
        helper.make_node("Pad", ["previous", "at_start", zero], ["preceding"]),
        helper.make_node("Concat", ["following", "preceding", "still"], ["joined"], axis=axis),
        helper.make_node("Reshape", ["joined", "frame"], ["frames"]),
    ]
    if last:  # onnxruntime drops these together with the ones it puts around its convolutions
        nodes.insert(0, helper.make_node("Transpose", [source], ["turned"], perm=[0, 2, 3, 1]))
        nodes.append(helper.make_node("Transpose", ["frames"], ["shifted"], perm=[0, 3, 1, 2]))
    return StoredPart(nodes, constants)


def _whole(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)
