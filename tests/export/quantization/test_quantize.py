"""INT8 graphs: what is stored in 8 bits, what stays out and why, and that the network still says the same."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tsm_export.graphs.index import GraphIndex
from tsm_export.quantization import cpu_form, stored_stem
from tsm_export.quantization.layers import find_blocks, find_layers
from tsm_export.quantization.quantize import Calibration, calibrate, quantize, relative_noise
from tsm_export.quantization.ranges import Extremes, Target, grid_of
from tsm_export.quantization.sensitivity import leave_out
from tsm_export.quantization.weights import round_weights
from tsm_runtime.backends.onnxruntime import FITS_16_BITS
from tsm_runtime.bundle.manifest import sha256

T, SIZE = 4, 32
TARGETS: tuple[Target, ...] = ("cpu", "trt")
EVEN = ((127.0,) * 3, (128.0,) * 3)
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))

OLDER_PROCESSOR = Path(__file__).parents[2] / "runtime" / "doubles" / "older_processor"

Clips = npt.NDArray[np.uint8]


def network(
    *,
    outlier: float = 1.0,
    colours: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET,
    channels: int = 8,
    stride: int = 2,
) -> bytes:
    """A residual network in miniature, with all that quantisation must know.

    Normalisation, stem with bias and Relu, max pooling, a shifted residual block (1x1 with Relu, depthwise
    with Clip, 1x1 without activation), a last convolution without bias, two heads.

    Args:
        outlier: factor of the block's first inner channel, which its last convolution takes back: fp32 says
            the same with any, 8 bits per tensor do not.
        colours: mean and standard deviation of the normalisation.
        channels: of the shifted tensor, a multiple of 4.
        stride: of the stem.
    """
    constants = network_constants(outlier, colours, channels, SIZE // stride // 2)
    graph = helper.make_graph(
        network_nodes(stride, 2 * channels),
        "miniature",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", T, SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info("action_scores", TensorProto.FLOAT, ["N", 5]),
            helper.make_tensor_value_info("scene_scores", TensorProto.FLOAT, ["N", 3]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    spread_logits(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(onnx.shape_inference.infer_shapes(model, data_prop=True).SerializeToString())


def network_constants(
    outlier: float, colours: tuple[tuple[float, ...], tuple[float, ...]], channels: int, edge: int
) -> dict[str, Any]:
    """Return weights and sizes of `network`; `edge` is that of the shifted tensor in pixels."""
    rng = np.random.default_rng(3)
    inner, f = 2 * channels, channels // 4

    def weight(*shape: int) -> npt.NDArray[np.float32]:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    expand, project = weight(inner, channels, 1, 1), weight(channels, inner, 1, 1)
    expand[0] *= outlier
    project[:, 0] /= outlier
    return {
        "picture": np.array([-1, SIZE, SIZE, 3]),
        "mean": np.array(colours[0], np.float32).reshape(3, 1, 1),
        "std": np.array(colours[1], np.float32).reshape(3, 1, 1),
        "stem.weight": weight(channels, 3, 3, 3),
        "stem.bias": rng.normal(size=channels).astype(np.float32),
        "clips": np.array([T, -1, channels, edge * edge]),
        "groups": np.array([f, f, channels - 2 * f]),
        "0": np.array([0]),
        "1": np.array([1]),
        "-1": np.array([-1]),
        "far": np.array([99]),
        "behind": np.array([0, 0, 0, 0, 1, 0, 0, 0]),
        "before": np.array([1, 0, 0, 0, 0, 0, 0, 0]),
        "maps": np.array([-1, channels, edge, edge]),
        "expand.weight": expand,
        "expand.bias": np.zeros(inner, np.float32),
        "depth.weight": weight(inner, 1, 3, 3),
        "depth.bias": (0.1 * rng.normal(size=inner)).astype(np.float32),
        "low": np.float32(0),
        "high": np.float32(6 * max(1.0, outlier)),
        "project.weight": project,
        "project.bias": (0.1 * rng.normal(size=channels)).astype(np.float32),
        "last.weight": weight(3 * channels, channels, 1, 1),
        "space": np.array([2, 3]),
        "frames3": np.array([T, -1, 3 * channels]),
        "action.weight": weight(5, 3 * channels),
        "action.bias": np.zeros(5, np.float32),
        "scene.weight": weight(3, 3 * channels),
        "scene.bias": np.zeros(3, np.float32),
    }


def network_nodes(stride: int, inner: int) -> list[onnx.NodeProto]:
    """Return the operators of `network`, whose depthwise convolution has `inner` channels."""
    node = helper.make_node
    return [
        node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        node("Transpose", ["float"], ["in_time"], perm=[1, 0, 2, 3, 4]),
        node("Reshape", ["in_time", "picture"], ["pictures"]),
        node("Transpose", ["pictures"], ["planes"], perm=[0, 3, 1, 2]),
        node("Sub", ["planes", "mean"], ["centred"]),
        node("Div", ["centred", "std"], ["pixels"]),
        node(
            "Conv",
            ["pixels", "stem.weight", "stem.bias"],
            ["stem"],
            pads=[1, 1, 1, 1],
            strides=[stride, stride],
        ),
        node("Relu", ["stem"], ["stem.relu"]),
        node("MaxPool", ["stem.relu"], ["x"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Reshape", ["x", "clips"], ["v"]),
        node("Split", ["v", "groups"], ["a", "b", "c"], axis=2),
        node("Slice", ["a", "1", "far", "0"], ["a1"]),
        node("Slice", ["b", "0", "-1", "0"], ["b1"]),
        node("Pad", ["a1", "behind"], ["a2"]),
        node("Pad", ["b1", "before"], ["b2"]),
        node("Concat", ["a2", "b2", "c"], ["d"], axis=2),
        node("Reshape", ["d", "maps"], ["shifted"]),
        node("Conv", ["shifted", "expand.weight", "expand.bias"], ["expanded"]),
        node("Relu", ["expanded"], ["expanded.relu"]),
        node(
            "Conv",
            ["expanded.relu", "depth.weight", "depth.bias"],
            ["deep"],
            group=inner,
            pads=[1, 1, 1, 1],
        ),
        node("Clip", ["deep", "low", "high"], ["deep.clip"]),
        node("Conv", ["deep.clip", "project.weight", "project.bias"], ["projected"]),
        node("Add", ["projected", "x"], ["sum"]),
        node("Conv", ["sum", "last.weight"], ["last"]),
        node("Relu", ["last"], ["last.relu"]),
        node("ReduceMean", ["last.relu", "space"], ["pooled"], keepdims=0),
        node("Reshape", ["pooled", "frames3"], ["features"]),
        node("ReduceMean", ["features", "0"], ["clip"], keepdims=0),
        node("Gemm", ["clip", "action.weight", "action.bias"], ["action"], transB=1),
        node("Gemm", ["clip", "scene.weight", "scene.bias"], ["scene"], transB=1),
        node("Softmax", ["action"], ["action_scores"], axis=1),
        node("Softmax", ["scene"], ["scene_scores"], axis=1),
    ]


def spread_logits(model: onnx.ModelProto) -> None:
    """Scale the heads such that their logits have mean 0 and deviation 1.5 over clips, as trained ones do."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = ("action", "scene")
    watched.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names)
    logits = run(watched.SerializeToString(), some_clips(16, seed=1))
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for name in names:
        factor = 1.5 / logits[name].std(axis=0)
        weights = numpy_helper.to_array(stored[f"{name}.weight"]) * factor[:, None]
        stored[f"{name}.weight"].CopyFrom(numpy_helper.from_array(weights, f"{name}.weight"))
        bias = -factor * logits[name].mean(axis=0)
        stored[f"{name}.bias"].CopyFrom(numpy_helper.from_array(bias, f"{name}.bias"))


