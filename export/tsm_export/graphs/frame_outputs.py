"""Outputs per frame of a clip graph: action scores of each frame, and the pooled features they come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tsm_runtime.errors import CheckError

FEATURES = "features"
FRAME_SCORES = "frame_action_scores"


def add_frame_outputs(data: bytes) -> bytes:
    """Add the outputs `features` (N, T, D) and `frame_action_scores` (N, T, A) to a graph of clips.

    The action scores of a clip are f(W m + b), with m the mean of the T frames' pooled features x_i. The
    features are the x_i, and the scores of a frame f(W x_i + b): since the layer is linear, the mean of the
    frames' logits is the clip's. Nothing of the backbone is computed twice, and what the graph gave before
    stays as it was.

    Args:
        data: an ONNX file of this project in any precision, whose heads follow a mean over frames.

    Raises:
        CheckError: the graph is of another form.
    """
    model = onnx.load_from_string(data)
    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}
    function = makers.get("action_scores")
    head = _maker(makers, function, ("Softmax", "Sigmoid"), 0)
    mean = _maker(makers, head, ("Gemm",), 0)
    if function is None or head is None or mean is None or mean.op_type != "ReduceMean":
        raise CheckError("frame outputs: action_scores do not come from a linear layer on a mean over frames")
    num_frames, num_actions = _size(graph.input[0], 1), _size(_output(graph, "action_scores"), 1)
    dim = _feature_dim(graph, head)
    graph.node.extend(_nodes(graph, function, head, mean, (num_frames, dim, num_actions)))
    for name, width in ((FRAME_SCORES, num_actions), (FEATURES, dim)):
        shape: list[str | int | None] = [_batch_name(graph), num_frames, width]
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _maker(
    makers: dict[str, onnx.NodeProto], node: onnx.NodeProto | None, kinds: tuple[str, ...], place: int
) -> onnx.NodeProto | None:
    """Return the node that makes an input of a node of one of these kinds."""
    if node is None or node.op_type not in kinds:
        return None
    return makers.get(node.input[place])


def _nodes(
    graph: onnx.GraphProto,
    function: onnx.NodeProto,
    head: onnx.NodeProto,
    mean: onnx.NodeProto,
    sizes: tuple[int, int, int],
) -> list[onnx.NodeProto]:
    """Return the nodes that make both outputs, and add their constants to the graph."""
    num_frames, dim, num_actions = sizes
    rows, frames = "frame_outputs.rows", "frame_outputs.frames"
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([-1, dim], np.int64), rows),
            numpy_helper.from_array(np.array([-1, num_frames, num_actions], np.int64), frames),
        ]
    )
    first = (
        helper.make_node("Transpose", [mean.input[0]], [FEATURES], perm=[1, 0, 2])
        if _axis(graph, mean) == 0  # in the order of time, as the shift wants them
        else helper.make_node("Identity", [mean.input[0]], [FEATURES])
    )
    linear = onnx.NodeProto()
    linear.CopyFrom(head)
    linear.name = ""
    linear.input[0], linear.output[0] = "frame_outputs.features", "frame_outputs.row_logits"
    last: dict[str, Any] = {"axis": 2} if function.op_type == "Softmax" else {}
    return [
        first,
        helper.make_node("Reshape", [FEATURES, rows], [linear.input[0]]),
        linear,
        helper.make_node("Reshape", [linear.output[0], frames], ["frame_outputs.logits"]),
        helper.make_node(function.op_type, ["frame_outputs.logits"], [FRAME_SCORES], **last),
    ]


def _axis(graph: onnx.GraphProto, mean: onnx.NodeProto) -> int:
    axes = [numpy_helper.to_array(t) for t in graph.initializer if t.name == mean.input[1]]
    if len(axes) != 1 or axes[0].tolist() not in ([0], [1]):
        raise CheckError("frame outputs: the mean before the action head is not over frames")
    return int(axes[0][0])


def _feature_dim(graph: onnx.GraphProto, head: onnx.NodeProto) -> int:
    """Return the inputs of the linear layer, whose weights may pass a cast or a dequantisation first."""
    sources = {node.output[0]: node.input[0] for node in graph.node if node.op_type != "Constant"}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    name = head.input[1]
    while name not in weights and name in sources:
        name = sources[name]
    if name not in weights:
        raise CheckError("frame outputs: the weights of the action head are not stored in the graph")
    transposed = any(a.name == "transB" and a.i for a in head.attribute)
    return int(weights[name].dims[1 if transposed else 0])


def _output(graph: onnx.GraphProto, name: str) -> onnx.ValueInfoProto:
    found: onnx.ValueInfoProto = next(output for output in graph.output if output.name == name)
    return found


def _size(value: onnx.ValueInfoProto, axis: int) -> int:
    return int(value.type.tensor_type.shape.dim[axis].dim_value)


def _batch_name(graph: onnx.GraphProto) -> str:
    return str(_output(graph, "action_scores").type.tensor_type.shape.dim[0].dim_param)
