"""A graph whose shift copies a quarter of the channels instead of all: for residual nets on a CPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

_LANES = 16
"""Channels of a block in onnxruntime's own layout (AVX-512); parts that are no multiple would be padded."""

_PER_CHANNEL = ("Relu", "Clip", "Add")
"""Operators of which each output channel needs the same channel of the inputs, and nothing else."""

_Parts = tuple[str, str]


def separate_moved_channels(data: bytes) -> bytes:
    """Keep the channels that a shift moves in tensors of their own, apart from those that stay.

    Before: the block's input x is split, a quarter of its channels moves by a frame, all are joined again,
    and a convolution reads them. onnxruntime's CPU convolutions have a memory layout of their own, so that x
    is also converted to the plain layout and back: four passes over all of it.

    After: whatever makes x (the convolution that ends a block, the addition, the activation) makes its two
    parts as two tensors, by the same arithmetic on slices of the same weights. The shift reads and writes the
    moved part only, and the convolution after it becomes the sum of two, which onnxruntime computes in one
    pass each. Only shifts whose parts fill whole blocks of the layout, and whose convolution does not widen,
    are rewritten: others gain nothing (mobilenet_v2 and efficientnet_lite0 come back as they are).

    Args:
        data: an ONNX file as `onnx_export.export_fp32` writes it, batch normalisation folded.

    Returns:
        An ONNX file with the same inputs and outputs, equal up to the order of sums.
    """
    model = onnx.load_from_string(data)
    rewriter = _Rewriter(model.graph)
    if not rewriter.shifts:
        return data
    rewriter.rewrite()
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


@dataclass(frozen=True, slots=True)
class _Shift:
    """The channels [0, num_moved) of a tensor leave by `split`, those above come back unchanged in `join`."""

    split: onnx.NodeProto
    join: onnx.NodeProto
    sizes: tuple[int, ...]

    @property
    def num_moved(self) -> int:
        return sum(self.sizes[:-1])


