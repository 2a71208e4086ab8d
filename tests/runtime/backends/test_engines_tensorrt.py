"""What only the full TensorRT does (timing cache, GPU, inspector, refit), on a double that records calls.

The double is made of the stored contracts of TensorRT 10.16 and 11.4: a name or kind of argument that one of
them does not have is an error here too.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nvdec_double import CudaDouble
from tensorrt_contract import ContractModule, contract_module

from tsm_runtime.backends.cuda.gpu import Gpu
from tsm_runtime.backends.tensorrt import build, timing_cache
from tsm_runtime.backends.tensorrt.build import BuiltPlan, build_plan
from tsm_runtime.backends.tensorrt.build_options import BuildOptions
from tsm_runtime.backends.tensorrt.inspector import Precision
from tsm_runtime.backends.tensorrt.network import new_builder
from tsm_runtime.backends.tensorrt.rebuild import refit_engine
from tsm_runtime.bundle.manifest import EngineInfo, sha256
from tsm_runtime.errors import BackendError, CheckError, RunError, UsageError

H100 = Gpu("NVIDIA H100 80GB HBM3", "9.0")
VERSIONS = {"tensorrt-10.16.1.11": "Format/Datatype", "tensorrt-11.4.0.106": "Datatype"}
"""And how the inspector calls the type of a tensor."""


@dataclass
class State:
    """What the double does, and what was done with it."""

    graph_type: str = "HALF"
    plan_type: str = "Half"
    type_key: str = ""
    types_without_context: bool = True
    plan: bytes | None = b"plan"
    loads: bool = True
    profile_index: int = 0
    missing_weights: tuple[str, ...] = ()
    refit_works: bool = True
    cache_header: bytes = b"this version on H100 "
    cache: bytes = b""
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    config: Any = None
    logger: Any = None

    def called(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == name]


def returning(make: Callable[..., Any]) -> Callable[..., Any]:
    """A behaviour that needs neither the object nor the arguments."""
    return lambda this, **arguments: make()


def fill(module: ContractModule, state: State) -> None:
    """Let a contract's module build plans, all of the same bytes."""
    fill_network(module, state)
    fill_config(module, state)
    fill_engine(module, state)
    does = module.implements

    @does("Builder.__init__")
    def builder(this: Any, logger: Any) -> None:
        state.logger = logger

    @does("Builder.create_network")
    def create_network(this: Any, flags: int) -> Any:
        state.calls.append(("create_network", flags))
        return module.make("INetworkDefinition")

    @does("Builder.create_builder_config")
    def create_builder_config(this: Any) -> Any:
        state.config = module.make("IBuilderConfig")
        return state.config

    @does("Builder.build_serialized_network")
    def build_serialized_network(this: Any, network: Any, config: Any) -> Any:
        monitor = config.double.set_progress_monitor
        monitor.phase_start("Building engine", None, 2)
        assert monitor.step_complete("Building engine", 0)
        monitor.phase_finish("Building engine")
        if state.plan is None:
            say(module, state.logger, "out of memory In allocate at /_src/a.cpp:12")
            return None
        return module.make("IHostMemory", state.plan)


def say(module: ContractModule, logger: Any, words: str) -> None:
    logger.log(module.ILogger.Severity.ERROR, words)  # type: ignore[attr-defined]


def fill_network(module: ContractModule, state: State) -> None:
    does, make = module.implements, module.make

    def tensor(name: str, dtype: str, shape: tuple[int, ...] = ()) -> Any:
        return make("ITensor", name=name, dtype=getattr(module.DataType, dtype), shape=shape)  # type: ignore[attr-defined]

    for member in ("name", "dtype", "shape"):
        does(f"ITensor.{member}")(lambda this, member=member: getattr(this.double, member))
    for member in ("num_inputs", "num_outputs", "num_layers"):
        does(f"INetworkDefinition.{member}")(lambda this: 1)
    frames = (-1, 8, 64, 64, 3)
    does("INetworkDefinition.get_input")(returning(lambda: tensor("frames", "UINT8", frames)))
    does("INetworkDefinition.get_layer")(returning(lambda: make("ILayer")))
    does("ILayer.type")(lambda this: module.LayerType.CONVOLUTION)  # type: ignore[attr-defined]
    does("ILayer.num_inputs")(lambda this: 2)
    does("ILayer.num_outputs")(lambda this: 1)
    does("ILayer.get_input")(lambda this, index: None if index else tensor("x", state.graph_type))
    does("ILayer.get_output")(returning(lambda: tensor("y", state.graph_type)))
    does("OnnxParser.num_errors")(lambda this: 0)

    @does("IOptimizationProfile.set_shape")
    def set_shape(this: Any, **arguments: Any) -> None:
        state.calls.append(("set_shape", *arguments.values()))


