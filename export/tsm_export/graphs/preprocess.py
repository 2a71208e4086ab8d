"""`preprocess.onnx`: decoded pictures of any size to frames, as swscale makes them on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tsm_export.request import DEFAULT_OPSET

_IR_VERSION = 10
_MOST_OUTSIDE = 256
"""Weights of so many pixels beyond each border are added to the border's: enough to shrink by 256 times."""


def preprocess_graph(size: int, *, opset: int = DEFAULT_OPSET) -> bytes:
    """Return the bytes of a graph that approximates `tsm_runtime.video.convert.FrameConverter(size)`.

    swscale's bilinear filter is a triangle, as wide as the step where a picture shrinks (so it does not
    alias); what lies beyond the border counts as the border's pixel. Each axis is one matrix product, as
    TensorRT has no antialiased Resize. For an even `size` swscale computes one chroma column for every two of
    the output, and luma and chroma become integers before they become RGB; for an odd one it does neither.

    Inputs: `y` (N, H, P) and `uv` (N, H', P') uint8, the bytes of two planes of N pictures as they lie in
    memory, padding included; `sample_bytes` (1,) float32: 1 for NV12 (8 bits), 2 for P010 and P016 (10 and 12
    bits in the high ones of 16, low byte first); `part` (4,) float32: x, y, width, height in luma pixels of
    what is shown of them; `colour` (3, 4) float32: RGB = colour @ (Y, U, V, 1), over 0 to 255; `turn` (3,)
    float32: 1 or 0 for transpose, then reverse rows, then reverse columns. Output: `frames` (N, size, size,
    3) uint8.
    `tsm_runtime.video.preprocess` makes all but the planes for a frame.

    Bytes, as TensorRT has no 16-bit integers: a sample is its high byte and 1/256 of its low one, in levels
    of 8 bits, so both go into the product that resizes a row.

    Args:
        size: edge of the square pictures.
        opset: version of ONNX's operators.
    """
    graph = _Graph()
    part = [graph.add("Slice", ["part", *graph.numbers([i], [i + 1], [0])]) for i in range(4)]
    half = [
        graph.add(rounded, [graph.add("Mul", [p, graph.real(0.5)])])
        for p, rounded in zip(part, _HALVES, strict=True)
    ]
    is_even = size % 2 == 0
    luma, chroma = (graph.add("Cast", [name], to=TensorProto.FLOAT) for name in ("y", "uv"))
    planes = [_resized(graph, luma, part, size, 1, _Channel(0, 1))]
    planes += [_resized(graph, chroma, half, size, 2 if is_even else 1, _Channel(i, 2)) for i in range(2)]
    if is_even:
        planes = _to_integers(graph, planes, graph.add("Div", [part[3], graph.real(size)]))
    picture = _turned(graph, _rgb(graph, planes))
    graph.add("Cast", [picture], output="frames", to=TensorProto.UINT8)
    return graph.serialized(size, opset)


_HALVES = ("Floor", "Floor", "Ceil", "Ceil")
"""How chroma covers an odd number of luma pixels: x, y, width, height."""


@dataclass(frozen=True)
class _Channel:
    """Which samples of a row: number `place` of every `of`."""

    place: int
    of: int


