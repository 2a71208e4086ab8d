"""Writing a graph with explicit quantisation for one target."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx

from tsm_export.graphs.half import to_half
from tsm_export.graphs.index import GraphIndex
from tsm_export.quantization.cpu_form import CpuWriter, stored_on_cpu
from tsm_export.quantization.layers import Layer
from tsm_export.quantization.network import Network
from tsm_export.quantization.ranges import Grid, Target
from tsm_export.quantization.tensorrt_form import TensorrtWriter, stored_in_tensorrt


def stored_tensors(index: GraphIndex, layers: Sequence[Layer], target: Target) -> set[str]:
    """Return the float tensors of which 8 bits are stored, when these layers are quantised."""
    return stored_on_cpu(index, layers) if target == "cpu" else stored_in_tensorrt(index, layers)


def write_quantized(
    network: Network, layers: Sequence[Layer], grid: Callable[[str], Grid], target: Target
) -> bytes:
    """Return the graph with these layers quantised.

    All other layers stay float32 for the CPU; for TensorRT the body of the network is FP16, see `to_half`.

    Args:
        network: the graph.
        layers: those of `network.layers` that are quantised.
        grid: of a tensor that `stored_tensors` names, or that only moves the values of one.
        target: see `ranges.Target`.

    Raises:
        CheckError: for TensorRT, a weight is too large for half precision.
    """
    if target == "trt":
        return to_half(_serialized(TensorrtWriter(network, layers, grid).write()))
    model = CpuWriter(network, layers, grid).write()
    onnx.checker.check_model(model, full_check=True)
    return _serialized(model)


def _serialized(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))
