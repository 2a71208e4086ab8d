"""Parts of a network that work on stored 8-bit values as they are, written for onnxruntime's CPU provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from tsm_export.quantization.recognise import Shift


@dataclass(frozen=True, slots=True)
class StoredPart:
    """Nodes, the last of which makes the result, and the constants they read, by local names."""

    nodes: Sequence[onnx.NodeProto]
    constants: Mapping[str, npt.NDArray[Any]]


def stored_shift(shift: Shift, source: str, grid_inputs: Sequence[str]) -> StoredPart:
    """Shift the frames of a stored (T*N, C, H, W) tensor, by a depthwise convolution over time.

    Each channel has a kernel of three frames that holds a single one: it takes its frame, the next or the
    previous one, and zeros where the clip ends. The grid stays, so bytes are moved and nothing is rounded.
    onnxruntime computes convolutions with channels last in memory, and drops the transpositions here together
    with its own; a split, slices and a concatenation would be copies of a few bytes each.

    Args:
        shift: what to do.
        source: name of the tensor.
        grid_inputs: names of its scale and zero point.
    """
    t, c, h, w = shift.num_frames, shift.channels, shift.height, shift.width
    taps = np.zeros((c, 1, 3, 1), np.int8)
    moved = shift.following + shift.preceding
    for tap, channels in (
        (2, slice(shift.following)),
        (0, slice(shift.following, moved)),
        (1, slice(moved, c)),
    ):
        taps[channels, :, tap] = 1
    constants: dict[str, npt.NDArray[Any]] = {
        "clip": whole_numbers(1, t, -1, c),
        "taps": taps,
        "one": np.array(1, np.float32),
        "none": np.array(0, np.int8),
        "frame": whole_numbers(-1, h, w, c),
    }
    turn, back = [0, 2, 3, 1], [0, 3, 1, 2]
    nodes = [
        helper.make_node("Transpose", [source], ["pixels"], perm=turn),
        helper.make_node("Reshape", ["pixels", "clip"], ["clips"]),
        helper.make_node("Transpose", ["clips"], ["channels"], perm=back),
        helper.make_node("DequantizeLinear", ["channels", *grid_inputs], ["values"]),
        helper.make_node("DequantizeLinear", ["taps", "one", "none"], ["kernels"]),
        helper.make_node(
            "Conv", ["values", "kernels"], ["moved"], group=c, kernel_shape=[3, 1], pads=[1, 0, 1, 0]
        ),
        helper.make_node("QuantizeLinear", ["moved", *grid_inputs], ["stored"]),
        helper.make_node("Transpose", ["stored"], ["turned"], perm=turn),
        helper.make_node("Reshape", ["turned", "frame"], ["frames"]),
        helper.make_node("Transpose", ["frames"], ["shifted"], perm=back),
    ]
    return StoredPart(nodes, constants)


def whole_numbers(*values: int) -> npt.NDArray[np.int64]:
    """Return a list of sizes or places as operators take them."""
    return np.array(values, np.int64)
