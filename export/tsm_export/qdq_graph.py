"""Writing a graph with explicit quantisation: which tensors are stored in 8 bits, and the nodes for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from tsm_export.graph_index import MOVING, GraphIndex, needed_nodes
from tsm_export.layers import Layer
from tsm_export.ranges import Grid, Target
from tsm_export.recognise import Normalisation, Shift
from tsm_export.stored_parts import StoredPart, exact_grid, stored_pixels, stored_shift

__all__ = ["Network", "stored_tensors", "weight_scales", "write_quantized"]

_INT32_MAX = 2**31 - 1
_CLIP_SLACK = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What is known of a graph that is to be quantised.

    Args:
        index: the fp32 graph.
        layers: all that can be quantised, in the graph's order.
        shifts: temporal shifts, by the tensor that they make.
        pixels: the tensor of normalised pixels, and the normalisation; None where it was not recognised.
    """

    index: GraphIndex
    layers: tuple[Layer, ...]
    shifts: Mapping[str, Shift]
    pixels: tuple[str, Normalisation] | None


def stored_tensors(index: GraphIndex, layers: Sequence[Layer], target: Target) -> set[str]:
    """Return the float tensors of which 8 bits are stored, when these layers are quantised.

    Both targets: what convolutions read (before it is shifted, if it is). `cpu`: also what quantised layers
    give, as onnxruntime computes in integers between a dequantised input and a quantised output only. `trt`:
    also one of the two inputs of an addition; the other comes out of a convolution, which adds in passing.
    """
    stored = {index.source(layer.inputs[0]) for layer in layers if layer.is_convolution}
    sums = [layer for layer in layers if not layer.is_convolution]
    if target == "cpu":
        stored |= {layer.output for layer in layers}
        stored |= {index.source(name) for layer in sums for name in layer.inputs}
        return stored
    made = {name: i for i, node in enumerate(index.nodes) for name in node.output}
    for layer in sums:
        if not stored.intersection(layer.inputs):
            stored.add(min(layer.inputs, key=lambda name: made.get(name, -1)))
    return stored


def write_quantized(
    network: Network, layers: Sequence[Layer], grid: Callable[[str], Grid], target: Target
) -> bytes:
    """Return the graph with these layers quantised; all others stay float32.

    Args:
        network: the graph.
        layers: those of `network.layers` that are quantised.
        grid: of a tensor that `stored_tensors` names, or that only moves the values of one.
        target: see `ranges.Target`.
    """
    writer = _Writer(network, layers, grid, target)
    model = writer.write()
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


