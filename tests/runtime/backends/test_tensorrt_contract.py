"""TensorRT's bindings: the stored contracts are those of the real wheels, and our code keeps to them.

TSM_BINDINGS names the folders with the wheels of TensorRT proper, separated like PATH. They are made by
`pip install --no-deps --target FOLDER tensorrt-cu13-bindings==10.16.1.11`, and the same for 11.4.0.106. Where
they or a C compiler are missing, nothing is compared; TSM_REQUIRE_BINDINGS=1 makes that a failure.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection
from importlib import metadata, util
from pathlib import Path
from typing import Any

import pytest
from tensorrt_contract import BINDINGS, CONTRACTS, ContractModule, contract_module, source_uses

import tsm_runtime

RUNTIME = Path(tsm_runtime.__file__).parent
SOURCES = sorted(path for part in ("tensorrt", "cuda") for path in RUNTIME.glob(f"backends/{part}/*.py"))
OTHER_OBJECTS = {
    "tensorrt/inspector.py": {"layer.get", "layer.inputs", "layer.kind", "layer.outputs", "tensor.items"},
    "tensorrt/build_options.py": {"engine"},
    "tensorrt/float_layers.py": {"convolution.__class__"},
    "tensorrt/plan_names.py": {"engine"},
    "tensorrt/rebuild.py": {"engine"},
    "cuda/device_clips.py": {"context"},
    "cuda/pycuda_memory.py": {"context"},
}
"""Where a name below holds, or may hold too, something that is not TensorRT's."""
TENSORRT = [name for name in CONTRACTS if name.startswith("tensorrt-")]
RTX_ONLY = {
    "ComputeCapability",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
}
"""What TensorRT for RTX has and TensorRT has not; used where a compute capability was requested."""


# --- the stored contracts -------------------------------------------------------------------------


