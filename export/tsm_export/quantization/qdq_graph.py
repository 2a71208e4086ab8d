"""Writing a graph with explicit quantisation: which tensors are stored in 8 bits, and the nodes for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from tsm_export.graphs.index import MOVING, GraphIndex, needed_nodes
from tsm_export.quantization.layers import Layer
from tsm_export.quantization.ranges import Grid, Target
from tsm_export.quantization.recognise import Normalisation, Shift
from tsm_export.quantization.stored_parts import StoredPart, stored_shift
from tsm_export.quantization.stored_stem import plan_stem, stored_outputs, stored_pixels
from tsm_export.quantization.weights import round_paired_weights, round_weights, weight_scales
from tsm_runtime.backends.onnxruntime import FITS_16_BITS

_INT32_MAX = 2**31 - 1
_CLIP_SLACK = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Facts of a graph that is to be quantised.

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
        self._grid = grid
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
            elif self._pools_stored(node):
                self._write_pooling(node)
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
        if self.target == "cpu":
            helper.set_model_props(model, {FITS_16_BITS: "1"})
        return model

    # --- layers ----------------------------------------------------------------------------------

    def _write_layer(self, layer: Layer) -> None:
        pixels = self.network.pixels
        if self.target == "cpu" and pixels is not None and layer.inputs[0] == pixels[0]:
            self._write_stem(layer, pixels[1])
            return
        if layer.is_convolution:
            inputs = [self._dequantised(layer.inputs[0]), *self._weights(layer)]
        else:
            inputs = [self._addend(name) for name in layer.inputs]
        self._copy(layer.node, inputs)
        if layer.output in self.made_stored:
            made = self._activated(layer, layer.node.output[0])
            self.eight_bits[layer.output] = self._quantised(layer.output, made)

    def _write_stem(self, layer: Layer, normalisation: Normalisation) -> None:
        """Write the first convolution such that it reads the frames' bytes."""
        weight, *biases = layer.node.input[1:]
        stem = plan_stem(layer.node, self.index.array(weight), normalisation)
        name, made = f"{layer.inputs[0]}.centred", f"{layer.node.output[0]}.columns"
        grid_inputs = self._grid_constants(name, stem.grid)
        pixels = self._take(name, stored_pixels(stem, self.index.inputs[0], grid_inputs))
        self._add("DequantizeLinear", [pixels, *grid_inputs], f"{name}.dequantized")
        bias = np.tile(self.index.array(biases[0]), stem.outputs_at_once) if biases else None
        weights = self._stored_weights(weight, stem.weight, bias, float(stem.grid.scale))
        self._add("Conv", [f"{name}.dequantized", *weights], made, **stem.attributes)
        stored = self._quantised(layer.output, self._activated(layer, made))
        self.eight_bits[layer.output] = (
            self._take(layer.output, stored_outputs(stem, stored)) if stem.outputs_at_once > 1 else stored
        )

    def _pools_stored(self, node: onnx.NodeProto) -> bool:
        """Return whether a node averages a quantised layer's output over space, for the CPU."""
        if self.target != "cpu" or node.op_type != "ReduceMean" or len(node.input) < 2:
            return False
        keeps = next((each.i for each in node.attribute if each.name == "keepdims"), 1)
        known = node.input[0] in self.made_stored and node.input[1] in self.index.constants
        return known and not keeps and sorted(self.index.array(node.input[1]).tolist()) == [2, 3]

    def _write_pooling(self, node: onnx.NodeProto) -> None:
        """Write a pooling that reads channels last, as onnxruntime's integer convolution leaves them."""
        name = f"{node.output[0]}.pixels"
        self._add("Transpose", [self._stored(node.input[0])], name, perm=[0, 2, 3, 1])
        self._add("DequantizeLinear", [name, *self._grid_inputs(node.input[0])], f"{name}.dequantized")
        axes = self._constant("height_and_width", np.array([1, 2]))
        self._add("ReduceMean", [f"{name}.dequantized", axes], node.output[0], keepdims=0)

    def _activated(self, layer: Layer, made: str) -> str:
        """Return what a layer made after its activation, written where the grid does not imply it."""
        if layer.activation is None or self._is_implied(layer):
            return made
        self._copy(layer.activation, [made, *layer.activation.input[1:]])
        self.nodes[-1].output[:] = [f"{made}.activated"]
        return f"{made}.activated"

    def _addend(self, name: str) -> str:
        if self.target == "cpu" or name in self.stored:
            return self._dequantised(name)
        return name

    def _is_implied(self, layer: Layer) -> bool:
        """Return whether rounding to the grid also applies the limits of the activation."""
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
        """Write weights and bias of a convolution; return what to read."""
        weight, *biases = layer.node.input[1:]
        bias = self.index.array(biases[0]) if biases else None
        scale = float(self._grid(self.index.source(layer.inputs[0])).scale)
        read = self._stored_weights(weight, self.index.array(weight), bias, scale)
        return read if self.target == "cpu" else [*read, *biases]

    def _stored_weights(
        self,
        name: str,
        values: npt.NDArray[Any],
        bias: npt.NDArray[Any] | None,
        input_scale: float,
    ) -> list[str]:
        """Write weights as int8 with a scale per output channel; for the CPU also the bias, as int32.

        Kernels of the CPU add pairs of products in 16 bits, except those that sum over space alone.
        """
        offsets = np.zeros(len(values)) if bias is None else bias.astype(np.float64)
        scales = weight_scales(values.astype(np.float64), offsets, input_scale)
        if self.target == "cpu" and values.shape[1] > 1:
            stored, scales = round_paired_weights(values.astype(np.float64), scales)
        else:
            stored = round_weights(values.astype(np.float64), scales)
        read = [self._stored_constant(name, stored, scales)]
        if self.target == "trt":  # its parser takes no 32-bit bias
            return read
        bias_scales = (input_scale * scales.astype(np.float64)).astype(np.float32)
        steps = np.clip(np.round(offsets / bias_scales), -_INT32_MAX, _INT32_MAX)
        return [*read, self._stored_constant(f"{name}.bias", steps.astype(np.int32), bias_scales)]

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
        shift = self.network.shifts.get(name)
        if self.target == "cpu" and shift is not None:
            source = self._stored(self.index.source(name))
            self.eight_bits[name] = self._take(name, stored_shift(shift, source, self._grid_inputs(name)))
        else:
            self.eight_bits[name] = self._quantised(name, name)
        return self.eight_bits[name]

    def _quantised(self, name: str, made: str) -> str:
        """Write a float tensor on the grid of another, which it is or becomes."""
        self._add("QuantizeLinear", [made, *self._grid_inputs(name)], f"{made}.quantized")
        return f"{made}.quantized"

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
        return str(self.nodes[-1].output[0])

    def _grid_inputs(self, name: str) -> list[str]:
        """Return the names of the scale and zero point of a tensor."""
        source = self.index.source(name)
        return self._grid_constants(source, self._grid(source))

    def _grid_constants(self, name: str, grid: Grid) -> list[str]:
        return [
            self._constant(f"{name}.scale", grid.scale),
            self._constant(f"{name}.zero_point", grid.dtype(grid.zero_point)),
        ]

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