def fill_config(module: ContractModule, state: State) -> None:
    does = module.implements

    def record(name: str) -> Callable[..., None]:
        return lambda this, **arguments: state.calls.append(
            (name, *(getattr(value, "name", value) for value in arguments.values()))
        )

    for name in ("set_memory_pool_limit", "set_flag", "clear_flag"):
        does(f"IBuilderConfig.{name}")(record(name))
    does("IBuilderConfig.add_optimization_profile")(returning(lambda: state.profile_index))

    @does("IBuilderConfig.create_timing_cache")
    def create_timing_cache(this: Any, serialized_timing_cache: bytes) -> Any:
        state.calls.append(("create_timing_cache", serialized_timing_cache))
        if serialized_timing_cache == b"garbage":
            return None
        return module.make("ITimingCache", data=serialized_timing_cache)

    @does("IBuilderConfig.set_timing_cache")
    def set_timing_cache(this: Any, cache: Any, ignore_mismatch: bool) -> bool:
        data = cache.double.data
        if data and not data.startswith(state.cache_header) and not ignore_mismatch:
            return False
        state.cache = data or state.cache_header
        return True

    measured = returning(lambda: module.make("IHostMemory", state.cache + b"+"))
    does("ITimingCache.serialize")(measured)


def fill_engine(module: ContractModule, state: State) -> None:
    does = module.implements

    @does("Runtime.deserialize_cuda_engine")
    def deserialize(this: Any, serialized_engine: bytes) -> Any:
        state.calls.append(("deserialize", serialized_engine, this.engine_host_code_allowed))
        if not state.loads:
            say(module, state.logger, "wrong magic number")
            return None
        return module.make("ICudaEngine")

    modes = module.TensorIOMode  # type: ignore[attr-defined]
    does("ICudaEngine.num_io_tensors")(lambda this: 2)
    does("ICudaEngine.get_tensor_name")(lambda this, index: ("scores", "frames")[index])
    does("ICudaEngine.get_tensor_mode")(lambda this, name: modes.INPUT if name == "frames" else modes.OUTPUT)
    does("ICudaEngine.get_tensor_profile_shape")(lambda this, name, profile_index: [(1, 8), (4, 8), (16, 8)])

    @does("ICudaEngine.create_execution_context")
    def create_execution_context(this: Any, strategy: Any) -> Any:
        state.calls.append(("create_execution_context", strategy.name))
        return module.make("IExecutionContext")

    @does("IExecutionContext.set_input_shape")
    def set_input_shape(this: Any, name: str, shape: Any) -> bool:
        state.calls.append(("set_input_shape", name, shape))
        return True

    @does("EngineInspector.get_engine_information")
    def get_engine_information(this: Any, format: Any) -> str:  # noqa: A002
        assert format.name == "JSON"
        known = state.types_without_context or hasattr(this.double, "set_execution_context")
        tensors = [{state.type_key: state.plan_type if known else "N/A due to dynamic shapes"}]
        layer = {"LayerType": "CaskConvolution", "Inputs": tensors, "Outputs": tensors}
        return json.dumps({"Layers": [layer, layer]})

    does("Refitter.get_missing_weights")(lambda this: list(state.missing_weights))
    does("Refitter.refit_cuda_engine")(lambda this: state.refit_works)
    does("OnnxParserRefitter.num_errors")(lambda this: 0)

    @does("OnnxParserRefitter.refit_from_bytes")
    def refit_from_bytes(this: Any, model: bytes, path: str) -> bool:
        state.calls.append(("refit_from_bytes", model))
        return True


