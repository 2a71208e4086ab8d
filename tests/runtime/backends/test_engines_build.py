"""Plans that NVIDIA's own builder makes: TensorRT for RTX parses and builds without a GPU."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_bundle import tiny_model, write_tiny_bundle

from tsm_runtime.backends.tensorrt import build
from tsm_runtime.backends.tensorrt.build import BuiltPlan, build_plan
from tsm_runtime.backends.tensorrt.build_options import PICTURES, BuildOptions
from tsm_runtime.backends.tensorrt.inspector import Precision
from tsm_runtime.backends.tensorrt.library import import_library, library_logger
from tsm_runtime.backends.tensorrt.rebuild import build_picture_plan, rebuild_plan, source_graph, store_plan
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.manifest import ModelFile, sha256
from tsm_runtime.errors import BackendError, BundleError, CheckError, UsageError

NUM_CONVS = 3
SMALL = BuildOptions(batch=(1, 2, 4))


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def conv_model(precision: Precision) -> bytes:
    """frames (N, 4, 16, 16, 3) uint8 -> convolutions in a precision, averages -> action_scores (N, 3)."""
    inits = {"size": np.array([-1, 16, 16, 3]), "frames_of": np.array([-1, 4, 8]), "space": np.array([2, 3])}
    inits |= {"time": np.array([1]), "head": weights(8, 3)}
    node = helper.make_node
    nodes = [
        node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        node("Reshape", ["float", "size"], ["images"]),
        node("Transpose", ["images"], ["x0"], perm=[0, 3, 1, 2]),
    ]
    for i in range(NUM_CONVS):
        nodes += conv_nodes(precision, i, inits)
    nodes += [
        node("ReduceMean", [f"x{NUM_CONVS}", "space"], ["pooled"], keepdims=0),
        node("Reshape", ["pooled", "frames_of"], ["per_frame"]),
        node("ReduceMean", ["per_frame", "time"], ["clip"], keepdims=0),
        node("MatMul", ["clip", "head"], ["logits"]),
        node("Softmax", ["logits"], ["action_scores"], axis=1),
    ]
    return model_of(nodes, inits, ["N", 4, 16, 16, 3])


def conv_nodes(precision: Precision, i: int, inits: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
    """A convolution from x<i> to x<i + 1>, both float32, that computes in a precision."""
    source, kernel, out = f"x{i}", f"w{i}", f"x{i + 1}"
    inits[kernel] = weights(8, 3 if i == 0 else 8, 3, 3)
    conv = helper.make_node("Conv", [source, kernel], [out], pads=[1, 1, 1, 1])
    if precision == "fp32":
        return [conv]
    if precision == "fp16":
        inits[kernel] = inits[kernel].astype(np.float16)
        conv.input[0], conv.output[0] = f"{source}.in", f"{out}.raw"
        return [
            helper.make_node("Cast", [source], [f"{source}.in"], to=TensorProto.FLOAT16),
            conv,
            helper.make_node("Cast", [f"{out}.raw"], [out], to=TensorProto.FLOAT),
        ]
    inits |= {f"{kernel}.q": np.clip(inits.pop(kernel) * 40, -127, 127).astype(np.int8)}
    inits |= {"scale": np.float32(0.1), "zero": np.int8(0)}
    conv.input[0], conv.input[1] = f"{source}.dq", f"{kernel}.dq"
    return [
        helper.make_node("QuantizeLinear", [source, "scale", "zero"], [f"{source}.q"]),
        helper.make_node("DequantizeLinear", [f"{source}.q", "scale", "zero"], [f"{source}.dq"]),
        helper.make_node("DequantizeLinear", [f"{kernel}.q", "scale", "zero"], [f"{kernel}.dq"]),
        conv,
    ]


def model_of(nodes: list[onnx.NodeProto], inits: dict[str, np.ndarray], shape: list[object]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("action_scores", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in inits.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on machines that have one."""

    def find_gpu(device: int) -> None:
        raise BackendError("no GPU: none in these tests")

    monkeypatch.setattr(build, "find_gpu", find_gpu)


def build_rtx(onnx_bytes: bytes, precision: Precision = "fp32", options: BuildOptions = SMALL) -> BuiltPlan:
    return build_plan(onnx_bytes, options, library="tensorrt_rtx", precision=precision)


