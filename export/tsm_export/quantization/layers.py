"""The layers of a network that can be quantised, and the blocks they form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from tsm_export.graphs.index import GraphIndex

_ACTIVATIONS = ("Clip", "Relu")


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A convolution, or the addition that ends a residual block, with the activation that follows it.

    Args:
        name: of the weights without `.weight` (`model.backbone.layer1.0.conv1`); of an addition its output's.
        node: the operator.
        activation: the Relu or Clip that alone reads its output, if there is one.
        inputs: the activations that it reads.
        output: what it gives to others, after the activation.
    """

    name: str
    node: onnx.NodeProto
    activation: onnx.NodeProto | None
    inputs: tuple[str, ...]
    output: str

    @property
    def is_convolution(self) -> bool:
        """Whether the layer has weights."""
        return bool(self.node.op_type == "Conv")


def find_layers(index: GraphIndex) -> list[Layer]:
    """Return convolutions with constant weights, and additions of what they made, in the graph's order."""
    layers: list[Layer] = []
    for node in index.nodes:
        if node.op_type == "Conv" and all(name in index.constants for name in node.input[1:]):
            layers.append(_layer(index, node, node.input[1].removesuffix(".weight"), node.input[:1]))
        elif node.op_type == "Add" and layers and all(name in index.activations for name in node.input):
            layers.append(_layer(index, node, node.output[0], node.input))
    return layers


def _layer(index: GraphIndex, node: onnx.NodeProto, name: str, inputs: Sequence[str]) -> Layer:
    output = node.output[0]
    readers = index.readers.get(output, [])
    alone = len(readers) == 1 and output not in index.outputs
    activation = readers[0] if alone and readers[0].op_type in _ACTIVATIONS else None
    return Layer(name, node, activation, tuple(inputs), activation.output[0] if activation else output)


def find_blocks(index: GraphIndex, layers: Sequence[Layer]) -> list[tuple[Layer, ...]]:
    """Group layers into blocks: residual blocks, and runs of convolutions up to one without activation.

    A block ends where nothing but its last layer's output goes on, and that layer is an addition or has no
    activation. Left out as a whole, a block has no quantised value inside; a layer in the middle of a block
    would still read and give quantised values.
    """
    reaches = _earliest_inputs(index, layers)
    blocks: list[tuple[Layer, ...]] = []
    start = 0
    for i, layer in enumerate(layers):
        closed = all(earliest >= i for earliest in reaches[i + 1 :])
        is_end = not layer.is_convolution or layer.activation is None
        if i + 1 == len(layers) or (closed and is_end):
            blocks.append(tuple(layers[start : i + 1]))
            start = i + 1
    return blocks


def _earliest_inputs(index: GraphIndex, layers: Sequence[Layer]) -> list[int]:
    """Return for each layer the number of the earliest layer whose output reaches it past no other layer."""
    made: dict[str, int] = {}
    numbers = {layer.node.output[0]: i for i, layer in enumerate(layers)}
    earliest: list[int] = []
    for node in index.nodes:
        reached = min((made[name] for name in node.input if name in made), default=len(layers))
        number = numbers.get(node.output[0]) if node.output else None
        if number is not None:
            earliest.append(reached)
            reached = number
        if reached < len(layers):
            made.update((name, reached) for name in node.output)
    return earliest