@pytest.fixture(params=VERSIONS)
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ContractModule:
    double = contract_module(request.param)
    monkeypatch.setitem(sys.modules, "tensorrt", double)
    monkeypatch.setattr(build, "find_gpu", lambda device: H100)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return double


@pytest.fixture(autouse=True)
def state(module: ContractModule) -> State:
    made = State(type_key=next(key for name, key in VERSIONS.items() if module.__version__ in name))
    fill(module, made)
    return made


def build_one(options: BuildOptions | None = None, precision: Precision = "fp16") -> BuiltPlan:
    return build_plan(b"onnx", options or BuildOptions(batch=(1, 4, 16)), precision=precision)


def test_a_plan_is_built_on_the_requested_gpu(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """The builder takes the GPU whose context is current."""
    cuda, stacks = CudaDouble(device=1), []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: cuda)

    def noted(trt: Any, heard: Any) -> Any:
        stacks.append([*cuda.stack])
        return new_builder(trt, heard)

    monkeypatch.setattr(build, "new_builder", noted)
    build_one(BuildOptions(batch=(1, 4, 16), device=1))
    assert (stacks, cuda.stack, cuda.retained) == ([[77]], [], 0)


def test_a_plan_is_described(state: State, module: ContractModule) -> None:
    built = build_one()
    assert built.plan == b"plan"
    assert built.evidence == "engine inspector"
    assert built.warnings == ()
    assert built.num_layers == 1
    assert built.engine == EngineInfo(
        library="tensorrt",
        version=module.__version__,
        gpu=H100.name,
        compute_capabilities=("9.0",),
        batch=(1, 4, 16),
        onnx_sha256=sha256(b"onnx"),
        layer_types={"Half": 2},
    )
    flag = int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)  # 1 in TensorRT 10, 0 in 11
    assert state.called("create_network") == [(1 << flag,)]
    clips = (8, 64, 64, 3)
    assert state.called("set_shape") == [
        ("frames", (1, *clips), (4, *clips), (16, *clips)),
        ("frames", (1, *clips), (1, *clips), (1, *clips)),  # a profile of its own
    ]
    assert state.called("deserialize") == [(b"plan", False)]
    assert state.config.double.set_profiling_verbosity.name == "DETAILED"


@pytest.mark.parametrize("batch", [(1, 1, 16), (2, 4, 16), (4, 4, 4)])
def test_one_clip_has_no_profile_where_it_is_the_best_or_not_allowed(
    state: State, batch: tuple[int, int, int]
) -> None:
    build_one(BuildOptions(batch=batch))
    assert [[shape[0] for shape in shapes] for _, *shapes in state.called("set_shape")] == [[*batch]]


def test_networks_are_typed_where_that_is_no_choice_any_more(state: State, module: ContractModule) -> None:
    module.__version__ = "12.0.0.1"
    module.NetworkDefinitionCreationFlag = SimpleNamespace()  # type: ignore[attr-defined]
    assert build_one().engine.layer_types == {"Half": 2}
    assert state.called("create_network") == [(0,)]


def test_types_that_need_a_context_are_read_at_the_best_batch(state: State) -> None:
    state.types_without_context = False
    built = build_one()
    assert built.engine.layer_types == {"Half": 2}
    assert state.called("create_execution_context") == [("USER_MANAGED",)]
    assert state.called("set_input_shape") == [("frames", (4, 8))]


def test_a_plan_in_float32_is_not_taken_for_fp16(state: State) -> None:
    state.plan_type = "Float"
    with pytest.raises(CheckError, match="the plan is not fp16: of 2 heavy layers 0 are Half"):
        build_one()


def test_options_reach_the_builder(state: State) -> None:
    options = BuildOptions(
        workspace_mib=512,
        optimization_level=5,
        version_compatible=True,
        hardware_compatibility="ampere_plus",
        stripped=True,
    )
    built = build_one(options)
    assert state.called("set_memory_pool_limit") == [("WORKSPACE", 512 * 2**20)]
    assert state.called("set_flag") == [("VERSION_COMPATIBLE",), ("STRIP_PLAN",), ("REFIT_IDENTICAL",)]
    assert state.called("clear_flag") == []
    assert state.config.double.set_builder_optimization_level == 5
    assert state.config.double.set_hardware_compatibility_level.name == "AMPERE_PLUS"
    assert state.called("deserialize") == [(b"plan", True)]
    engine = built.engine
    assert (engine.version_compatible, engine.hardware_compatibility, engine.stripped) == (
        True,
        "ampere_plus",
        True,
    )


