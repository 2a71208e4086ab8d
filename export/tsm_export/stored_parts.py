"""Parts of a network that work on stored 8-bit values as they are, written for onnxruntime's CPU provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from tsm_export.recognise import Shift

__all__ = ["StoredPart", "stored_shift", "whole_numbers"]

_CHANNELS_LAST_FROM = 128
"""Channels from which a shift is faster with channels last in memory, as onnxruntime's integer convolutions
have them. Fewer make short copies, and turning the tensor around twice costs less (measured with 8 frames).
"""


@dataclass(frozen=True, slots=True)
class StoredPart:
    """Nodes, the last of which makes the result, and the constants they read, by local names."""

    nodes: Sequence[onnx.NodeProto]
    constants: Mapping[str, npt.NDArray[Any]]


def stored_shift(shift: Shift, source: str, zero: str) -> StoredPart:
    """Shift the frames of a stored (T*N, C, H, W) tensor; `zero` is the stored value of zero."""
    t = shift.num_frames
    last = shift.channels >= _CHANNELS_LAST_FROM
    axis = 3 if last else 2
    c, h, w = shift.channels, shift.height, shift.width
    constants = {
        "clip": whole_numbers(t, -1, h * w, c) if last else whole_numbers(t, -1, c, h * w),
        "groups": whole_numbers(shift.following, shift.preceding, c - shift.following - shift.preceding),
        "first": whole_numbers(0),
        "second": whole_numbers(1),
        "last": whole_numbers(t - 1),
        "end": whole_numbers(t),
        "at_end": whole_numbers(0, 0, 0, 0, 1, 0, 0, 0),
        "at_start": whole_numbers(1, 0, 0, 0, 0, 0, 0, 0),
        "frame": whole_numbers(-1, h, w, c) if last else whole_numbers(-1, c, h, w),
    }
    nodes = [
        helper.make_node("Reshape", ["turned" if last else source, "clip"], ["clips"]),
        helper.make_node("Split", ["clips", "groups"], ["of_next", "of_previous", "still"], axis=axis),
        helper.make_node("Slice", ["of_next", "second", "end", "first"], ["next"]),
        helper.make_node("Pad", ["next", "at_end", zero], ["following"]),
        helper.make_node("Slice", ["of_previous", "first", "last", "first"], ["previous"]),
        helper.make_node("Pad", ["previous", "at_start", zero], ["preceding"]),
        helper.make_node("Concat", ["following", "preceding", "still"], ["joined"], axis=axis),
        helper.make_node("Reshape", ["joined", "frame"], ["frames"]),
    ]
    if last:  # onnxruntime drops these together with the ones it puts around its convolutions
        nodes.insert(0, helper.make_node("Transpose", [source], ["turned"], perm=[0, 2, 3, 1]))
        nodes.append(helper.make_node("Transpose", ["frames"], ["shifted"], perm=[0, 3, 1, 2]))
    return StoredPart(nodes, constants)


def whole_numbers(*values: int) -> npt.NDArray[np.int64]:
    """Return a list of sizes or places as operators take them."""
    return np.array(values, np.int64)