class _Graph:
    """Nodes and constants of a graph in the making; values are called by their number."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[bytes, onnx.TensorProto] = {}

    def add(self, kind: str, inputs: Sequence[str], *, output: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        output = output or f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, values: Any, kind: Any) -> str:
        """Return the name of a constant; equal ones are one."""
        array = np.array(values, kind)
        key = f"{array.dtype}{array.shape}".encode() + array.tobytes()
        name = f"constant_{len(self._constants)}"
        return self._constants.setdefault(key, numpy_helper.from_array(array, name)).name

    def real(self, values: Any) -> str:
        """Return a float32 constant."""
        return self.constant(values, np.float32)

    def numbers(self, *lists: list[int]) -> list[str]:
        """Return an int64 constant for each list."""
        return [self.constant(numbers, np.int64) for numbers in lists]

    def serialized(self, size: int, opset: int) -> bytes:
        """Return the whole as a model."""

        def tensor(name: str, kind: int, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, kind, shape)

        graph = helper.make_graph(
            self._nodes,
            "preprocess",
            [
                tensor("y", TensorProto.UINT8, ("pictures", "height", "pitch")),
                tensor("uv", TensorProto.UINT8, ("pictures", "chroma_height", "chroma_pitch")),
                tensor("sample_bytes", TensorProto.FLOAT, (1,)),
                tensor("part", TensorProto.FLOAT, (4,)),
                tensor("colour", TensorProto.FLOAT, (3, 4)),
                tensor("turn", TensorProto.FLOAT, (3,)),
            ],
            [tensor("frames", TensorProto.UINT8, ("pictures", size, size, 3))],
            initializer=list(self._constants.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=_IR_VERSION,
            producer_name="tsm-tal",
        )
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))


def _resized(
    graph: _Graph, plane: str, part: Sequence[str], size: int, repeat: int, channel: _Channel
) -> str:
    """Resize a channel of (N, H, bytes) planes to (N, size, size), each of fewer columns `repeat` times."""
    x, y, width, height = part
    rows = _weights(graph, _counted(graph, plane, 1), y, height, np.arange(size), size)
    columns = _columns(graph, plane, x, width, np.arange(size) // repeat, size // repeat, channel)
    transposed = graph.add("Transpose", [columns], perm=[1, 0])
    return graph.add("MatMul", [graph.add("MatMul", [rows, plane]), transposed])


def _counted(graph: _Graph, plane: str, axis: int) -> str:
    """Return 0, 1, 2, ... for an axis, float32."""
    length = graph.add("Gather", [graph.add("Shape", [plane]), graph.constant(axis, np.int64)])
    zero, one = graph.constant(0, np.int64), graph.constant(1, np.int64)
    return graph.add("Cast", [graph.add("Range", [zero, length, one])], to=TensorProto.FLOAT)


def _columns(
    graph: _Graph, plane: str, start: str, extent: str, places: Any, num_places: int, channel: _Channel
) -> str:
    """Return what each byte of a row adds to each place of the output, as `_weights` does for pixels."""
    count, num_bytes = _counted(graph, plane, 2), "sample_bytes"
    group = graph.add("Mul", [num_bytes, graph.real(channel.of)])
    pixel = graph.add("Floor", [graph.add("Div", [count, group])])  # exact: divided by 1, 2 or 4
    before = graph.add("Mul", [num_bytes, graph.real(channel.place)])
    byte = graph.add("Sub", [graph.add("Sub", [count, graph.add("Mul", [pixel, group])]), before])
    is_high = graph.add("Equal", [byte, graph.add("Sub", [num_bytes, graph.real(1.0)])])
    is_second = graph.add("Equal", [byte, graph.add("Sub", [num_bytes, graph.real(2.0)])])
    is_low = graph.add("And", [is_second, graph.add("GreaterOrEqual", [byte, graph.real(0.0)])])
    none = graph.real(0.0)
    low = graph.add("Where", [is_low, graph.real(1 / 256), none])
    level = graph.add("Where", [is_high, graph.real(1.0), low])
    return _weights(graph, pixel, start, extent, places, num_places, is_high=is_high, level=level)


def _to_integers(graph: _Graph, planes: Sequence[str], step: str) -> list[str]:
    """Round planes; swscale cuts off instead where rows are fewer than the output's (its two-row path)."""
    grows = graph.add("Less", [step, graph.real(1.0)])
    added = graph.add("Where", [grows, graph.real(0.0), graph.real(0.5)])
    nearly = graph.real(2.0**-9)  # of float32's rounding: a plain picture keeps its level
    return [
        graph.add("Floor", [graph.add("Add", [plane, graph.add("Add", [added, nearly])])]) for plane in planes
    ]


def _rounded(graph: _Graph, value: str) -> str:
    return graph.add("Floor", [graph.add("Add", [value, graph.real(0.5)])])


