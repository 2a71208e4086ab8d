"""The INT8 graph for TensorRT: what convolutions and sums read is quantised, the rest of the body is FP16."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnx

from tsm_export.graphs.index import GraphIndex
from tsm_export.quantization.graph_writer import GraphWriter
from tsm_export.quantization.layers import Layer
from tsm_export.quantization.network import Network
from tsm_export.quantization.ranges import Grid
from tsm_export.quantization.weights import common_scale, round_weights


def stored_in_tensorrt(index: GraphIndex, layers: Sequence[Layer]) -> set[str]:
    """Return the float tensors of which 8 bits are stored: inputs of convolutions, one addend of each sum.

    What is shifted is stored before the shift too, on the same grid, so that bytes are moved. The other
    addend comes out of a convolution, and stays as that makes it: TensorRT lets the convolution add the
    stored one and give 8 bits. Storing both would end the convolution before the sum.
    """
    stored = {index.source(layer.inputs[0]) for layer in layers if layer.is_convolution}
    made = {name: i for i, node in enumerate(index.nodes) for name in node.output}
    for layer in layers:
        if not layer.is_convolution and not stored.intersection(layer.inputs):
            stored.add(min(layer.inputs, key=lambda name: made.get(name, -1)))
    return stored


class TensorrtWriter(GraphWriter):
    """Writes each convolution with int8 weights of one scale, and the scale per channel behind it.

    Behind the convolution, as a batch normalisation that also adds the bias, TensorRT takes it into the
    convolution, and TensorRT for RTX lets the convolution give FP16, where a scale per channel of the
    weights makes it give FP32.

    Args:
        network: the graph.
        layers: those of `network.layers` that are quantised.
        grid: see `GraphWriter`.
    """

    def __init__(self, network: Network, layers: Sequence[Layer], grid: Callable[[str], Grid]) -> None:
        by_output = {layer.node.output[0]: layer for layer in layers}
        super().__init__(network, by_output, grid, stored_in_tensorrt(network.index, layers))

    def _write_layer(self, layer: Layer) -> None:
        if layer.is_convolution:
            self._write_convolution(layer)
        else:
            stored = self.stored
            self._copy(
                layer.node, [self._dequantised(name) if name in stored else name for name in layer.inputs]
            )

    def _write_other(self, node: onnx.NodeProto) -> None:
        self._copy(node, [self._read(name, node) for name in node.input])

    def _make_stored(self, name: str) -> str:
        return self._quantised(name, name)

    def _write_convolution(self, layer: Layer) -> None:
        weight, *biases = layer.node.input[1:]
        values = self.index.array(weight).astype(np.float64)
        scale, factors = common_scale(values)
        pixels = self._dequantised(layer.inputs[0])
        stored = self._stored_constant(weight, round_weights(values, scale * factors), np.asarray(scale))
        made = layer.node.output[0]
        self._copy(layer.node, [pixels, stored])
        self.nodes[-1].output[:] = [f"{made}.unscaled"]
        bias = self.index.array(biases[0]) if biases else np.zeros(len(values), np.float32)
        self._write_scale(weight, f"{made}.unscaled", factors, bias, made)

    def _write_scale(
        self,
        name: str,
        read: str,
        factors: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        made: str,
    ) -> None:
        inputs = [
            read,
            self._constant(f"{name}.factors", factors),
            self._constant(f"{name}.bias", bias),
            self._constant(f"zeros.{len(factors)}", np.zeros_like(factors)),
            self._constant(f"ones.{len(factors)}", np.ones_like(factors)),
        ]
        self._add("BatchNormalization", inputs, made, epsilon=0.0)