def test_a_plan_for_one_compute_capability_is_not_called_compatible(state: State) -> None:
    built = build_one(BuildOptions(hardware_compatibility="same_compute_capability"))
    assert state.config.double.set_hardware_compatibility_level.name == "SAME_COMPUTE_CAPABILITY"
    assert built.engine.hardware_compatibility == "same_compute_capability"


def test_fp32_is_float32_and_not_tf32(state: State) -> None:
    state.graph_type, state.plan_type = "FLOAT", "Row major linear FP32"
    assert build_one(precision="fp32").engine.layer_types == {"Float": 2}
    assert state.called("clear_flag") == [("TF32",)]
    assert not hasattr(state.config.double, "set_hardware_compatibility_level")


def test_progress_is_handed_on() -> None:
    events: list[tuple[str, int, int]] = []
    build_plan(b"onnx", BuildOptions(), precision="fp16", progress=lambda *event: events.append(event))
    assert events == [("Building engine", 0, 2), ("Building engine", 1, 2), ("Building engine", 2, 2)]


def test_no_plan_is_an_error_in_the_librarys_words(state: State) -> None:
    state.plan = None
    with pytest.raises(BackendError, match=r"^tensorrt 1[01][\d.]+ builds no plan: out of memory$"):
        build_one()
    with pytest.raises(BackendError, match="builds no stripped plan: out of memory"):
        build_one(BuildOptions(stripped=True))


def test_a_plan_that_does_not_load_is_an_error(state: State) -> None:
    state.loads = False
    with pytest.raises(BackendError, match="does not load the plan that it built: wrong magic number"):
        build_one()


def test_a_batch_that_the_library_refuses_is_an_error(state: State) -> None:
    state.profile_index = -1
    with pytest.raises(BackendError, match=r"does not take batches \(1, 4, 16\): it gives no reason"):
        build_one()


