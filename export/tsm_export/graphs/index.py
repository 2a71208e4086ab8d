"""Look-ups in an ONNX graph: the node that makes a tensor, its readers, the tensor that it copies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy.typing as npt
import onnx
from onnx import numpy_helper

_MOVED_INPUTS: dict[str, tuple[int, ...]] = {
    "Expand": (0,),
    "Flatten": (0,),
    "Gather": (0,),
    "Identity": (0,),
    "Pad": (0,),
    "Reshape": (0,),
    "Slice": (0,),
    "Split": (0,),
    "Squeeze": (0,),
    "Transpose": (0,),
    "Unsqueeze": (0,),
    "Where": (1, 2),
}
"""Operators whose outputs hold values of these inputs, or zeros, and nothing else."""

MOVING = frozenset({"Concat", "MaxPool", *_MOVED_INPUTS})
"""Operators that a tensor can pass through in 8 bits without any change of its grid."""


class GraphIndex:
    """Nodes and constants of a model by name; the model is not changed.

    Args:
        data: an ONNX file.
    """

    def __init__(self, data: bytes) -> None:
        self.model = onnx.load_from_string(data)
        graph = self.model.graph
        self.nodes = list(graph.node)
        self.inputs = tuple(value.name for value in graph.input)
        self.outputs = tuple(value.name for value in graph.output)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.producers = {name: node for node in self.nodes for name in node.output if name}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.activations = self._find_activations()
        self._values = {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}

    def array(self, name: str) -> npt.NDArray[Any]:
        """Return the values of a constant."""
        return numpy_helper.to_array(self.constants[name])

    def sizes(self, name: str) -> tuple[int, ...]:
        """Return the sizes of a tensor behind its batch axis; 0 where one is not known.

        Raises:
            KeyError: nothing is known of the tensor.
        """
        return tuple(int(size.dim_value) for size in self._values[name].type.tensor_type.shape.dim[1:])

    @property
    def logits(self) -> tuple[str, ...]:
        """Names of the logits behind the outputs, one for each output."""
        makers = [self.producers.get(name) for name in self.outputs]
        return tuple(
            node.input[0] if node is not None and node.op_type in ("Softmax", "Sigmoid") else name
            for name, node in zip(self.outputs, makers, strict=True)
        )

    def source(self, name: str) -> str:
        """Return the tensor whose values this one holds, moved and among zeros, or the tensor itself.

        Looks back through operators that only move values, such as those of a temporal shift.
        """
        found = self._sources(name)
        return found.pop() if len(found) == 1 else name

    def _sources(self, name: str) -> set[str]:
        node = self.producers.get(name)
        if node is None or (node.op_type != "Concat" and node.op_type not in _MOVED_INPUTS):
            return {name}
        places = _MOVED_INPUTS.get(node.op_type, range(len(node.input)))
        moved = [node.input[place] for place in places if node.input[place] in self.activations]
        return set().union(*(self._sources(each) for each in moved))

    def _find_activations(self) -> set[str]:
        """Return the tensors that depend on the model's input by its values, not by its shape alone."""
        found = set(self.inputs)
        for node in self.nodes:
            if node.op_type not in ("Shape", "Size") and found.intersection(node.input):
                found.update(node.output)
        return found


def needed_nodes(
    nodes: Iterable[onnx.NodeProto], outputs: Iterable[str], given: Iterable[str] = ()
) -> list[onnx.NodeProto]:
    """Return the nodes that outputs depend on, in their order, when `given` tensors need not be made."""
    have, wanted = set(given), set(outputs)
    kept: list[onnx.NodeProto] = []
    for node in reversed(list(nodes)):
        if any(name in wanted and name not in have for name in node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]
