"""ONNX files on onnxruntime's CPU provider, whole or in part, for measuring what they compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from tsm_export.graphs.index import GraphIndex, needed_nodes

Clips = npt.NDArray[np.uint8]


def open_session(data: bytes, num_threads: int | None = None) -> Any:
    """Return an onnxruntime session.

    Args:
        data: an ONNX file.
        num_threads: default: all cores.
    """
    options = ort.SessionOptions()  # type: ignore[attr-defined]
    options.intra_op_num_threads = num_threads or 0
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(  # type: ignore[attr-defined]
        data, options, providers=["CPUExecutionProvider"]
    )


def tensors_of_clips(
    data: bytes, names: Sequence[str], clips: Clips, num_threads: int | None = None
) -> list[npt.NDArray[np.float32]]:
    """Return float32 tensors of a network, inner ones too, for all clips.

    The clips go in one by one, so that memory stays small.
    """
    model = onnx.load_from_string(data)
    outputs = model.graph.output
    stated = {value.name for value in outputs}
    outputs.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in stated
    )
    session = open_session(model.SerializeToString(), num_threads)
    frames = session.get_inputs()[0].name
    rows = [session.run(list(names), {frames: clips[i : i + 1]}) for i in range(len(clips))]
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def evaluate_part(
    index: GraphIndex, given: Mapping[str, npt.NDArray[Any]], output: str
) -> npt.NDArray[np.float32]:
    """Compute a tensor inside a graph from other tensors of it, which take the place of what makes them.

    Args:
        index: the graph.
        given: the model's input and float32 tensors by name.
        output: name of the wanted tensor.
    """
    nodes = needed_nodes(index.nodes, [output], given)
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "part",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(values.dtype), [None] * values.ndim
            )
            for name, values in given.items()
            if name in read
        ],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [tensor for name, tensor in index.constants.items() if name in read],
    )
    model = helper.make_model(
        graph, opset_imports=index.model.opset_import, ir_version=index.model.ir_version
    )
    session = open_session(model.SerializeToString())
    values = session.run([output], {name: given[name] for name in read if name in given})[0]
    return np.asarray(values, np.float32)
