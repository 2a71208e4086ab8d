"""Parts of a graph are known by what they compute, in whatever form they are written."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tsm_export.graphs.index import GraphIndex
from tsm_export.quantization.recognise import Shift, recognise_normalisation, recognise_shift

T, C, SIZE = 4, 10, 6

Nodes = list[onnx.NodeProto]
Constants = dict[str, Any]


def index_of(nodes: Nodes, constants: Constants) -> GraphIndex:
    """frames (N, 4, 6, 6, 3) -> x (T*N, 3, 6, 6) -> conv -> y (T*N, 10, 6, 6) -> the nodes -> z."""
    weight = np.random.default_rng(0).normal(size=(C, 3, 1, 1)).astype(np.float32)
    stored = {"w": weight, "picture": np.array([-1, SIZE, SIZE, 3]), **constants}
    first = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["in_time"], perm=[1, 0, 2, 3, 4]),
        helper.make_node("Reshape", ["in_time", "picture"], ["pictures"]),
        helper.make_node("Transpose", ["pictures"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        [*first, *nodes],
        "moved",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", T, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["M", C, SIZE, SIZE])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return GraphIndex(onnx.shape_inference.infer_shapes(model, data_prop=True).SerializeToString())


def split_and_pad(a: int, b: int, *, clip: int = T) -> tuple[Nodes, Constants]:
    constants = {
        "clips": np.array([clip, -1, C, SIZE * SIZE]),
        "groups": np.array([a, b, C - a - b]),
        "0": np.array([0]),
        "1": np.array([1]),
        "-1": np.array([-1]),
        "far": np.array([99]),
        "behind": np.array([0, 0, 0, 0, 1, 0, 0, 0]),
        "before": np.array([1, 0, 0, 0, 0, 0, 0, 0]),
        "frames4": np.array([-1, C, SIZE, SIZE]),
    }
    nodes = [
        helper.make_node("Reshape", ["y", "clips"], ["v"]),
        helper.make_node("Split", ["v", "groups"], ["a", "b", "c"], axis=2),
        helper.make_node("Slice", ["a", "1", "far", "0"], ["a1"]),
        helper.make_node("Slice", ["b", "0", "-1", "0"], ["b1"]),
        helper.make_node("Pad", ["a1", "behind"], ["a2"]),
        helper.make_node("Pad", ["b1", "before"], ["b2"]),
        helper.make_node("Concat", ["a2", "b2", "c"], ["d"], axis=2),
        helper.make_node("Reshape", ["d", "frames4"], ["z"]),
    ]
    return nodes, constants


def rows_and_zeros(a: int, b: int) -> tuple[Nodes, Constants]:
    """All frames in one row: a shift by a frame is a shift by as many rows as there are clips."""
    constants = {
        "groups": np.array([a, b, C - a - b]),
        "0": np.array([0]),
        "-1": np.array([-1]),
        "far": np.array([2**40]),
        "map_a": np.array([a, SIZE, SIZE]),
        "map_b": np.array([b, SIZE, SIZE]),
    }
    nodes = [
        helper.make_node("Split", ["y", "groups"], ["a", "b", "c"], axis=1),
        helper.make_node("Shape", ["frames"], ["num_clips"], start=0, end=1),
        helper.make_node("Mul", ["num_clips", "-1"], ["from_end"]),
        helper.make_node("Concat", ["num_clips", "map_a"], ["shape_a"], axis=0),
        helper.make_node("Concat", ["num_clips", "map_b"], ["shape_b"], axis=0),
        helper.make_node("ConstantOfShape", ["shape_a"], ["zeros_a"]),
        helper.make_node("ConstantOfShape", ["shape_b"], ["zeros_b"]),
        helper.make_node("Slice", ["a", "num_clips", "far", "0"], ["a1"]),
        helper.make_node("Slice", ["b", "0", "from_end", "0"], ["b1"]),
        helper.make_node("Concat", ["a1", "zeros_a"], ["a2"], axis=0),
        helper.make_node("Concat", ["zeros_b", "b1"], ["b2"], axis=0),
        helper.make_node("Concat", ["a2", "b2", "c"], ["z"], axis=1),
    ]
    return nodes, constants


def gather_frames(a: int, b: int) -> tuple[Nodes, Constants]:
    """Frames of a clip between two frames of zeros; each group gathers its own."""
    nodes, constants = split_and_pad(a, b)
    constants |= {
        "both": np.array([1, 0, 0, 0, 1, 0, 0, 0]),
        "next": np.arange(T) + 2,
        "previous": np.arange(T),
    }
    return [
        nodes[0],
        nodes[1],
        helper.make_node("Pad", ["a", "both"], ["a1"]),
        helper.make_node("Pad", ["b", "both"], ["b1"]),
        helper.make_node("Gather", ["a1", "next"], ["a2"], axis=0),
        helper.make_node("Gather", ["b1", "previous"], ["b2"], axis=0),
        *nodes[-2:],
    ], constants


@pytest.mark.parametrize("form", [split_and_pad, rows_and_zeros, gather_frames])
@pytest.mark.parametrize(("a", "b"), [(1, 1), (3, 2)])
def test_a_shift_is_recognised_in_any_form(form: Any, a: int, b: int) -> None:
    index = index_of(*form(a, b))
    assert index.source("z") == "y"
    assert recognise_shift(index, "y", "z") == Shift(T, C, SIZE, SIZE, following=a, preceding=b)


def test_clips_of_another_length_are_another_shift() -> None:
    """Two frames where the clip has four: half of the borders lie inside a clip."""
    assert recognise_shift(index_of(*split_and_pad(1, 1, clip=2)), "y", "z") is None


def test_what_passes_from_clip_to_clip_is_no_shift() -> None:
    """By one row instead of one row per clip: a clip gets its neighbour's frames."""
    nodes, constants = rows_and_zeros(1, 1)
    for node in nodes:
        node.input[:] = [{"num_clips": "1", "from_end": "-1"}.get(name, name) for name in node.input]
    index = index_of(nodes, constants | {"1": np.array([1])})
    assert index.source("z") == "y"
    assert recognise_shift(index, "y", "z") is None