def _weights(
    graph: _Graph,
    count: str,
    start: str,
    extent: str,
    places: Any,
    num_places: int,
    *,
    is_high: str = "",
    level: str = "",
) -> str:
    """Return a (len(places), length) matrix: what each entry of an axis adds to each place of the output.

    Args:
        graph: in the making.
        count: (length,) the pixel that an entry belongs to.
        start: of what is shown, in pixels.
        extent: likewise.
        places: of the output, a number for each row.
        num_places: how many the output has.
        is_high: (length,) whether an entry is the one of its pixel that counts as it; empty: all are.
        level: (length,) what an entry's unit is in levels; empty: 1.
    """
    step = graph.add("Div", [extent, graph.real(num_places)])
    width = graph.add("Max", [step, graph.real(1.0)])
    middle = graph.add("Mul", [step, graph.real(places[:, None] + 0.5)])
    centre = graph.add("Sub", [middle, graph.real(0.5)])

    triangle = _Triangle(graph, centre, width)
    positions = graph.add("Sub", [count, start])
    last = graph.add("Sub", [extent, graph.real(1.0)])
    beyond = np.arange(1.0, _MOST_OUTSIDE + 1)
    left = triangle.total(graph.real(-beyond))
    right = triangle.total(graph.add("Add", [last, graph.real(beyond)]))
    none = graph.real(0.0)
    shown = graph.add(
        "And",
        [
            graph.add("GreaterOrEqual", [positions, none]),
            graph.add("LessOrEqual", [positions, last]),
        ],
    )
    weights = graph.add("Where", [shown, triangle.at(positions), none])
    for border, weight in ((none, left), (last, right)):
        at = graph.add("Equal", [positions, border])
        weights = graph.add("Add", [weights, graph.add("Where", [at, weight, none])])
    counting = graph.add("Where", [is_high, weights, none]) if is_high else weights
    total = graph.add("ReduceSum", [counting, *graph.numbers([1])], keepdims=1)
    return graph.add("Div", [graph.add("Mul", [weights, level]) if level else weights, total])


@dataclass(frozen=True, slots=True)
class _Triangle:
    """swscale's bilinear filter: 1 at the centre, 0 from a width away."""

    graph: _Graph
    centre: str
    width: str

    def at(self, positions: str) -> str:
        """Return the filter's values at positions."""
        add = self.graph.add
        distance = add("Abs", [add("Sub", [positions, self.centre])])
        return add("Relu", [add("Sub", [self.graph.real(1.0), add("Div", [distance, self.width])])])

    def total(self, positions: str) -> str:
        """Return the sum of the values at positions."""
        return self.graph.add("ReduceSum", [self.at(positions), *self.graph.numbers([1])], keepdims=1)


def _rgb(graph: _Graph, planes: Sequence[str]) -> str:
    """Return (N, size, size, 3) of three (N, size, size) planes; float32, rounded, 0 to 255."""
    by_column = [
        graph.add("Squeeze", [graph.add("Slice", ["colour", *graph.numbers([i], [i + 1], [1])]), *one])
        for i, one in enumerate([graph.numbers([1])] * 4)
    ]
    total = by_column[3]
    for plane, weights in zip(planes, by_column, strict=False):
        value = graph.add("Unsqueeze", [plane, *graph.numbers([3])])
        total = graph.add("Add", [total, graph.add("Mul", [value, weights])])
    clipped = graph.add("Clip", [total, graph.real(0.0), graph.real(255.0)])
    return _rounded(graph, clipped)


def _turned(graph: _Graph, picture: str) -> str:
    far = int(np.iinfo(np.int64).min)
    for place in range(3):
        requested = graph.add("Slice", ["turn", *graph.numbers([place], [place + 1], [0])])
        if place == 0:
            other = graph.add("Transpose", [picture], perm=[0, 2, 1, 3])
        else:
            other = graph.add("Slice", [picture, *graph.numbers([-1], [far], [place], [-1])])
        picture = graph.add("Where", [graph.add("Greater", [requested, graph.real(0.5)]), other, picture])
    return picture