@pytest.mark.parametrize(("precision", "name"), [("fp32", "Float"), ("fp16", "Half"), ("int8-trt", "Int8")])
def test_a_plan_computes_in_the_precision_of_its_graph(precision: Precision, name: str) -> None:
    graph = conv_model(precision)
    built = build_rtx(graph, precision)
    assert len(built.plan) > 10_000
    assert built.evidence == "builder's log"
    assert built.warnings == ()
    assert built.num_layers >= NUM_CONVS
    assert built.engine.layer_types[name] >= NUM_CONVS
    assert set(built.engine.layer_types) == {name, "Float"}
    engine = built.engine
    assert (engine.library, engine.gpu, engine.compute_capabilities) == ("tensorrt_rtx", "", ())
    assert engine.version == import_library("tensorrt_rtx").__version__
    assert engine.batch == (1, 2, 4)
    assert engine.onnx_sha256 == sha256(graph)


@pytest.mark.parametrize(("given", "requested"), [("fp32", "fp16"), ("fp32", "int8"), ("fp16", "fp32")])
def test_a_graph_of_another_precision_is_refused_before_it_is_built(
    given: Precision, requested: Precision
) -> None:
    events: list[str] = []
    with pytest.raises(
        CheckError, match=f"the graph is not {requested}: of 4 heavy layers [01] are"
    ) as raised:
        build_plan(
            conv_model(given),
            SMALL,
            library="tensorrt_rtx",
            precision=requested,
            progress=lambda phase, done, total: events.append(phase),
        )
    assert raised.value.exit_code == 6
    assert events == []


def test_a_builder_that_ignores_the_types_of_the_graph_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trap of TensorRT 11: what asks for FP16 in the old way silently gives FP32."""
    checked = build.require_precision
    monkeypatch.setattr(
        build,
        "require_precision",
        lambda layers, requested, what: what == "the plan" and checked(layers, requested, what),
    )
    with pytest.raises(CheckError, match=r"the plan is not fp16: of \d+ heavy layers 0 are Half"):
        build_rtx(conv_model("fp32"), "fp16")


class NoKernel:
    """NVIDIA's builder, which reports that it has no FP16 kernel for layers that are not in fp32 yet."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, lacking: list[str], message: str) -> None:
        self.trt = import_library("tensorrt_rtx")
        self.lacking, self.message = lacking, message
        self.types: list[dict[str, str]] = []
        """Type of the first input of each convolution, for each build."""
        really = self.trt.Builder.build_serialized_network

        def build(builder: object, network: Any, config: object) -> object:
            layers = [network.get_layer(i) for i in range(network.num_layers)]
            convolutions = [layer for layer in layers if layer.type == self.trt.LayerType.CONVOLUTION]
            types = {layer.name: layer.get_input(0).dtype.name for layer in convolutions}
            self.types.append(types)
            failing = next((name for name in self.lacking if types[name] == "HALF"), None)
            if failing is None:
                return really(builder, network, config)
            library_logger(self.trt).log(self.trt.ILogger.Severity.ERROR, self.message.format(failing))
            return None

        monkeypatch.setattr(self.trt.Builder, "build_serialized_network", build)


NO_IMPLEMENTATION = (
    "IBuilder::buildSerializedNetworkToStream: Error Code 10: Internal Error (Could not find any"
    " implementation for node {}. In computeCosts at /_src/optimizer/common/tactic/optimizer.cpp:4211)"
)
NO_LOW_PRECISION = (
    "No low-precision conv kernel available for this strongly-typed Conv/ConvTranspose. Consider keeping"
    " Conv/ConvTranspose in FP32. Failing node: {}"
)


