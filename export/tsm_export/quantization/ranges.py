"""Extremes of a network's activations on real clips, and the 8-bit grids that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from tsm_export.graphs.index import GraphIndex
from tsm_export.graphs.session import Clips, tensors_of_clips

Target = Literal["cpu", "trt"]
"""`cpu`: uint8 activations with any zero point, for onnxruntime; `trt`: int8 around zero, for TensorRT."""

RangeRule = Literal["whole", "typical"]
RANGE_RULES: tuple[RangeRule, ...] = ("whole", "typical")
"""Which values a grid reaches: all that were seen, or the mean over clips of each clip's extremes."""

_DTYPES: dict[Target, type[np.uint8] | type[np.int8]] = {"cpu": np.uint8, "trt": np.int8}

_PREFIX = "extremes."


@dataclass(frozen=True, slots=True)
class Extremes:
    """The least and the largest value of a tensor in each of M clips, (M,) float32 both."""

    lowest: npt.NDArray[np.float32]
    highest: npt.NDArray[np.float32]

    def limits(self, rule: RangeRule) -> tuple[float, float]:
        """Return the range that a grid is to reach, zero included."""
        if rule == "whole":
            low, high = self.lowest.min(), self.highest.max()
        else:
            low, high = self.lowest.mean(dtype=np.float64), self.highest.mean(dtype=np.float64)
        return min(float(low), 0.0), max(float(high), 0.0)


@dataclass(frozen=True, slots=True)
class Grid:
    """The values that an 8-bit tensor can hold: (q - zero_point) * scale, q an integer of `dtype`."""

    scale: np.float32
    zero_point: int
    dtype: type[np.uint8] | type[np.int8]

    @property
    def lowest(self) -> float:
        """The least value."""
        return float((int(np.iinfo(self.dtype).min) - self.zero_point) * self.scale)

    @property
    def highest(self) -> float:
        """The largest value."""
        return float((int(np.iinfo(self.dtype).max) - self.zero_point) * self.scale)


def grid_of(low: float, high: float, target: Target) -> Grid:
    """Return the grid that reaches from `low` to `high`, which hold zero between them.

    Zero is a value of every grid: what is padded with zeros stays exact.
    """
    scale = max(-low, high) / 127 if target == "trt" else (high - low) / 255
    if scale < np.finfo(np.float32).tiny:
        scale = 1.0  # nothing but zeros was seen
    return Grid(np.float32(scale), 0 if target == "trt" else round(-low / scale), _DTYPES[target])


def observe_extremes(
    index: GraphIndex, names: Sequence[str], clips: Clips, num_threads: int | None = None
) -> dict[str, Extremes]:
    """Run clips through a network and return the extremes of some of its tensors.

    Minima and maxima are taken inside the graph, so no activation is kept.
    """
    model = onnx.ModelProto()
    model.CopyFrom(index.model)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), f"{_PREFIX}flat"))
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), f"{_PREFIX}row"))
    wanted: list[str] = []
    for name in names:
        flat = f"{_PREFIX}{name}"
        graph.node.append(helper.make_node("Reshape", [name, f"{_PREFIX}flat"], [flat]))
        for kind in ("Min", "Max"):
            found, row = f"{flat}.{kind}", f"{flat}.{kind}.row"
            graph.node.append(helper.make_node(f"Reduce{kind}", [flat], [found], keepdims=0))
            graph.node.append(helper.make_node("Reshape", [found, f"{_PREFIX}row"], [row]))
            wanted.append(row)
    columns = tensors_of_clips(model.SerializeToString(), wanted, clips, num_threads)
    return {name: Extremes(*columns[2 * k : 2 * k + 2]) for k, name in enumerate(names)}