class _Writer:
    """Walks a graph in its order and writes the nodes of the new one."""

    def __init__(
        self, network: Network, layers: Sequence[Layer], grid: Callable[[str], Grid], target: Target
    ) -> None:
        self.network = network
        self.index = network.index
        self.layers = {layer.node.output[0]: layer for layer in layers}
        self._given_grid = grid
        self.target = target
        self.stored = stored_tensors(self.index, layers, target)
        self.made_stored = {layer.output for layer in layers} if target == "cpu" else set()
        self.joined = {layer.output for layer in layers if layer.activation} & self.made_stored
        self.nodes: list[onnx.NodeProto] = []
        self.constants = dict(self.index.constants)
        self.eight_bits: dict[str, str] = {}
        """Name of the 8-bit tensor by that of the float tensor."""
        self.restored: dict[str, str] = {}
        """Name of the dequantised tensor by that of the float tensor."""

    def write(self) -> onnx.ModelProto:
        for node in self.index.nodes:
            layer = self.layers.get(node.output[0])
            if layer is not None:
                self._write_layer(layer)
            elif node.output[0] not in self.joined:  # those were written with their layer
                self._copy(node, [self._read(name, node) for name in node.input])
        return self._model()

    def _model(self) -> onnx.ModelProto:
        model = onnx.ModelProto()
        model.CopyFrom(self.index.model)
        graph = model.graph
        nodes = needed_nodes(self.nodes, self.index.outputs)
        read = dict.fromkeys(name for node in nodes for name in node.input)
        made = {name for node in nodes for name in node.output}
        values = [value for value in graph.value_info if value.name in made]
        for part in (graph.node, graph.initializer, graph.value_info):
            del part[:]
        graph.node.extend(nodes)
        graph.initializer.extend(self.constants[name] for name in read if name in self.constants)
        graph.value_info.extend(values)
        return model

    # --- layers ----------------------------------------------------------------------------------

    def _write_layer(self, layer: Layer) -> None:
        if layer.is_convolution:
            inputs = [self._dequantised(layer.inputs[0]), *self._weights(layer)]
        else:
            inputs = [self._addend(name) for name in layer.inputs]
        self._copy(layer.node, inputs)
        if layer.output not in self.made_stored:
            return
        made = layer.node.output[0]
        if layer.activation is not None and not self._is_implied(layer):
            self._copy(layer.activation, layer.activation.input)
            made = layer.output
        self._quantise(layer.output, made)

    def _addend(self, name: str) -> str:
        if self.target == "cpu" or name in self.stored:
            return self._dequantised(name)
        return name

    def _is_implied(self, layer: Layer) -> bool:
        """Whether rounding to the grid cuts off all that the activation would."""
        activation, grid = layer.activation, self._grid(layer.output)
        if activation is None:
            return True
        low, high = 0.0, np.inf
        if activation.op_type == "Clip":
            given = [*activation.input[1:], "", ""][:2]
            low, high = (
                float(self.index.array(name)) if name else limit
                for name, limit in zip(given, (-np.inf, np.inf), strict=True)
            )
        slack = _CLIP_SLACK * (grid.highest - grid.lowest)
        return grid.lowest >= low - slack and grid.highest <= high + slack

    def _weights(self, layer: Layer) -> list[str]:
        """Write weights, int8 with a scale for each output channel, and the bias; return what to read."""
        weight, *biases = layer.node.input[1:]
        values = self.index.array(weight).astype(np.float64)
        bias = self.index.array(biases[0]).astype(np.float64) if biases else np.zeros(len(values))
        input_scale = float(self._grid(self.index.source(layer.inputs[0])).scale)
        scales = weight_scales(values, bias, input_scale)
        steps = np.round(values / scales.astype(np.float64).reshape(-1, *[1] * (values.ndim - 1)))
        read = [self._stored_constant(weight, np.clip(steps, -127, 127).astype(np.int8), scales)]
        if self.target == "trt":  # its parser takes no 32-bit bias
            return [*read, *biases]
        bias_scales = (input_scale * scales.astype(np.float64)).astype(np.float32)
        steps = np.clip(np.round(bias / bias_scales), -_INT32_MAX, _INT32_MAX)
        return [*read, self._stored_constant(f"{weight}.bias", steps.astype(np.int32), bias_scales)]

    # --- tensors ---------------------------------------------------------------------------------

    def _read(self, name: str, reader: onnx.NodeProto) -> str:
        """Return what a node that stays float32 reads: the float tensor, if there is one."""
        if name in self.made_stored or (name in self.stored and reader.op_type in MOVING):
            return self._dequantised(name)
        return name

    def _dequantised(self, name: str) -> str:
        if name not in self.restored:
            self.restored[name] = f"{name}.dequantized"
            inputs = [self._stored(name), *self._grid_inputs(name)]
            self._add("DequantizeLinear", inputs, self.restored[name])
        return self.restored[name]

    def _stored(self, name: str) -> str:
        """Return the 8-bit tensor of a float tensor; it is written now, if no quantised layer made it."""
        if name in self.eight_bits:
            return self.eight_bits[name]
        network, scale_and_zero = self.network, self._grid_inputs(name)
        if self.target == "cpu" and name in network.shifts:
            source = self._stored(self.index.source(name))
            return self._take(name, stored_shift(network.shifts[name], source, scale_and_zero[1]))
        if self.target == "cpu" and network.pixels is not None and name == network.pixels[0]:
            frames = self.index.inputs[0]
            return self._take(name, stored_pixels(network.pixels[1], frames, scale_and_zero))
        return self._quantise(name, name)

    def _quantise(self, name: str, made: str) -> str:
        self.eight_bits[name] = f"{name}.quantized"
        self._add("QuantizeLinear", [made, *self._grid_inputs(name)], self.eight_bits[name])
        return self.eight_bits[name]

    def _take(self, name: str, part: StoredPart) -> str:
        """Add nodes that work on stored values, under names that no other part has."""
        prefix = f"{name}.stored."
        for key, values in part.constants.items():
            self._constant(f"{prefix}{key}", values)
        own = {*part.constants, *(made for node in part.nodes for made in node.output)}
        for node in part.nodes:
            node.name = f"{prefix}{node.output[0]}"
            node.input[:] = [f"{prefix}{each}" if each in own else each for each in node.input]
            node.output[:] = [f"{prefix}{each}" for each in node.output]
            self.nodes.append(node)
        self.eight_bits[name] = self.nodes[-1].output[0]
        return self.eight_bits[name]

    def _grid_inputs(self, name: str) -> list[str]:
        """Return the names of scale and zero point."""
        source = self.index.source(name)
        grid = self._grid(source)
        return [
            self._constant(f"{source}.scale", grid.scale),
            self._constant(f"{source}.zero_point", grid.dtype(grid.zero_point)),
        ]

    def _grid(self, name: str) -> Grid:
        pixels = self.network.pixels
        if self.target == "cpu" and pixels is not None and name == pixels[0]:
            return exact_grid(pixels[1]) or self._given_grid(name)
        return self._given_grid(name)

    def _constant(self, name: str, values: npt.ArrayLike) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def _stored_constant(self, name: str, values: npt.NDArray[Any], scales: npt.NDArray[np.float32]) -> str:
        """Write an integer constant with a scale for each entry of its first axis; return what to read."""
        inputs = [
            self._constant(f"{name}.quantized", values),
            self._constant(f"{name}.scale", scales),
            self._constant(f"{name}.zero_point", np.zeros(len(scales), values.dtype)),
        ]
        self._add("DequantizeLinear", inputs, f"{name}.dequantized", axis=0)
        return f"{name}.dequantized"

    def _add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))

    def _copy(self, node: onnx.NodeProto, inputs: Sequence[str]) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = inputs
        self.nodes.append(copy)


def weight_scales(
    values: npt.NDArray[np.float64], bias: npt.NDArray[np.float64], input_scale: float
) -> npt.NDArray[np.float32]:
    """Return a scale per output channel: to the largest weight, and such that the bias fits into 32 bits."""
    largest = np.abs(values).reshape(len(values), -1).max(axis=1) / 127
    for_bias = np.abs(bias) / (input_scale * _INT32_MAX)
    scales = np.maximum(largest, for_bias).astype(np.float32)
    return np.where(scales < np.finfo(np.float32).tiny, np.float32(1), scales)