def skip_bindings(reason: str) -> None:
    if os.environ.get("TSM_REQUIRE_BINDINGS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def bindings_of(version: str) -> str:
    folders = filter(None, os.environ.get("TSM_BINDINGS", "").split(os.pathsep))
    for folder in folders:
        for found in metadata.distributions(name="tensorrt-cu13-bindings", path=[folder]):
            if found.version == version:
                return folder
    skip_bindings(f"no wheel of tensorrt-cu13-bindings {version} (TSM_BINDINGS names its folder)")
    raise AssertionError


@pytest.mark.parametrize("name", CONTRACTS)
def test_stored_contracts_are_those_of_the_wheels(name: str) -> None:
    module, _, version = name.partition("-")
    if module == "tensorrt":
        if shutil.which("cc") is None:
            skip_bindings("no C compiler (cc)")
        source = bindings_of(version)
    else:
        installed = util.find_spec(module) and metadata.version("tensorrt-rtx-cu13")
        if installed != version:
            skip_bindings(f"tensorrt-rtx-cu13 {version} is not installed")
        source = module
    done = subprocess.run(
        [sys.executable, BINDINGS / "introspect.py", source], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == CONTRACTS[name].read_text()


def test_what_is_known_of_the_versions_is_in_their_contracts() -> None:
    """Spot checks against NVIDIA's list of what went in 11.0; the addresses and streams are plain numbers."""
    old, new = (json.loads(CONTRACTS[name].read_text()) for name in TENSORRT)
    assert (old["version"], new["version"]) == ("10.16.1.11", "11.4.0.106")
    assert "FP16 = 0" in old["enums"]["BuilderFlag"]
    assert "FP16" not in new["enums"]["BuilderFlag"]
    assert "STRONGLY_TYPED = 1" in old["enums"]["NetworkDefinitionCreationFlag"]
    assert "STRONGLY_TYPED = 0" in new["enums"]["NetworkDefinitionCreationFlag"]
    assert "device_memory_size: int" in old["classes"]["ICudaEngine"]
    assert "device_memory_size: int" not in new["classes"]["ICudaEngine"]
    for contract in (old, new):
        context = contract["classes"]["IExecutionContext"]
        assert "execute_async_v3(stream_handle: SupportsInt) -> bool" in context
        assert "set_tensor_address(name: str, memory: SupportsInt) -> bool" in context
        assert "infer_shapes() -> list[str]" in context


# --- the double that is made of them ----------------------------------------------------------------


@pytest.fixture(params=CONTRACTS)
def module(request: pytest.FixtureRequest) -> ContractModule:
    return contract_module(request.param)


def test_names_that_are_not_in_the_contract_are_not_there(module: ContractModule) -> None:
    engine = module.make("ICudaEngine")
    for call in (
        lambda: module.IInt8EntropyCalibrator,
        lambda: module.BuilderFlag.OBEY,
        lambda: engine.get_binding_shape,
        lambda: engine.max_batch_size,
        lambda: module.implements("ICudaEngine.get_binding_shape"),
    ):
        with pytest.raises(AttributeError):
            call()
    with pytest.raises(AttributeError):
        engine.anything = 1  # the real objects take no attributes either
    with pytest.raises(AttributeError):
        engine.num_io_tensors = 3


def test_fp16_is_a_flag_of_version_10_only() -> None:
    assert [hasattr(contract_module(name).BuilderFlag, "FP16") for name in TENSORRT] == [True, False]


def test_arguments_are_those_of_the_contract(module: ContractModule) -> None:
    context = module.make("IExecutionContext")
    assert context.set_tensor_address("frames", 4096) is True
    assert context.set_tensor_address(name="frames", memory=4096) is True
    for given, named in (
        (("frames",), {}),
        (("frames", 4096, 1), {}),
        (("frames",), {"address": 4096}),
        (("frames", 4096.0), {}),
        (("frames", None), {}),
        ((b"frames", 4096), {}),
        (("frames",), {"name": "frames", "memory": 1}),
    ):
        with pytest.raises(
            TypeError, match=re.escape("IExecutionContext.set_tensor_address(): incompatible")
        ):
            context.set_tensor_address(*given, **named)
    for shape in ((1, 2), [1, 2], module.Dims((1, 2))):
        assert context.set_input_shape("frames", shape)
    for shape in ((1, 2.5), "12", 12, None):
        with pytest.raises(TypeError):
            context.set_input_shape("frames", module.Dims(shape) if shape == (1, 2.5) else shape)


def test_constructors_are_those_of_the_contract(module: ContractModule) -> None:
    class Forgetful(module.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            pass

    class Careful(module.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()

    with pytest.raises(TypeError, match=r"ILogger.__init__\(\) must be called when overriding __init__"):
        Forgetful()
    assert isinstance(module.Runtime(Careful()), module.Runtime)
    assert isinstance(module.Runtime(module.Logger(module.Logger.ERROR)), module.Runtime)
    with pytest.raises(TypeError):
        module.Runtime()
    with pytest.raises(TypeError):
        module.Runtime(print)
    with pytest.raises(TypeError, match="No constructor defined"):
        module.ICudaEngine()


def test_enums_are_no_numbers_until_requested(module: ContractModule) -> None:
    assert int(module.DataType.UINT8) == 5
    assert module.DataType.UINT8 != 5
    assert module.DataType.UINT8.name == "UINT8"
    config = module.make("IBuilderConfig")
    config.set_flag(module.BuilderFlag.TF32)
    with pytest.raises(TypeError):
        config.set_flag(module.DataType.UINT8)
    with pytest.raises(TypeError):
        config.set_flag(6)


def test_what_is_used_is_written_down(module: ContractModule) -> None:
    runtime = module.Runtime(module.Logger())
    runtime.engine_host_code_allowed = True
    assert runtime.engine_host_code_allowed is True
    assert module.used == {"Logger.__init__", "Runtime.__init__", "Runtime.engine_host_code_allowed"}


# --- our sources ----------------------------------------------------------------------------------


def is_in(contract: dict[str, Any], use: str) -> bool:
    kind, _, member = use.partition(".")
    if member in ("", "__init__", "__members__") or kind.startswith("__"):
        return kind in ("__name__", "__version__", *contract["classes"], *contract["enums"])
    if kind in contract["enums"]:
        return re.search(rf"\b{member} = ", contract["enums"][kind]) is not None
    lines = contract["classes"].get(kind, [])
    if kind == "OnnxParser":
        lines = [*lines, *contract["classes"]["OnnxParserRefitter"]]
    return any(re.match(rf"{member}\b", line) for line in lines)


def missing(source: str, others: Collection[str] = ()) -> dict[str, list[str]]:
    """Use to the TensorRT versions that do not have it."""
    contracts = {name: json.loads(CONTRACTS[name].read_text()) for name in TENSORRT}
    found = {
        use: [name for name, c in contracts.items() if not is_in(c, use)]
        for use in source_uses(source, others)
    }
    return {
        use: names for use, names in found.items() if names and not {use, use.partition(".")[0]} & RTX_ONLY
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_our_sources_use_what_both_versions_have(path: Path) -> None:
    others = OTHER_OBJECTS.get(f"{path.parent.name}/{path.name}", set())
    assert missing(path.read_text(), others) == {}


def test_what_only_rtx_has_is_in_its_contract() -> None:
    (name,) = set(CONTRACTS) - set(TENSORRT)
    contract = json.loads(CONTRACTS[name].read_text())
    assert all(is_in(contract, use) for use in RTX_ONLY)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("config.set_flag(trt.BuilderFlag.FP16)", {"BuilderFlag.FP16": ["tensorrt-11.4.0.106"]}),
        ("if hasattr(trt.BuilderFlag, 'FP16'): pass", {}),
        ("flag = getattr(trt.NetworkDefinitionCreationFlag, 'EXPLICIT_BATCH', None)", {}),
        ("x = self._engine.device_memory_size", {"ICudaEngine.device_memory_size": ["tensorrt-11.4.0.106"]}),
        ("engine.max_batch_size", {"ICudaEngine.max_batch_size": TENSORRT}),
        ("trt.init_everything()", {"init_everything": TENSORRT}),
        ("context.execute_async_v3(1)", {}),
        ("config.build_route = 'x'", {"IBuilderConfig.build_route": ["tensorrt-10.16.1.11"]}),
    ],
)
def test_a_name_that_a_version_lacks_is_found(source: str, found: dict[str, list[str]]) -> None:
    assert missing(source) == found