def some_clips(number: int, seed: int = 0) -> Clips:
    """Clips that differ: a coarse random pattern for each, which moves from frame to frame."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (number, 1, 4, 4, 3))
    fine = np.repeat(np.repeat(coarse, SIZE // 4, axis=2), SIZE // 4, axis=3)
    moving = np.concatenate([np.roll(fine, 2 * i, axis=3) for i in range(T)], axis=1)
    return np.clip(moving + rng.integers(-20, 20, moving.shape), 0, 255).astype(np.uint8)


def run(data: bytes, frames: Clips) -> dict[str, npt.NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"frames": frames}), strict=True))


def executed(data: bytes, folder: Path) -> Counter[str]:
    """Operators that onnxruntime really runs, after it has rewritten the graph for this machine."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


def everything_quantized(measured: Calibration) -> bytes:
    """The network for the CPU with no layer left out."""
    return quantize(measured, target="cpu", max_noise=float("inf"), num_threads=1).data


def element_types(data: bytes) -> dict[str, int]:
    """Element type of every tensor, by inference from inputs and constants alone."""
    model = onnx.load_from_string(data)
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    return {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.input)}


def constants_of(data: bytes) -> dict[str, npt.NDArray[Any]]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(data).graph.initializer}


@pytest.fixture(scope="module")
def plain() -> bytes:
    return network()


