"""The typed FP16 graph: what is half, what is not, and what it says."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tsm_export.graphs.half import to_half
from tsm_runtime.errors import CheckError
from tsm_runtime.verification.tolerances import TOLERANCES

T, SIZE, WIDTH = 2, 8, 4


def body_graph(weight: np.ndarray | None = None, *, pooling: bool = True) -> bytes:
    """frames (N, T, 8, 8, 3) uint8 -> conv, relu, conv, average over space, over frames, softmax."""
    rng = np.random.default_rng(0)
    first = rng.normal(0, 0.5, (WIDTH, 3, 3, 3)).astype(np.float32) if weight is None else weight
    constants = {
        "size": np.array([-1, SIZE, SIZE, 3]),
        "mean": np.float32(100.3),
        "std": np.float32(57.1),
        "w1": first,
        "w2": rng.normal(0, 0.5, (WIDTH, WIDTH, 1, 1)).astype(np.float32),
        "row": np.array([3 * T, WIDTH, 1, SIZE - 2]),
        "space": np.array([2, 3]),
        "clip": np.array([-1, T, WIDTH]),
        "time": np.array([1]),
    }
    end = "ReduceMean" if pooling else "ReduceMax"
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["float", "size"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["planes", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normal"]),
        helper.make_node("Conv", ["normal", "w1"], ["c1"]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("ConstantOfShape", ["row"], ["zeros"]),
        helper.make_node("Concat", ["r1", "zeros"], ["longer"], axis=2),
        helper.make_node("Conv", ["longer", "w2"], ["c2"]),
        helper.make_node(end, ["c2", "space"], ["pooled"], keepdims=0),
        helper.make_node("Reshape", ["pooled", "clip"], ["features"]),
        helper.make_node(end, ["features", "time"], ["mean_features"], keepdims=0),
        helper.make_node("Softmax", ["mean_features"], ["action_scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "body",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", T, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("action_scores", TensorProto.FLOAT, ["N", WIDTH])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())


def types_of(data: bytes) -> dict[str, int]:
    """Element type of every tensor, by the checker's own inference and not by what the file claims."""
    model = onnx.load_from_string(data)
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*inferred.value_info, *inferred.input, *inferred.output]
    return {value.name: value.type.tensor_type.elem_type for value in values}


def run(data: bytes, frames: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"frames": frames})[0])


def test_the_body_is_half_between_islands_of_float32() -> None:
    types = types_of(to_half(body_graph()))
    half = {name for name, kind in types.items() if kind == TensorProto.FLOAT16}
    assert half == {"normal.half", "c1", "r1", "zeros", "longer", "c2.half"}
    assert {types[name] for name in ("normal", "pooled", "features", "mean_features", "action_scores")} == {
        TensorProto.FLOAT
    }
    assert types["frames"] == TensorProto.UINT8


def test_it_computes_what_torch_computes_with_a_half_body() -> None:
    data = body_graph()
    frames = np.random.default_rng(1).integers(0, 256, (3, T, SIZE, SIZE, 3), np.uint8)
    weights = {
        t.name: torch.tensor(numpy_helper.to_array(t)) for t in onnx.load_from_string(data).graph.initializer
    }
    pixels = torch.from_numpy(frames).float().reshape(-1, SIZE, SIZE, 3).permute(0, 3, 1, 2)
    maps = ((pixels - weights["mean"]) / weights["std"]).half()
    maps = torch.nn.functional.conv2d(maps, weights["w1"].half()).relu()
    maps = torch.cat([maps, torch.zeros_like(maps[:, :, :1])], 2)
    maps = torch.nn.functional.conv2d(maps, weights["w2"].half())
    expected = maps.float().mean((2, 3)).reshape(3, T, WIDTH).mean(1).softmax(1).numpy()
    got = run(to_half(data), frames)
    np.testing.assert_allclose(got, expected, atol=2e-4)
    full = run(data, frames)
    assert 0 < np.abs(got - full).max() < TOLERANCES["fp16"].max_abs_error


def test_weights_take_half_the_bytes_and_equal_input_gives_equal_bytes() -> None:
    data = body_graph(np.random.default_rng(2).normal(0, 0.01, (4096, 3, 3, 3)).astype(np.float32)[:WIDTH])
    half = to_half(data)
    assert half == to_half(data)
    stored = {t.name: t.data_type for t in onnx.load_from_string(half).graph.initializer}
    assert stored["w1.half"] == stored["w2.half"] == TensorProto.FLOAT16
    assert "w1" not in stored
    assert stored["mean"] == stored["std"] == TensorProto.FLOAT


def test_a_weight_beyond_half_precision_is_refused() -> None:
    weight = np.full((WIDTH, 3, 3, 3), 7e4, np.float32)
    with pytest.raises(CheckError, match="w1: holds a weight beyond half precision"):
        to_half(body_graph(weight))


def test_a_graph_without_a_pooled_body_is_refused() -> None:
    with pytest.raises(CheckError, match="no body from a convolution to an average"):
        to_half(body_graph(pooling=False))
