"""The INT8 graph for onnxruntime's CPU provider.

It computes in integers between a dequantised input and a quantised output only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from tsm_export.graphs.index import GraphIndex
from tsm_export.quantization.graph_writer import GraphWriter
from tsm_export.quantization.layers import Layer
from tsm_export.quantization.network import Network
from tsm_export.quantization.ranges import Grid
from tsm_export.quantization.recognise import Normalisation
from tsm_export.quantization.stored_parts import StoredPart, stored_shift
from tsm_export.quantization.stored_stem import plan_stem, stored_outputs, stored_pixels
from tsm_export.quantization.weights import round_paired_weights, round_weights, weight_scales
from tsm_runtime.backends.onnxruntime import FITS_16_BITS

_INT32_MAX = 2**31 - 1
_CLIP_SLACK = 1e-5


def stored_on_cpu(index: GraphIndex, layers: Sequence[Layer]) -> set[str]:
    """Return the float tensors of which 8 bits are stored: all that quantised layers read or give."""
    stored = {index.source(layer.inputs[0]) for layer in layers if layer.is_convolution}
    stored |= {layer.output for layer in layers}
    sums = [layer for layer in layers if not layer.is_convolution]
    return stored | {index.source(name) for layer in sums for name in layer.inputs}


class CpuWriter(GraphWriter):
    """Writes layers with their activation, the stem on bytes, and shift and pooling on stored values.

    Args:
        network: the graph.
        layers: those of `network.layers` that are quantised.
        grid: see `GraphWriter`.
    """

    def __init__(self, network: Network, layers: Sequence[Layer], grid: Callable[[str], Grid]) -> None:
        by_output = {layer.node.output[0]: layer for layer in layers}
        super().__init__(network, by_output, grid, stored_on_cpu(network.index, layers))
        self.made_stored = {layer.output for layer in layers}
        self.joined = {layer.output for layer in layers if layer.activation}

    def _model(self) -> onnx.ModelProto:
        model = super()._model()
        helper.set_model_props(model, {FITS_16_BITS: "1"})
        return model

    def _write_layer(self, layer: Layer) -> None:
        pixels = self.network.pixels
        if pixels is not None and layer.inputs[0] == pixels[0]:
            self._write_stem(layer, pixels[1])
            return
        if layer.is_convolution:
            inputs = [self._dequantised(layer.inputs[0]), *self._weights(layer)]
        else:
            inputs = [self._dequantised(name) for name in layer.inputs]
        self._copy(layer.node, inputs)
        made = self._activated(layer, layer.node.output[0])
        self.eight_bits[layer.output] = self._quantised(layer.output, made)

    def _write_other(self, node: onnx.NodeProto) -> None:
        if self._pools_stored(node):
            self._write_pooling(node)
        elif node.output[0] not in self.joined:  # those were written with their layer
            self._copy(node, [self._read(name, node) for name in node.input])

    def _read(self, name: str, reader: onnx.NodeProto) -> str:
        return self._dequantised(name) if name in self.made_stored else super()._read(name, reader)

    def _make_stored(self, name: str) -> str:
        shift = self.network.shifts.get(name)
        if shift is None:
            return self._quantised(name, name)
        source = self._stored(self.index.source(name))
        return self._take(name, stored_shift(shift, source, self._grid_inputs(name)))

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
        """Return whether a node averages a quantised layer's output over space."""
        if node.op_type != "ReduceMean" or len(node.input) < 2:
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

    def _is_implied(self, layer: Layer) -> bool:
        """Return whether rounding to the grid also applies the limits of the activation."""
        activation, grid = layer.activation, self.grid(layer.output)
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
        scale = float(self.grid(self.index.source(layer.inputs[0])).scale)
        return self._stored_weights(weight, self.index.array(weight), bias, scale)

    def _stored_weights(
        self, name: str, values: npt.NDArray[Any], bias: npt.NDArray[Any] | None, input_scale: float
    ) -> list[str]:
        """Write weights as int8 with a scale per output channel, and the bias as int32.

        Kernels add pairs of products in 16 bits, except those that sum over space alone.
        """
        offsets = np.zeros(len(values)) if bias is None else bias.astype(np.float64)
        scales = weight_scales(values.astype(np.float64), offsets, input_scale)
        if values.shape[1] > 1:
            stored, scales = round_paired_weights(values.astype(np.float64), scales)
        else:
            stored = round_weights(values.astype(np.float64), scales)
        bias_scales = (input_scale * scales.astype(np.float64)).astype(np.float32)
        steps = np.clip(np.round(offsets / bias_scales), -_INT32_MAX, _INT32_MAX)
        return [
            self._stored_constant(name, stored, scales),
            self._stored_constant(f"{name}.bias", steps.astype(np.int32), bias_scales),
        ]

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