def test_other_movements_are_no_shift() -> None:
    turned = index_of([helper.make_node("Transpose", ["y"], ["z"], perm=[0, 1, 3, 2])], {})
    assert turned.source("z") == "y"
    assert recognise_shift(turned, "y", "z") is None


def test_what_is_computed_has_no_source_but_itself() -> None:
    index = index_of([helper.make_node("Sigmoid", ["y"], ["z"])], {})
    assert index.source("z") == "z"
    nodes = [helper.make_node("Tanh", ["y"], ["t"]), helper.make_node("Concat", ["t", "y"], ["z"], axis=1)]
    assert index_of(nodes, {}).source("z") == "z"  # two sources


def test_zeros_of_a_shape_are_no_source() -> None:
    """Zeros for the border made from the shape of the tensor, as slice assignment exports."""
    nodes = [
        helper.make_node("Shape", ["y"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Concat", ["y", "zeros"], ["z"], axis=0),
    ]
    assert index_of(nodes, {}).source("z") == "y"


@pytest.mark.parametrize(
    ("mean", "std"), [((127.0,) * 3, (128.0,) * 3), ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))]
)
@pytest.mark.parametrize("order", ["planes", "pixels"])
def test_normalisation(mean: tuple[float, ...], std: tuple[float, ...], order: str) -> None:
    """(pixel - mean) / std, before or after colours become planes."""
    shape = (3, 1, 1) if order == "planes" else (3,)
    constants = {
        "mean": np.array(mean, np.float32).reshape(shape),
        "std": np.array(std, np.float32).reshape(shape),
        "to": np.array([-1, SIZE, SIZE, 3]),
    }
    given, turned = ("x", "n") if order == "planes" else ("pictures", "m")
    nodes = [
        helper.make_node("Sub", [given, "mean"], ["s"]),
        helper.make_node("Div", ["s", "std"], [turned]),
    ]
    if order == "pixels":
        nodes.append(helper.make_node("Transpose", ["m"], ["n"], perm=[0, 3, 1, 2]))
    nodes.append(helper.make_node("Conv", ["n", "w"], ["z"]))
    found = recognise_normalisation(index_of(nodes, constants), "n")
    assert found is not None
    assert found.size == SIZE
    np.testing.assert_allclose(found.scale, 1 / np.array(std), rtol=1e-6)
    np.testing.assert_allclose(found.offset, -np.array(mean) / np.array(std), rtol=1e-5)


def test_pictures_in_another_order_are_no_normalisation() -> None:
    """All frames of a clip one after another: what reads them would take them for frames of other clips."""
    constants = {"scale": np.float32(2), "to": np.array([-1, SIZE, SIZE, 3])}
    nodes = [
        helper.make_node("Reshape", ["float", "to"], ["clip by clip"]),
        helper.make_node("Transpose", ["clip by clip"], ["m"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["m", "scale"], ["n"]),
        helper.make_node("Conv", ["n", "w"], ["z"]),
    ]
    assert recognise_normalisation(index_of(nodes, constants), "n") is None


def test_what_is_not_linear_in_the_pixel_is_no_normalisation() -> None:
    nodes = [helper.make_node("Sqrt", ["x"], ["root"]), helper.make_node("Conv", ["root", "w"], ["z"])]
    assert recognise_normalisation(index_of(nodes, {}), "root") is None
    assert recognise_normalisation(index_of(nodes, {}), "z") is None  # ten channels