class _Rewriter:
    """Walks a graph in its order and writes the nodes of the new one.

    `parts` holds, for each tensor that is kept in two, the names of its moved and of its still channels.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.shapes = {value.name: value for value in graph.value_info}
        self.producers = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.num_moved: dict[str, int] = {}
        found = list(self._find_shifts())
        self.shifts = {s.split.input[0]: s for s in found if self._mark(s.split.input[0], s.num_moved)}
        self.joins = {shift.join.output[0]: shift for shift in self.shifts.values()}
        self.parts: dict[str, _Parts] = {}
        self.nodes: list[onnx.NodeProto] = []

    # --- tensors in two parts ---------------------------------------------------------------------

    def _find_shifts(self) -> Iterator[_Shift]:
        for node in self.graph.node:
            if (
                node.op_type != "Split"
                or _attribute(node, "axis", 0) != 1
                or node.input[1] not in self.weights
            ):
                continue
            readers = self.readers.get(node.output[-1], [])
            sizes = tuple(int(size) for size in self._weight(node.input[1]))
            if len(readers) == 1 and self._is_join(readers[0], node.output[-1]):
                shift = _Shift(node, readers[0], sizes)
                if self._gains(shift):
                    yield shift

    def _is_join(self, node: onnx.NodeProto, still: str) -> bool:
        return node.op_type == "Concat" and _attribute(node, "axis", 0) == 1 and node.input[-1] == still

    def _gains(self, shift: _Shift) -> bool:
        """Return whether both parts fill blocks, and the convolution's output is no wider than its input."""
        if shift.num_moved % _LANES or shift.sizes[-1] % _LANES:
            return False
        readers = self.readers.get(shift.join.output[0], [])
        return bool(readers) and all(
            self._is_dense(node) and len(self._weight(node.input[1])) <= sum(shift.sizes) for node in readers
        )

    def _mark(self, name: str, num_moved: int) -> bool:
        """Return whether a tensor can be computed in two parts; if so, record it and its inputs."""
        if name in self.num_moved:
            return self.num_moved[name] == num_moved
        node = self.producers.get(name)
        if node is None:
            return False
        if not self._is_dense(node):
            made_of = list(node.input) if node.op_type == "Add" else list(node.input[:1])
            if node.op_type not in _PER_CHANNEL or not all(self._mark(n, num_moved) for n in made_of):
                return False
        self.num_moved[name] = num_moved
        return True

    def _is_dense(self, node: onnx.NodeProto) -> bool:
        return node.op_type == "Conv" and _attribute(node, "group", 1) == 1 and node.input[1] in self.weights

    # --- the new graph ---------------------------------------------------------------------------

    def rewrite(self) -> None:
        for node in list(self.graph.node):
            self._rewrite_node(node)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        read = {name for node in self.nodes for name in node.input}
        del self.graph.initializer[:]
        self.graph.initializer.extend(t for name, t in self.weights.items() if name in read)

    def _rewrite_node(self, node: onnx.NodeProto) -> None:
        output = node.output[0]
        if node.op_type == "Split" and node.input[0] in self.shifts:
            self._split_moved(node)
        elif output in self.joins:
            self._join_moved(node)
        elif output in self.num_moved:
            self._make_apart(node)
        elif self._is_dense(node) and node.input[0] in self.parts:
            self._convolve(node, output, slice(None))
        else:
            for name in node.input:
                self._join(name)
            self.nodes.append(node)

    def _split_moved(self, node: onnx.NodeProto) -> None:
        sizes = self.shifts[node.input[0]].sizes[:-1]
        moved = self.parts[node.input[0]][0]
        if len(sizes) == 1:
            self._add("Identity", [moved], node.output[0])
            return
        given = self._store(f"{node.output[0]}.sizes", np.array(sizes, np.int64))
        split = helper.make_node("Split", [moved, given], node.output[:-1], f"{moved}.split", axis=1)
        self.nodes.append(split)

    def _join_moved(self, node: onnx.NodeProto) -> None:
        output, moved = node.output[0], list(node.input[:-1])
        shift = self.joins[output]
        if len(moved) > 1:
            moved = [self._named(output, "moved", shift.num_moved)]
            self._add("Concat", node.input[:-1], moved[0], axis=1)
        self.parts[output] = moved[0], self.parts[shift.split.input[0]][1]

    def _make_apart(self, node: onnx.NodeProto) -> None:
        name = node.output[0]
        k, channels = self.num_moved[name], self._num_channels(name)
        parts = (self._named(name, "moved", k), self._named(name, "still", channels - k))
        for number, (part, rows) in enumerate(zip(parts, (slice(0, k), slice(k, None)), strict=True)):
            if node.op_type == "Conv":
                self._convolve(node, part, rows)
            else:
                inputs = [self.parts[n][number] if n in self.parts else n for n in node.input]
                self._copy(node, inputs, part)
        self.parts[name] = parts

    def _convolve(self, node: onnx.NodeProto, output: str, rows: slice) -> None:
        """Write a convolution for some output channels; the sum of two where its input is in two parts."""
        source, weight, *bias = node.input
        values = self._weight(weight)[rows]
        biases = [self._store(f"{output}.bias", self._weight(name)[rows]) for name in bias]
        if source not in self.parts:
            self._copy(node, [source, self._store(f"{output}.weight", values), *biases], output)
            return
        moved, still = self.parts[source]
        k = values.shape[1] - self._num_channels(still)
        of_still = self._named(node.output[0], f"of_still_{len(self.nodes)}", len(values))
        of_moved = self._named(node.output[0], f"of_moved_{len(self.nodes)}", len(values))
        self._copy(node, [still, self._store(f"{of_still}.weight", values[:, k:]), *biases], of_still)
        self._copy(node, [moved, self._store(f"{of_moved}.weight", values[:, :k])], of_moved)
        self._add("Add", [of_still, of_moved], output)

    def _join(self, name: str) -> None:
        """Write the whole tensor once, for a reader that cannot take its parts."""
        if name in self.parts and all(name not in node.output for node in self.nodes):
            self._add("Concat", self.parts[name], name, axis=1)

    # --- small things ----------------------------------------------------------------------------

    def _weight(self, name: str) -> npt.NDArray[np.generic]:
        return numpy_helper.to_array(self.weights[name])

    def _store(self, name: str, values: npt.NDArray[np.generic]) -> str:
        self.weights[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def _add(self, kind: str, inputs: Iterable[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))

    def _copy(self, node: onnx.NodeProto, inputs: Iterable[str], output: str) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = output
        copy.input[:] = inputs
        copy.output[:] = [output]
        self.nodes.append(copy)

    def _num_channels(self, name: str) -> int:
        return int(self.shapes[name].type.tensor_type.shape.dim[1].dim_value)

    def _named(self, name: str, part: str, num_channels: int) -> str:
        """Return the name of a part and record its shape, which is needed to compare tensors."""
        value = onnx.ValueInfoProto()
        value.CopyFrom(self.shapes[name])
        value.name = f"{name}.{part}"
        value.type.tensor_type.shape.dim[1].dim_value = num_channels
        self.shapes[value.name] = value
        self.graph.value_info.append(value)
        return value.name


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)
