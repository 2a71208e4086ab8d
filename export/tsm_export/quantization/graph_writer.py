"""Writing a graph with explicit quantisation: the part that is the same for all targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from tsm_export.graphs.index import MOVING, needed_nodes
from tsm_export.quantization.layers import Layer
from tsm_export.quantization.network import Network
from tsm_export.quantization.ranges import Grid


class GraphWriter(ABC):
    """Walks a graph in its order and writes the nodes of the new one.

    Args:
        network: the graph.
        layers: those of `network.layers` that are quantised, by the first output of their operator.
        grid: of a tensor that is stored, or that only moves the values of one.
        stored: tensors of which 8 bits are stored.
    """

    def __init__(
        self,
        network: Network,
        layers: Mapping[str, Layer],
        grid: Callable[[str], Grid],
        stored: Collection[str],
    ) -> None:
        self.network = network
        self.index = network.index
        self.layers = layers
        self.grid = grid
        self.stored = stored
        self.nodes: list[onnx.NodeProto] = []
        self.constants = dict(self.index.constants)
        self.eight_bits: dict[str, str] = {}
        """Name of the 8-bit tensor by that of the float tensor."""
        self.restored: dict[str, str] = {}
        """Name of the dequantised tensor by that of the float tensor."""

    def write(self) -> onnx.ModelProto:
        """Return the quantised graph."""
        for node in self.index.nodes:
            layer = self.layers.get(node.output[0])
            if layer is not None:
                self._write_layer(layer)
            else:
                self._write_other(node)
        return self._model()

    @abstractmethod
    def _write_layer(self, layer: Layer) -> None:
        """Write a layer that is quantised."""

    @abstractmethod
    def _write_other(self, node: onnx.NodeProto) -> None:
        """Write a node that is no quantised layer."""

    @abstractmethod
    def _make_stored(self, name: str) -> str:
        """Write the 8-bit tensor of a float tensor that no quantised layer made; return its name."""

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

    # --- tensors ---------------------------------------------------------------------------------

    def _read(self, name: str, reader: onnx.NodeProto) -> str:
        """Return what a node reads that is no quantised layer: what only moves values moves 8 bits."""
        return self._dequantised(name) if name in self.stored and reader.op_type in MOVING else name

    def _dequantised(self, name: str) -> str:
        if name not in self.restored:
            self.restored[name] = f"{name}.dequantized"
            inputs = [self._stored(name), *self._grid_inputs(name)]
            self._add("DequantizeLinear", inputs, self.restored[name])
        return self.restored[name]

    def _stored(self, name: str) -> str:
        """Return the 8-bit tensor of a float tensor; it is written now, if no quantised layer made it."""
        if name not in self.eight_bits:
            self.eight_bits[name] = self._make_stored(name)
        return self.eight_bits[name]

    def _quantised(self, name: str, made: str) -> str:
        """Write a float tensor on the grid of another, which it is or becomes."""
        self._add("QuantizeLinear", [made, *self._grid_inputs(name)], f"{made}.quantized")
        return f"{made}.quantized"

    def _grid_inputs(self, name: str) -> list[str]:
        """Return the names of the scale and zero point of a tensor."""
        source = self.index.source(name)
        return self._grid_constants(source, self.grid(source))

    def _grid_constants(self, name: str, grid: Grid) -> list[str]:
        return [
            self._constant(f"{name}.scale", grid.scale),
            self._constant(f"{name}.zero_point", grid.dtype(grid.zero_point)),
        ]

    # --- nodes and constants ---------------------------------------------------------------------

    def _constant(self, name: str, values: npt.ArrayLike) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def _stored_constant(self, name: str, values: npt.NDArray[Any], scales: npt.NDArray[np.float32]) -> str:
        """Write an integer constant with one scale, or one for each entry of its first axis.

        Returns:
            The name of the dequantised constant.
        """
        inputs = [
            self._constant(f"{name}.quantized", values),
            self._constant(f"{name}.scale", scales),
            self._constant(f"{name}.zero_point", np.zeros(scales.shape, values.dtype)),
        ]
        axis = {"axis": 0} if scales.ndim else {}
        self._add("DequantizeLinear", inputs, f"{name}.dequantized", **axis)
        return f"{name}.dequantized"

    def _add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))

    def _copy(self, node: onnx.NodeProto, inputs: Sequence[str]) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = inputs
        self.nodes.append(copy)