@pytest.fixture(scope="module")
def measured(plain: bytes) -> Calibration:
    return calibrate(plain, some_clips(20), num_threads=1)


@pytest.fixture(scope="module")
def quantized(measured: Calibration) -> dict[Target, bytes]:
    return {target: quantize(measured, target=target, num_threads=1).data for target in TARGETS}


# --- the quantised network -----------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_it_says_what_the_network_says(plain: bytes, quantized: dict[Target, bytes], target: Target) -> None:
    frames = some_clips(12, seed=9)
    expected, got = run(plain, frames), run(quantized[target], frames)
    assert got.keys() == expected.keys()
    for name, values in expected.items():
        assert values.std(axis=0).max() > 0.05  # the scores of clips differ, so an error would show
        np.testing.assert_allclose(got[name], values, atol=0.03)
        assert np.abs(got[name] - values).max() > 1e-6  # and it is another computation


@pytest.mark.parametrize("target", TARGETS)
def test_signature_and_form(plain: bytes, quantized: dict[Target, bytes], target: Target) -> None:
    before, after = (onnx.load_from_string(data) for data in (plain, quantized[target]))
    onnx.checker.check_model(after, full_check=True)
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    assert after.opset_import == before.opset_import
    assert all(t.data_location == TensorProto.DEFAULT for t in after.graph.initializer)
    read = {name for node in after.graph.node for name in node.input}
    assert {t.name for t in after.graph.initializer} <= read  # no weight is stored twice