@pytest.mark.parametrize("message", [NO_IMPLEMENTATION, NO_LOW_PRECISION])
def test_layers_without_a_kernel_are_built_in_fp32(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = ["node_of_x1.raw", "node_of_x3.raw"]
    builder = NoKernel(monkeypatch, lacking=lacking, message=message)
    built = build_rtx(conv_model("fp16"), "fp16")
    assert [sum(kind == "FLOAT" for kind in types.values()) for types in builder.types] == [0, 1, 2]
    assert builder.types[-1]["node_of_x2.raw"] == "HALF"
    assert built.engine.fp32_layers == tuple(lacking)
    assert built.warnings == (
        "no FP16 kernel, so 2 layers are built in fp32: node_of_x1.raw, node_of_x3.raw",
    )
    assert len(built.plan) > 10_000  # NVIDIA's builder takes the changed network


def test_a_grouped_convolution_without_a_kernel_takes_the_others_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = onnx.load_from_string(conv_model("fp16"))
    kernels = {tensor.name: tensor for tensor in model.graph.initializer}
    for name in ("w1", "w2"):
        narrow = numpy_helper.to_array(kernels[name])[:, :1]
        kernels[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(narrow), name))
        (conv,) = (node for node in model.graph.node if name in node.input)
        conv.attribute.append(helper.make_attribute("group", 8))
    builder = NoKernel(monkeypatch, lacking=["node_of_x2.raw", "node_of_x3.raw"], message=NO_IMPLEMENTATION)
    built = build_rtx(model.SerializeToString(), "fp16")
    assert len(builder.types) == 2  # one build for both
    assert built.engine.fp32_layers == ("node_of_x2.raw", "node_of_x3.raw")


def test_a_builder_that_never_finds_a_kernel_ends_with_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = NoKernel(monkeypatch, lacking=["node_of_x1.raw"], message="something else about {}")
    with pytest.raises(BackendError, match=r"builds no plan: something else about node_of_x1\.raw"):
        build_rtx(conv_model("fp16"), "fp16")
    builder.message = NO_IMPLEMENTATION
    monkeypatch.setattr(build, "compute_in_float", lambda trt, network, names: ([], []))
    with pytest.raises(BackendError, match=r"builds no plan: .*implementation for node node_of_x1\.raw"):
        build_rtx(conv_model("fp16"), "fp16")
    assert len(builder.types) == 1 + 2  # in vain: fp32 did not help either
    stripped = BuildOptions(batch=(1, 2, 4), stripped=True)  # whose weights come from the ONNX file
    with pytest.raises(BackendError, match="builds no stripped plan"):
        build_rtx(conv_model("fp16"), "fp16", stripped)
    assert len(builder.types) == 4


def test_a_plan_whose_layers_cannot_be_read_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "described_layers", lambda text: [])
    built = build_rtx(conv_model("fp16"), "fp16")
    assert built.evidence == "graph"
    assert "those of the graph" in built.warnings[0]
    assert built.engine.layer_types["Half"] >= NUM_CONVS


def test_compute_capabilities_are_built_for() -> None:
    options = BuildOptions(batch=(1, 1, 2), compute_capabilities=("8.6", "12.0"))
    built = build_rtx(conv_model("fp16"), "fp16", options)
    assert built.engine.compute_capabilities == ("8.6", "12.0")
    with pytest.raises(UsageError, match=r"compute capability 9\.0: tensorrt-rtx builds for 7\.5, 8\.0"):
        build_rtx(conv_model("fp32"), options=BuildOptions(compute_capabilities=("9.0",)))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the 0 bytes hold none; is this an ONNX file"),
        (b"xxxx", "the 4 bytes hold none; is this an ONNX file"),
        (tiny_model().SerializeToString()[:200], "Failed to parse the ONNX model"),
        (
            model_of(
                [
                    helper.make_node("Transpose", ["frames"], ["t"], perm=[0, 4, 1, 2, 3]),
                    helper.make_node("Cast", ["t"], ["action_scores"], to=TensorProto.FLOAT),
                ],
                {},
                ["N", 4, 16, 16, 3],
            ),
            "Transpose: .*type UInt8 but must have type Float",
        ),
        (
            model_of([helper.make_node("Foo", ["frames"], ["action_scores"], name="foo1")], {}, ["N", 4]),
            "Foo foo1: .*Plugin not found",
        ),
    ],
)
def test_what_the_parser_refuses_is_reported_in_its_words(data: bytes, words: str) -> None:
    with pytest.raises(
        BackendError, match=rf"^tensorrt_rtx \S+ does not take the graph: .*{words}"
    ) as raised:
        build_rtx(data)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("location", ["w.bin", "sub/w.bin", "../w.bin"])
