"""A typed FP16 graph: the network's body in half precision, between islands of float32."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tsm_runtime.errors import CheckError

_LARGEST = float(np.finfo(np.float16).max)
_FIRST = ("Conv", "QuantizeLinear")
_POOLING = "ReduceMean"


def to_half(data: bytes) -> bytes:
    """Return an fp32 graph with its body in half precision: typed in the graph, not a builder's flag.

    The body reaches from the first convolution, or the quantisation of its input, to the global average
    pool. What stays float32, inputs and outputs included: normalisation (pixels are exact there), pooling
    and consensus (a half-precision sum over a feature map loses digits), heads and softmax. Strongly typed
    builders and onnxruntime keep these types as they are.

    Args:
        data: an ONNX file as `onnx_export.export_fp32` writes it, batch normalisation folded; or with
            explicit quantisation, as `quantization.tensorrt_form` writes it.

    Raises:
        CheckError: a weight is too large for half precision, or the graph has no body.
    """
    model = onnx.load_from_string(data)
    graph = model.graph
    body = _body(graph)
    entry = body[0].input[0]
    leaving = _leaving(graph, body)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    halved = _halved_weights(body, weights)
    renamed = {entry: f"{entry}.half", leaving: f"{leaving}.half"}
    for node in body:
        node.input[:] = [halved.get(name) or renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    _halve_zeros(graph, body)
    _insert(graph, body[0], helper.make_node("Cast", [entry], [renamed[entry]], to=TensorProto.FLOAT16))
    after = helper.make_node("Cast", [renamed[leaving]], [leaving], to=TensorProto.FLOAT)
    _insert(graph, next(node for node in graph.node if leaving in node.input), after)
    graph.initializer.extend(_in_half(weights[name], new_name) for name, new_name in sorted(halved.items()))
    _drop_unused_weights(graph)
    inside = {name for node in body for name in (*node.input, *node.output)}
    for value in graph.value_info:  # shapes stay known: engines join what they know to be alike
        if value.name in inside and value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _body(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes from the first convolution up to the pooling, in the graph's order."""
    kinds = [node.op_type for node in graph.node]
    if "Conv" not in kinds or _POOLING not in kinds[kinds.index("Conv") :]:
        raise CheckError("fp16: the graph has no body from a convolution to an average over space")
    first = next(i for i, kind in enumerate(kinds) if kind in _FIRST)
    constants = {tensor.name for tensor in graph.initializer}
    inside = {graph.node[first].output[0]}
    body = [graph.node[first]]
    for node in graph.node[first + 1 : kinds.index(_POOLING, first)]:
        if inside.intersection(node.input) or _is_dequantised_weight(node, constants):
            body.append(node)
            inside.update(node.output)
    return body


def _is_dequantised_weight(node: onnx.NodeProto, constants: set[str]) -> bool:
    return node.op_type == "DequantizeLinear" and constants.issuperset(node.input)


def _leaving(graph: onnx.GraphProto, body: list[onnx.NodeProto]) -> str:
    """Return the one tensor that the rest of the graph reads of the body."""
    made = {name for node in body for name in node.output}
    members = {id(node) for node in body}
    read = {name for node in graph.node if id(node) not in members for name in node.input}
    leaving = made & read
    if len(leaving) != 1:
        raise CheckError(f"fp16: expected one tensor to leave the body, got {sorted(leaving)}")
    return str(leaving.pop())


def _halved_weights(body: list[onnx.NodeProto], weights: dict[str, onnx.TensorProto]) -> dict[str, str]:
    """Names of the float32 constants that the body reads, and what their halves are called."""
    read = {name for node in body for name in node.input if name in weights}
    return {name: f"{name}.half" for name in read if weights[name].data_type == TensorProto.FLOAT}


def _halve_zeros(graph: onnx.GraphProto, body: list[onnx.NodeProto]) -> None:
    """Make constant tensors, such as the zeros at a clip's ends, half precision where the body reads them."""
    read = {name for node in body for name in node.input}
    for node in graph.node:
        if node.op_type == "ConstantOfShape" and node.output[0] in read:
            values = [numpy_helper.to_array(attribute.t) for attribute in node.attribute]
            value = values[0] if values else np.zeros(1, np.float32)
            if value.dtype == np.float32:
                del node.attribute[:]
                half = numpy_helper.from_array(value.astype(np.float16))
                node.attribute.append(helper.make_attribute("value", half))


def _in_half(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    if values.size and np.abs(values).max() > _LARGEST:
        raise CheckError(f"{tensor.name}: holds a weight beyond half precision; export it in fp32")
    return numpy_helper.from_array(values.astype(np.float16), name)


def _insert(graph: onnx.GraphProto, before: onnx.NodeProto, node: onnx.NodeProto) -> None:
    position = next(i for i, other in enumerate(graph.node) if other is before or other == before)
    graph.node.insert(position, node)


def _drop_unused_weights(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