@pytest.mark.parametrize("target", TARGETS)
def test_a_clip_does_not_depend_on_its_neighbours(quantized: dict[Target, bytes], target: Target) -> None:
    frames = some_clips(3, seed=5)
    together = run(quantized[target], frames)
    for i in range(3):
        alone = run(quantized[target], frames[i : i + 1])
        for name, values in alone.items():
            np.testing.assert_allclose(values[0], together[name][i], atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_clips_give_the_same_bytes(
    plain: bytes, quantized: dict[Target, bytes], target: Target
) -> None:
    again = calibrate(plain, some_clips(20), num_threads=1)
    assert quantize(again, target=target, num_threads=1).data == quantized[target]


def test_all_convolutions_and_sums_run_in_integers(quantized: dict[Target, bytes], tmp_path: Path) -> None:
    kinds = executed(quantized["cpu"], tmp_path)
    assert kinds["QLinearConv"] == 6  # one of them is the shift
    assert kinds["QLinearAdd"] == 1
    assert not kinds.keys() & {"Conv", "FusedConv", "Relu", "Clip", "Add"} - {"Add"}
    assert kinds["QuantizeLinear"] <= 1  # of the pixels
    assert kinds["DequantizeLinear"] == 1  # before pooling
    assert kinds["Transpose"] <= 2  # of the pixels: nothing else is turned around
    assert not kinds.keys() & {"Split", "Slice", "Pad", "Concat"}


@pytest.mark.parametrize("channels", [8, 40])
def test_the_shift_moves_bytes(channels: int) -> None:
    """As the floats are moved where the shift is not known."""
    measured = calibrate(network(channels=channels), some_clips(6), num_threads=1)
    data = everything_quantized(measured)
    floats = dataclasses.replace(measured.network, shifts={})
    same = everything_quantized(dataclasses.replace(measured, network=floats))
    assert TensorProto.FLOAT in {element_types(same)[n] for n in ("a2", "b2", "d")}
    frames = some_clips(4, seed=8)
    for name, values in run(same, frames).items():
        np.testing.assert_array_equal(run(data, frames)[name], values)


def test_no_sum_of_two_products_saturates(quantized: dict[Target, bytes]) -> None:
    """On any x86: the largest activation times two neighbouring weights fits into 16 bits."""
    model = onnx.load_from_string(quantized["cpu"])
    constants = constants_of(quantized["cpu"])
    made = {node.output[0]: node for node in model.graph.node}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 6
    for node in convolutions:
        steps = constants[made[node.input[1]].input[0]]
        assert steps.dtype == np.int8
        rows = np.moveaxis(steps, 1, -1).reshape(len(steps), -1).astype(int)
        if steps.shape[1] > 1:  # depthwise: products are added in 32 bits
            assert 255 * np.abs(rows[:, 0:-1:2] + rows[:, 1::2]).max() < 2**15
    assert {each.key: each.value for each in model.metadata_props} == {FITS_16_BITS: "1"}


def test_pooling_and_heads_stay_in_fp32(quantized: dict[Target, bytes]) -> None:
    for data in quantized.values():
        types = element_types(data)
        for node in onnx.load_from_string(data).graph.node:
            if node.op_type in ("ReduceMean", "Gemm", "Softmax"):
                assert types.get(node.input[0], TensorProto.FLOAT) == TensorProto.FLOAT
        assert constants_of(data)["action.weight"].dtype == np.float32


def test_pixels_that_are_their_own_grid_are_not_converted() -> None:
    """(pixel - 127) / 128: the frames' bytes are the stored values, the scale is in the weights."""
    data = everything_quantized(calibrate(network(colours=EVEN), some_clips(6), num_threads=1))
    nodes = onnx.load_from_string(data).graph.node
    assert [node.op_type for node in nodes][:3] == ["Transpose", "Reshape", "Transpose"]
    assert nodes[0].input[0] == "frames"
    constants = constants_of(data)
    assert (constants["pixels.centred.scale"], constants["pixels.centred.zero_point"]) == (1, 127)
    weights = constants["stem.weight.quantized"] * constants["stem.weight.scale"][:, None, None, None]
    plain = constants_of(network(colours=EVEN))["stem.weight"]
    assert np.abs(weights).max() == pytest.approx(np.abs(plain).max() / 128, rel=0.02)


def test_other_pixels_are_centred(quantized: dict[Target, bytes]) -> None:
    """From the brightest colour's 0 to the darkest one's 255, on one grid."""
    constants = constants_of(quantized["cpu"])
    mean = np.array(IMAGENET[0])
    scale = (255 - mean.min() + mean.max()) / 255
    assert constants["pixels.centred.scale"] == pytest.approx(scale, rel=1e-6)
    assert constants["pixels.centred.zero_point"] == round(mean.max() / scale)


@pytest.mark.parametrize("colours", [EVEN, IMAGENET])
def test_columns_of_the_stem_are_grouped(
    colours: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Four columns of three colours as one of twelve channels give the same numbers.

    With weights of 7 bits, as these fit whatever their neighbours are, which grouping changes.
    """

    def seven_bits(values: Any, scales: Any) -> tuple[Any, Any]:
        return round_weights(values, 2 * scales), 2 * scales

    monkeypatch.setattr(cpu_form, "round_paired_weights", seven_bits)
    measured = calibrate(network(colours=colours), some_clips(6), num_threads=1)
    grouped = everything_quantized(measured)
    assert constants_of(grouped)["stem.weight.quantized"].shape == (16, 12, 3, 2)
    monkeypatch.setattr(stored_stem, "_can_group", lambda *_: False)
    single = everything_quantized(measured)
    assert constants_of(single)["stem.weight.quantized"].shape == (8, 3, 3, 3)
    frames = some_clips(4, seed=2)
    for name, values in run(single, frames).items():
        np.testing.assert_array_equal(run(grouped, frames)[name], values)
    kinds = executed(grouped, tmp_path)
    assert (kinds["QLinearConv"], kinds["Conv"]) == (6, 0)


def test_a_stem_of_single_steps_stays_as_it_is() -> None:
    plain = network(stride=1)
    measured = calibrate(plain, some_clips(20), num_threads=1)
    data = quantize(measured, target="cpu", num_threads=1).data
    assert constants_of(data)["stem.weight.quantized"].shape == (8, 3, 3, 3)
    frames = some_clips(4, seed=2)
    for name, values in run(plain, frames).items():
        np.testing.assert_allclose(run(data, frames)[name], values, atol=0.1)


def test_activations_are_part_of_the_grid(quantized: dict[Target, bytes]) -> None:
    """On the CPU a Relu is what rounding to uint8 with zero point 0 does; TensorRT keeps its own."""
    kinds = {
        target: Counter(node.op_type for node in onnx.load_from_string(data).graph.node)
        for target, data in quantized.items()
    }
    assert not kinds["cpu"].keys() & {"Relu", "Clip"}
    assert (kinds["trt"]["Relu"], kinds["trt"]["Clip"]) == (3, 1)
    constants = constants_of(quantized["cpu"])
    assert constants["stem.relu.zero_point"] == 0
    assert constants["sum.zero_point"] > 0  # no activation: the sum has two signs


def test_the_form_for_tensorrt(quantized: dict[Target, bytes]) -> None:
    """Symmetric int8 with one scale a tensor, no 32-bit bias, the input into a cast."""
    model = onnx.load_from_string(quantized["trt"])
    constants = constants_of(quantized["trt"])
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero, scale = constants[node.input[2]], constants[node.input[1]]
            assert (zero.dtype, zero.shape, scale.shape) == (np.int8, (), ())
            assert zero == 0
    assert not [name for name, values in constants.items() if values.dtype == np.int32]
    assert [node.op_type for node in model.graph.node if "frames" in node.input] == ["Cast"]
    # What is shifted is on one grid before and after, so that the shift can be done on bytes.
    pairs = {n.output[0]: n.input[1] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    assert pairs["x.quantized"] == pairs["shifted.quantized"] == "x.scale.half"


def test_tensorrt_finds_what_it_fuses(quantized: dict[Target, bytes]) -> None:
    """Each convolution between a dequantised input and a scale per channel; each sum of one and an addend."""
    nodes = onnx.load_from_string(quantized["trt"]).graph.node
    made = {name: node for node in nodes for name in node.output}
    readers = {name: [n.op_type for n in nodes if name in n.input] for n in nodes for name in n.output}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    assert len(convolutions) == 5
    for node in convolutions:
        assert [made[name].op_type for name in node.input] == ["DequantizeLinear"] * 2
        assert readers[node.output[0]] == ["BatchNormalization"]
    (added,) = (node for node in nodes if node.op_type == "Add")
    assert sorted(made[name].op_type for name in added.input) == ["BatchNormalization", "DequantizeLinear"]


def test_no_tensor_of_the_body_is_fp32_for_tensorrt(quantized: dict[Target, bytes]) -> None:
    types = element_types(quantized["trt"])
    nodes = onnx.load_from_string(quantized["trt"]).graph.node
    kinds = {"Conv", "BatchNormalization", "Relu", "Clip", "Add", "DequantizeLinear", "Split", "Concat"}
    body = [node for node in nodes if node.op_type in kinds]
    assert {types[name] for node in body for name in node.output} == {TensorProto.FLOAT16}


def test_tensorrt_parses_and_builds_it(quantized: dict[Target, bytes]) -> None:
    pytest.importorskip("tensorrt_rtx")
    from tsm_runtime.backends.tensorrt.build import build_plan
    from tsm_runtime.backends.tensorrt.build_options import BuildOptions

    built = build_plan(
        quantized["trt"], BuildOptions(batch=(1, 2, 2)), library="tensorrt_rtx", precision="int8"
    )
    assert built.engine.layer_types["Int8"] >= 5
    assert len(built.plan) > 1000


# --- ranges --------------------------------------------------------------------------------------


def test_ranges_are_those_of_the_calibration_clips(plain: bytes, measured: Calibration) -> None:
    """Every fifth clip is held out; the ranges are the extremes of the others."""
    clips = some_clips(20)
    kept = np.arange(20) % 5 != 4
    model = onnx.load_from_string(plain)
    model.graph.output.append(helper.make_tensor_value_info("sum", TensorProto.FLOAT, None))
    values = run(model.SerializeToString(), clips[kept])["sum"]
    values = values.reshape(T, 16, -1).swapaxes(0, 1).reshape(16, -1)  # from the order of time
    extremes = measured.extremes["sum"]
    np.testing.assert_allclose(extremes.lowest, values.min(axis=1), rtol=1e-5)
    np.testing.assert_allclose(extremes.highest, values.max(axis=1), rtol=1e-5)
    assert extremes.limits("whole") == pytest.approx((values.min(), values.max()), rel=1e-5)
    assert extremes.limits("typical") == pytest.approx(
        (values.min(axis=1).mean(), values.max(axis=1).mean()), rel=1e-5
    )
    assert measured.num_clips == 16
    np.testing.assert_array_equal(measured.held_out, clips[~kept])


def test_a_range_holds_zero() -> None:
    above = Extremes(np.array([1, 2], np.float32), np.array([3, 5], np.float32))
    assert above.limits("whole") == (0.0, 5.0)
    assert above.limits("typical") == (0.0, 4.0)


@given(st.floats(-1e4, 0), st.floats(0, 1e4), st.sampled_from(TARGETS))
def test_a_grid_reaches_its_range(low: float, high: float, target: Target) -> None:
    grid = grid_of(low, high, target)
    limits = np.iinfo(grid.dtype)
    assert limits.min <= grid.zero_point <= limits.max
    assert (grid.dtype, grid.zero_point) == (np.int8, 0) or target == "cpu"
    half_step = 0.5001 * float(grid.scale) + 1e-6
    for value in (low, 0.0, high, low / 3, high / 7):
        stored = np.clip(np.round(value / grid.scale) + grid.zero_point, limits.min, limits.max)
        assert abs((stored - grid.zero_point) * grid.scale - value) <= half_step * (1 if value else 0)
    if target == "cpu" and low == 0:
        assert grid.zero_point == 0  # so that a Relu is implied
    assert grid.lowest <= low + half_step
    assert grid.highest >= high - half_step


def test_a_tensor_of_zeros_has_a_grid() -> None:
    for target in TARGETS:
        assert grid_of(0.0, 0.0, target).scale == 1


def test_two_clips_at_least(plain: bytes) -> None:
    with pytest.raises(ValueError, match="expected two clips or more, one of them held out, got 1"):
        calibrate(plain, some_clips(1))
    assert len(calibrate(plain, some_clips(2), num_threads=1).held_out) == 1


# --- older processors ----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def masked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment in which a program finds no AVX-512 and no VNNI."""
    compiler = shutil.which("gcc")
    if compiler is None or platform.machine() != "x86_64":
        pytest.skip("no gcc, or another kind of processor")
    library = tmp_path_factory.mktemp("mask") / "mask_cpuid.so"
    source = OLDER_PROCESSOR / "mask_cpuid.c"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    if subprocess.run(["true"], env=environment).returncode:
        pytest.skip("this processor cannot trap CPUID")
    return environment


@pytest.fixture
def int8_bundle(measured: Calibration, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Bundle with the network in INT8, and in the form of older versions."""
    new = everything_quantized(measured)
    monkeypatch.setattr(cpu_form, "round_paired_weights", lambda v, s: (round_weights(v, s), s))
    old = onnx.load_from_string(everything_quantized(measured))
    del old.metadata_props[:]
    files = {"model.int8.onnx": new, "old.onnx": old.SerializeToString(), "model.fp32.onnx": network()}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    manifest = {
        "format_version": 1,
        "action_labels": ["a", "b", "c", "d", "background"],
        "scene_labels": ["x", "y", "z"],
        "interval_seconds": 1.0,
        "num_frames": T,
        "size": SIZE,
        "backbone": "miniature",
        "files": {
            name: {"sha256": sha256(data), "precision": "fp32" if "fp32" in name else "int8"}
            for name, data in files.items()
        },
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def scores_in(environment: Mapping[str, str], bundle: Path) -> tuple[str, dict[str, Any]]:
    """What a process with this environment computes, and the instructions it names."""
    np.save(bundle / "clips.npy", some_clips(12, seed=9))
    command = [sys.executable, OLDER_PROCESSOR / "int8_scores.py", bundle, bundle / "clips.npy"]
    done = subprocess.run([*command, bundle / "scores.npz"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), dict(np.load(bundle / "scores.npz"))


def test_a_processor_without_vnni_computes_the_same(masked: dict[str, str], int8_bundle: Path) -> None:
    """The new form at full speed, the old one because its session is opened for it."""
    named, older = scores_in(masked, int8_bundle)
    assert named == "no VNNI"
    _, newer = scores_in(os.environ, int8_bundle)
    for name, scores in newer.items():
        np.testing.assert_allclose(older[name], scores, atol=1e-5)
        np.testing.assert_allclose(scores, newer["model.fp32.onnx"], atol=0.04)


# --- what stays out ------------------------------------------------------------------------------


def test_blocks() -> None:
    index = GraphIndex(network())
    layers = find_layers(index)
    assert [[layer.name for layer in block] for block in find_blocks(index, layers)] == [
        ["stem", "expand", "depth", "project", "sum"],
        ["last"],
    ]


def two_blocks(outlier: float) -> bytes:
    """The network with a convolution without activation between stem and block, which ends a block."""
    model = onnx.load_from_string(network(outlier=outlier))
    graph = model.graph
    position = next(i for i, node in enumerate(graph.node) if node.op_type == "MaxPool")
    graph.node[position].output[0] = "between"
    weight = np.eye(8, dtype=np.float32).reshape(8, 8, 1, 1)
    graph.initializer.append(numpy_helper.from_array(weight, "between.weight"))
    graph.node.insert(position + 1, helper.make_node("Conv", ["between", "between.weight"], ["x"]))
    return bytes(onnx.shape_inference.infer_shapes(model, data_prop=True).SerializeToString())


@pytest.mark.parametrize("target", TARGETS)
def test_the_block_that_8_bits_ruin_stays_out(target: Target, tmp_path: Path) -> None:
    """One inner channel is 3000 times as large as its neighbours, which a grid for all of them drowns."""
    plain = two_blocks(outlier=3000.0)
    measured = calibrate(plain, some_clips(20), num_threads=1)
    model = quantize(measured, target=target, num_threads=1)
    assert model.left_out == ("expand", "depth", "project", "sum")
    assert model.noise_before > 0.1
    assert model.noise < 0.05
    weights = constants_of(model.data)
    kept = {"cpu": ("expand.weight", np.float32), "trt": ("expand.weight.half", np.float16)}
    name, dtype = kept[target]
    assert weights[name].dtype == dtype
    assert weights["stem.weight.quantized"].dtype == np.int8
    frames = some_clips(8, seed=4)
    everything = quantize(measured, target=target, max_noise=float("inf"), num_threads=1)
    assert everything.left_out == ()
    expected = run(plain, frames)["action_scores"]
    errors = [np.abs(run(m.data, frames)["action_scores"] - expected).max() for m in (model, everything)]
    assert 3 * errors[0] < errors[1]


def test_a_healthy_network_stays_whole(measured: Calibration) -> None:
    model = quantize(measured, target="cpu", num_threads=1)
    assert model.left_out == ()
    assert 0 < model.noise == model.noise_before < 0.05
    assert (model.num_clips, model.num_held_out, model.num_trials) == (16, 4, 2)


COSTS = {"a": 0.5, "b": 0.02, "c": 0.3, "d": 0.01, "e": 0.0, "f": 0.0}


def remaining(left_out: frozenset[str]) -> float:
    return sum(cost for name, cost in COSTS.items() if name not in left_out)


@pytest.mark.parametrize(
    ("most", "expected"),
    [(1.0, ()), (0.831, ()), (0.4, ("a",)), (0.1, ("a", "c")), (0.03, ("a", "c")), (0.0, ("a", "c", "b"))],
)
def test_leaving_out_the_fewest(most: float, expected: tuple[str, ...]) -> None:
    """At most half of the blocks, the one that gains most first, and none more than needed."""
    found = leave_out(sorted(COSTS), remaining, most)
    assert found.blocks == expected
    assert found.error == pytest.approx(remaining(frozenset(expected)))


def test_a_block_that_gains_nothing_beside_the_others_goes_back_in() -> None:
    def error(left_out: frozenset[str]) -> float:
        # `b` alone seems to help, but does what `a` did already.
        return 0.1 if "a" in left_out and "c" in left_out else 0.5 if left_out & {"a", "b"} else 1.0

    assert leave_out(["a", "b", "c", "d", "e", "f"], error, 0.2).blocks == ("a", "c")


def test_the_ranking_takes_the_cheap_error() -> None:
    requested: dict[str, list[frozenset[str]]] = {"error": [], "trial": []}

    def counted(name: str) -> Callable[[frozenset[str]], float]:
        def error(left_out: frozenset[str]) -> float:
            requested[name].append(left_out)
            return remaining(left_out)

        return error

    leave_out(sorted(COSTS), counted("error"), 0.4, trial_error=counted("trial"))
    assert requested["trial"] == [frozenset({name}) for name in sorted(COSTS)]
    assert requested["error"] == [frozenset(), frozenset({"a"})]


def test_relative_noise() -> None:
    """A tenth of the size; what all labels share does not count; the worst head counts."""
    logits = np.array([[1.0, -1.0], [3.0, -3.0]], np.float32)
    assert relative_noise([logits], [logits * np.float32(1.1)]) == pytest.approx(0.1, rel=1e-5)
    assert relative_noise([logits], [logits + np.float32(7)]) == pytest.approx(0, abs=1e-6)
    assert relative_noise([logits, logits], [logits, -logits]) == pytest.approx(2)