def test_a_builder_that_does_not_start_is_an_error(module: ContractModule) -> None:
    @module.implements("Builder.__init__")
    def null(this: Any, logger: Any) -> None:
        say(module, logger, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    with pytest.raises(BackendError, match="does not start: CUDA initialization failure with error: 35"):
        build_one()


def test_without_a_gpu_nothing_is_built(monkeypatch: pytest.MonkeyPatch, state: State) -> None:
    def find_gpu(device: int) -> Gpu:
        raise BackendError("no GPU: the driver finds no device")

    monkeypatch.setattr(build, "find_gpu", find_gpu)
    with pytest.raises(BackendError, match="no GPU: the driver finds no device\ntensorrt builds") as raised:
        build_one()
    assert raised.value.exit_code == 5
    assert state.calls == []


def test_compute_capabilities_are_no_choice(state: State) -> None:
    with pytest.raises(UsageError, match="for tensorrt-rtx only"):
        build_one(BuildOptions(compute_capabilities=("8.9",)))
    assert state.calls == []


# The timing cache.


def test_a_timing_cache_grows_from_build_to_build(state: State, tmp_path: Path) -> None:
    path = tmp_path / "new" / "timing.cache"
    options = BuildOptions(timing_cache=path)
    assert build_one(options).warnings == ()
    assert path.read_bytes() == b"this version on H100 +"
    assert build_one(options).warnings == ()
    assert path.read_bytes() == b"this version on H100 ++"
    assert state.called("create_timing_cache") == [(b"",), (b"this version on H100 +",)]


def test_the_cache_is_one_per_version_and_gpu(tmp_path: Path, module: ContractModule) -> None:
    first = module.__version__
    build_one()
    module.__version__ = "10.12.0.36"
    build_one()
    names = sorted(path.name for path in (tmp_path / "cache" / "tsm-tal").iterdir())
    assert names == [
        "timing-10.12.0.36-NVIDIA-H100-80GB-HBM3-9.0.cache",
        f"timing-{first}-NVIDIA-H100-80GB-HBM3-9.0.cache",
    ]


@pytest.mark.parametrize("old", [b"garbage", b"10.12 on A100 +"])
def test_a_cache_that_does_not_fit_is_replaced_with_a_warning(old: bytes, tmp_path: Path) -> None:
    path = tmp_path / "timing.cache"
    path.write_bytes(old)
    (warning,) = build_one(BuildOptions(timing_cache=path)).warnings
    assert warning.startswith(f"timing cache {path} is damaged or of another version or GPU")
    assert path.read_bytes() == b"this version on H100 +"


def test_a_full_disk_costs_the_cache_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "timing.cache"
    path.write_bytes(b"this version on H100 +")

    def full(target: Path, data: bytes) -> None:
        raise RunError(f"cannot write {target}: No space left on device")

    monkeypatch.setattr(timing_cache, "write_whole", full)
    built = build_one(BuildOptions(timing_cache=path))
    assert built.plan == b"plan"
    assert built.warnings == (
        f"timing cache not kept: cannot write {path}: No space left on device; the plan is complete",
    )
    assert path.read_bytes() == b"this version on H100 +"


def test_a_cache_in_an_impossible_place_costs_the_cache_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    built = build_one(BuildOptions(timing_cache=tmp_path / "file" / "timing.cache"))
    assert built.plan == b"plan"
    unread, unkept = built.warnings
    assert "cannot be read" in unread
    assert unkept.startswith("timing cache not kept: ")


def test_a_folder_as_cache_costs_the_cache_only(tmp_path: Path) -> None:
    unread, unkept = build_one(BuildOptions(timing_cache=tmp_path)).warnings
    assert (
        unread == f"timing cache {tmp_path} cannot be read ({os.strerror(errno.EISDIR)}); building without it"
    )
    assert unkept.endswith("the plan is complete")


# Stripped plans.


@pytest.fixture
def engine(module: ContractModule) -> Any:
    return module.make("ICudaEngine")


def test_weights_are_put_into_a_stripped_engine(engine: Any, state: State, module: ContractModule) -> None:
    refit_engine(engine, b"onnx")
    assert state.called("refit_from_bytes") == [(b"onnx",)]
    assert "Refitter.refit_cuda_engine" in module.used


def test_weights_that_are_missing_are_named(engine: Any, state: State, module: ContractModule) -> None:
    state.missing_weights = ("conv1", "conv2", "conv3", "conv4")
    with pytest.raises(
        BackendError, match=r"misses weights: the graph has 4 too few \(conv1, conv2, conv3\)"
    ):
        refit_engine(engine, b"onnx")
    assert "Refitter.refit_cuda_engine" not in module.used


def test_a_refit_that_fails_is_an_error(engine: Any, state: State) -> None:
    state.refit_works = False
    with pytest.raises(BackendError, match="does not put the weights in: it gives no reason"):
        refit_engine(engine, b"onnx")


def test_weights_of_another_graph_are_refused_in_the_parsers_words(
    engine: Any, module: ContractModule
) -> None:
    does = module.implements
    does("OnnxParserRefitter.refit_from_bytes")(lambda this, model, path: False)
    does("OnnxParserRefitter.num_errors")(lambda this: 1)
    does("OnnxParserRefitter.get_error")(returning(lambda: module.make("ParserError")))
    for name, words in {"desc": "other\n shape", "node_name": "n1", "node_operator": "Conv"}.items():
        does(f"ParserError.{name}")(lambda this, words=words: words)
    with pytest.raises(BackendError, match="does not take the weights of the graph: Conv n1: other shape"):
        refit_engine(engine, b"onnx")


def test_an_engine_that_was_not_stripped_takes_no_weights(engine: Any, module: ContractModule) -> None:
    @module.implements("Refitter.__init__")
    def null(this: Any, engine: Any, logger: Any) -> None:
        say(module, logger, "engine is not refittable")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    with pytest.raises(BackendError, match="cannot put weights into this engine: engine is not refittable"):
        refit_engine(engine, b"onnx")