def test_weights_outside_the_file_are_not_read(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a file of that name lies in the working directory."""
    (tmp_path / "here" / "sub").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "here", tmp_path / "here" / "sub"):
        (folder / "w.bin").write_bytes(weights(8, 3).tobytes())
    monkeypatch.chdir(tmp_path / "here")
    model = onnx.load_from_string(conv_model("fp32"))
    (head,) = (tensor for tensor in model.graph.initializer if tensor.name == "head")
    head.ClearField("raw_data")
    head.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "96"}.items():
        entry = head.external_data.add()
        entry.key, entry.value = key, value
    with pytest.raises(BackendError, match=r"Failed to (open file|import initializer)|not allowed"):
        build_rtx(model.SerializeToString())


def test_a_free_axis_besides_the_batch_is_refused() -> None:
    nodes = [
        helper.make_node("Cast", ["frames"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Relu", ["f"], ["action_scores"]),
    ]
    with pytest.raises(BackendError, match=r"input 'frames' has shape \(-1, -1\): only its first axis"):
        build_rtx(model_of(nodes, {}, ["N", "T"]))
    with pytest.raises(UsageError, match=r"shape \(2, 4\) cannot take batches \(1, 2, 4\)"):
        build_rtx(model_of(nodes, {}, [2, 4]))
    assert build_rtx(model_of(nodes, {}, [2, 4]), options=BuildOptions(batch=(2, 2, 2))).plan


def test_what_the_builder_refuses_is_reported_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile is always given; without it, this is what NVIDIA's builder says."""
    trt = import_library("tensorrt_rtx")
    monkeypatch.setattr(trt.IBuilderConfig, "add_optimization_profile", lambda config, profile: 0)
    with pytest.raises(BackendError, match=r"builds no plan: .*no optimization profile has been defined"):
        build_rtx(conv_model("fp32"))


def test_progress_is_reported_phase_by_phase() -> None:
    events: list[tuple[str, int, int]] = []
    build_plan(
        conv_model("fp32"),
        SMALL,
        library="tensorrt_rtx",
        precision="fp32",
        progress=lambda *event: events.append(event),
    )
    phases = {phase for phase, _, _ in events}
    assert events[-1] == ("Building engine", events[-1][2], events[-1][2])
    assert {phase for phase, done, total in events if done == total} == phases
    assert all(0 <= done <= total for _, done, total in events)


@pytest.fixture
def handler() -> Iterator[object]:
    """The process's own handler of ctrl-C, which is in place again at the end."""
    before = signal.getsignal(signal.SIGINT)
    yield before
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("handler")
def test_ctrl_c_cancels_the_build() -> None:
    events: list[str] = []

    def interrupt(phase: str, done: int, total: int) -> None:
        events.append(phase)
        if len(events) == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        build_plan(conv_model("fp32"), SMALL, library="tensorrt_rtx", precision="fp32", progress=interrupt)
    assert len(events) == 3


@pytest.mark.usefixtures("handler")
def test_a_failing_receiver_cancels_the_build() -> None:
    def fail(phase: str, done: int, total: int) -> None:
        raise OSError("the terminal is gone")

    with pytest.raises(OSError, match="the terminal is gone"):
        build_plan(conv_model("fp32"), SMALL, library="tensorrt_rtx", precision="fp32", progress=fail)


@pytest.mark.usefixtures("handler")
def test_builds_in_threads_do_not_mix() -> None:
    built: dict[Precision, BuiltPlan] = {}

    def build_one(precision: Precision) -> None:
        built[precision] = build_rtx(conv_model(precision), precision)

    threads = [threading.Thread(target=build_one, args=(precision,)) for precision in ("fp32", "fp16")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(built["fp32"].engine.layer_types) == {"Float"}
    assert built["fp16"].engine.layer_types["Half"] >= NUM_CONVS


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """The tiny bundle with an entry for a plan of its model."""
    graph = tiny_model()
    digest = sha256(graph.SerializeToString())
    files = {
        "model.fp32.onnx": {"sha256": digest, "precision": "fp32"},
        "model.fp32.plan": {
            "sha256": "0" * 64,
            "precision": "fp32",
            "engine": {
                "library": "tensorrt_rtx",
                "version": "1.0",
                "compute_capabilities": ["8.9"],
                "batch": [1, 2, 3],
                "onnx_sha256": digest.upper(),
            },
        },
    }
    return load_bundle(write_tiny_bundle(tmp_path / "bundle", graph, format_version=2, files=files))


def test_a_bundles_plan_is_built_anew_from_its_graph(bundle: Bundle) -> None:
    built = rebuild_plan(bundle, "model.fp32.plan")
    assert built.engine.batch == (1, 2, 3)
    assert built.engine.compute_capabilities == ("8.9",)
    assert built.engine.version == import_library("tensorrt_rtx").__version__
    assert built.engine.onnx_sha256 == bundle.manifest.files["model.fp32.onnx"].sha256


def test_a_plan_of_pictures_is_built_beside_one_of_clips(bundle: Bundle) -> None:
    """For the same GPUs, with its weights, stored as what it is; and built anew later."""
    from tsm_export.graphs.preprocess import preprocess_graph

    graph, name = preprocess_graph(32), "preprocess.rtx.plan"
    like = bundle.manifest.files["model.fp32.plan"].engine
    assert like is not None
    with pytest.raises(BundleError, match=r"has no preprocess\.onnx .*; export it with tsm-export"):
        build_picture_plan(bundle, like)
    (bundle.path / "preprocess.onnx").write_bytes(graph)
    entry = ModelFile(sha256=sha256(graph), precision="fp32", kind="preprocess")
    bundle.manifest.files["preprocess.onnx"] = entry
    built = build_picture_plan(bundle, msgspec.structs.replace(like, stripped=True))
    assert (built.engine.batch, built.engine.stripped) == ((1, 1, 1), False)
    assert built.engine.compute_capabilities == ("8.9",)
    assert set(built.engine.layer_types) <= {"Float", "UInt8", "Int64", "Int32", "Bool"}
    stored = store_plan(bundle, name, built)
    assert stored.manifest.files[name].kind == "preprocess"
    assert stored.model_bytes(name) == built.plan
    assert rebuild_plan(stored, name).engine == built.engine


def test_pictures_of_an_older_graph_are_refused() -> None:
    nodes = [helper.make_node("Cast", [name], [f"{name}.f"], to=TensorProto.FLOAT) for name in ("y", "uv")]
    nodes += [helper.make_node("ReduceSum", [f"{name}.f"], [f"{name}.s"], keepdims=0) for name in ("y", "uv")]
    nodes += [helper.make_node("Add", ["y.s", "uv.s"], ["frames"])]
    shapes = {"y": (1, "height", "pitch"), "uv": (1, "rows", "pairs", 2)}
    graph = helper.make_graph(
        nodes,
        "old",
        [helper.make_tensor_value_info(n, TensorProto.UINT8, shape) for n, shape in shapes.items()],
        [helper.make_tensor_value_info("frames", TensorProto.FLOAT, ())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    words = r"input 'uv' has shape \(1, -1, -1, 2\), which is not \(1, 8, 16\) to \(1, 2176, 16384\); export"
    with pytest.raises(BackendError, match=words):
        build_rtx(model.SerializeToString(), options=PICTURES)


def test_a_plan_is_not_built_anew_from_an_altered_graph(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"has no plan model\.fp16\.plan \(it has model\.fp32\.plan\)"):
        source_graph(bundle, "model.fp16.plan")
    with pytest.raises(BundleError, match=r"has no plan model\.fp32\.onnx"):
        source_graph(bundle, "model.fp32.onnx")
    del bundle.manifest.files["model.fp32.onnx"]
    with pytest.raises(BundleError, match="holds no longer the ONNX file"):
        source_graph(bundle, "model.fp32.plan")


def test_an_altered_graph_is_refused_by_its_hash(bundle: Bundle) -> None:
    path = bundle.path / "model.fp32.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(BundleError, match="SHA-256 differs"):
        rebuild_plan(bundle, "model.fp32.plan")


def test_nothing_but_the_library_is_loaded_for_building() -> None:
    program = (
        "import sys\n"
        "from tsm_runtime.backends.tensorrt.build import build_plan\n"
        "from tsm_runtime.backends.tensorrt.build_options import BuildOptions\n"
        "build_plan(sys.stdin.buffer.read(), BuildOptions(batch=(1, 1, 1)), library='tensorrt_rtx',"
        " precision='fp32')\n"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'rich', 'pycuda'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=conv_model("fp32"), capture_output=True, check=True
    )
    assert done.stdout == b"[]\n"
