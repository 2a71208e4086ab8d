"""Which model of a bundle runs, and on what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tiny_bundle import tiny_model, write_tiny_bundle

from tsm_runtime.backends import onnxruntime_module
from tsm_runtime.backends.base import Backend, BlockingBackend, Scores
from tsm_runtime.backends.cuda.gpu import Gpu
from tsm_runtime.backends.tensorrt import rebuild
from tsm_runtime.backends.tensorrt.build import BuiltPlan
from tsm_runtime.backends.tensorrt.build_options import BuildOptions
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.manifest import EngineInfo, ModelFile, encode_manifest, sha256
from tsm_runtime.errors import BackendError, BundleError, UsageError
from tsm_runtime.models import choice
from tsm_runtime.models.choice import BackendRequest, open_requested

MODEL = tiny_model().SerializeToString()


def engine(version: str = "10.12") -> EngineInfo:
    return EngineInfo(library="tensorrt", version=version, batch=(1, 4, 8), onnx_sha256=sha256(MODEL))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Models of three precisions, and plans of two."""
    folder = write_tiny_bundle(tmp_path / "bundle")
    files = dict(load_bundle(folder).manifest.files)
    for name, precision in (("model.fp16.onnx", "fp16"), ("model.int8.onnx", "int8")):
        (folder / name).write_bytes(MODEL)
        files[name] = ModelFile(sha256=sha256(MODEL), precision=precision)  # type: ignore[arg-type]
    for name, precision in (("model.fp32.plan", "fp32"), ("model.fp16.plan", "fp16")):
        (folder / name).write_bytes(b"plan of 10.12")
        files[name] = ModelFile(
            sha256=sha256(b"plan of 10.12"),
            precision=precision,  # type: ignore[arg-type]
            engine=engine(),
        )
    manifest = msgspec.structs.replace(load_bundle(folder).manifest, files=files)
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    return load_bundle(folder)


class FakePlan(BlockingBackend):
    def __init__(self, name: str) -> None:
        self.name = name

    def infer(self, frames: np.ndarray) -> Scores:
        raise AssertionError("not run here")


def open_plans_of(version: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let plans of one version open, and no others, as the real backend does; return what was tried."""
    tried: list[str] = []
    real = choice.open_model

    def opened(bundle: Bundle, name: str, **given: Any) -> Backend:
        tried.append(name)
        if not name.endswith(".plan"):
            return real(bundle, name, **given)
        bundle.model_bytes(name)
        info = bundle.manifest.files[name].engine
        assert info is not None
        if info.version != version:
            raise BundleError(f"{name} is for tensorrt {info.version}, here is {version}")
        return FakePlan(name)

    monkeypatch.setattr(choice, "open_model", opened)
    return tried


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (BackendRequest(), "model.fp16.plan"),
        (BackendRequest(precision="fp32"), "model.fp32.plan"),
        (BackendRequest(backend="tensorrt"), "model.fp16.plan"),
    ],
)
def test_a_plan_that_runs_here_is_taken(
    bundle: Bundle, request_: BackendRequest, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_plans_of("10.12", monkeypatch)
    assert open_requested(bundle, request_).name == name


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (BackendRequest(backend="onnxruntime"), "model.fp32.onnx"),
        (BackendRequest(backend="onnxruntime", precision="fp16"), "model.fp16.onnx"),
        (BackendRequest(precision="int8"), "model.int8.onnx"),  # there is no such plan
    ],
)
def test_onnxruntime_where_it_is_requested_or_there_is_no_plan(
    bundle: Bundle, request_: BackendRequest, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = open_plans_of("10.12", monkeypatch)
    backend = open_requested(bundle, request_)
    assert tried == [name]
    assert f"CPU, {name.split('.')[1]}" in backend.name


def test_auto_says_why_a_plan_is_not_taken(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = open_plans_of("11.4", monkeypatch)
    assert "CPU, fp32" in open_requested(bundle, BackendRequest()).name
    assert tried == ["model.fp16.plan", "model.fp32.onnx"]
    assert "".join(f"{line}\n" for line in caplog.messages) == (
        "onnxruntime runs instead of model.fp16.plan: model.fp16.plan is for tensorrt 10.12, here is 11.4\n"
    )


def test_a_backend_that_is_named_is_used_or_an_error(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    open_plans_of("11.4", monkeypatch)
    with pytest.raises(BundleError, match=r"is for tensorrt 10\.12, here is 11\.4"):
        open_requested(bundle, BackendRequest(backend="tensorrt"))
    with pytest.raises(
        BundleError, match=r"has no plan of int8 .* tsm-export --engine int8 --target tensorrt"
    ):
        open_requested(bundle, BackendRequest(backend="tensorrt", precision="int8"))


def test_rebuild_puts_a_plan_of_this_machine_into_the_bundle(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    built_from: list[tuple[bytes, BuildOptions, str]] = []

    def build(
        onnx: bytes, options: BuildOptions, *, library: str, precision: str, progress: object
    ) -> BuiltPlan:
        built_from.append((onnx, options, precision))
        return BuiltPlan(plan=b"plan of 11.4", engine=engine("11.4"), evidence="graph", num_layers=1)

    monkeypatch.setattr(rebuild, "build_plan", build)
    open_plans_of("11.4", monkeypatch)
    backend = open_requested(bundle, BackendRequest(backend="tensorrt", rebuild=True))
    assert backend.name == "model.fp16.plan"
    assert [(onnx, options.batch, precision) for onnx, options, precision in built_from] == [
        (MODEL, (1, 4, 8), "fp16")
    ]
    assert "building model.fp16.plan again" in caplog.text
    again = load_bundle(bundle.path)
    assert again.model_bytes("model.fp16.plan") == b"plan of 11.4"
    assert again.manifest_sha256 == bundle.manifest_sha256  # the same models: an ensemble still knows it
    assert again.manifest.files["model.fp32.plan"].engine == engine()
    open_requested(again, BackendRequest(backend="tensorrt", rebuild=True))
    assert len(built_from) == 1


def test_an_altered_plan_is_built_again(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    (bundle.path / "model.fp16.plan").write_bytes(b"something else")
    open_plans_of("10.12", monkeypatch)
    with pytest.raises(BundleError, match="SHA-256 differs"):
        open_requested(bundle, BackendRequest(backend="tensorrt"))
    monkeypatch.setattr(
        rebuild,
        "build_plan",
        lambda *_, **__: BuiltPlan(plan=b"new", engine=engine(), evidence="graph", num_layers=1),
    )
    open_requested(bundle, BackendRequest(backend="tensorrt", rebuild=True))
    assert load_bundle(bundle.path).model_bytes("model.fp16.plan") == b"new"


@pytest.mark.parametrize(
    ("device", "first"),
    [(0, "model.fp16.plan"), (1, "model.fp16.sm86.plan"), (2, "model.fp16.plan"), (3, "model.fp16.plan")],
)
def test_the_plan_for_this_kind_of_gpu_is_tried_first(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, device: int, first: str
) -> None:
    """GPUs 0 and 1 have a plan of their kind, 2 has none, and 3 is not there."""
    files = dict(bundle.manifest.files)
    for name, capability in (("model.fp16.plan", "9.0"), ("model.fp16.sm86.plan", "8.6")):
        made = msgspec.structs.replace(engine(), compute_capabilities=(capability,))
        files[name] = msgspec.structs.replace(files["model.fp16.plan"], engine=made)
    files["model.fp16.plan.old"] = files["model.fp16.plan"]
    manifest = msgspec.structs.replace(bundle.manifest, files=files)
    several = msgspec.structs.replace(bundle, manifest=manifest)

    def find(number: int) -> Gpu:
        if number == 3:
            raise BackendError("no GPU 3")
        return Gpu(name="some GPU", compute_capability=("9.0", "8.6", "12.0")[number])

    monkeypatch.setattr(choice, "find_gpu", find)
    found = choice._plans(several, BackendRequest(backend="tensorrt", device=device))
    assert found[0] == first
    assert sorted(found) == ["model.fp16.plan", "model.fp16.sm86.plan"]


def test_no_gpu_is_an_error_where_tensorrt_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_gpu(bundle: Bundle, name: str, **_: object) -> Backend:
        raise BackendError("no GPU")

    monkeypatch.setattr(choice, "open_model", no_gpu)
    with pytest.raises(BackendError, match="no GPU"):
        open_requested(bundle, BackendRequest(backend="tensorrt"))


# --- engines of ONNX files ------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, bool]]:
    """File, engine and bf16 of all that is opened; plans and CUDA do not open."""
    calls: list[tuple[str, str, bool]] = []

    def fake(
        bundle: Bundle,
        name: str,
        *,
        engine: str = "",
        bf16: bool = False,
        num_threads: int | None = None,
        parallel_calls: int = 1,
        device: int = 0,
    ) -> Backend:
        calls.append((name, engine, bf16))
        if name.endswith(".plan"):
            raise BackendError("no GPU for plans")
        if engine == "onnxruntime-cuda" and not runs_cuda:
            raise BackendError("CUDA does not load\nget it")
        return FakePlan(f"{engine} {name}")

    runs_cuda: list[bool] = []
    monkeypatch.setattr(choice, "open_model", fake)
    monkeypatch.setattr(choice, "_has_cuda", lambda: True)
    fake.runs_cuda = runs_cuda  # type: ignore[attr-defined]
    return calls


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (BackendRequest(backend="onnxruntime"), ("model.fp32.onnx", "onnxruntime", False)),
        (BackendRequest(backend="openvino"), ("model.fp32.onnx", "openvino", False)),
        (BackendRequest(backend="openvino", precision="int8"), ("model.int8.onnx", "openvino", False)),
        (BackendRequest(backend="openvino", precision="bf16"), ("model.fp32.onnx", "openvino", True)),
        (BackendRequest(precision="bf16"), ("model.fp32.onnx", "openvino", True)),
        (BackendRequest(precision="int8"), ("model.int8.onnx", "onnxruntime", False)),
    ],
)
def test_the_engine_and_the_file_that_are_requested(
    bundle: Bundle,
    opened: list[tuple[str, str, bool]],
    request_: BackendRequest,
    wanted: tuple[str, str, bool],
) -> None:
    open_requested(bundle, request_)
    assert opened == [wanted]  # and nothing else is tried


def test_cuda_by_name_is_used_or_an_error(bundle: Bundle, opened: list[tuple[str, str, bool]]) -> None:
    with pytest.raises(BackendError, match="CUDA does not load"):
        open_requested(bundle, BackendRequest(backend="onnxruntime-cuda"))
    assert opened == [("model.fp16.onnx", "onnxruntime-cuda", False)]


def test_auto_tries_a_plan_then_cuda_then_the_cpu_and_says_why(
    bundle: Bundle, opened: list[tuple[str, str, bool]], caplog: pytest.LogCaptureFixture
) -> None:
    open_requested(bundle, BackendRequest(announce=True))
    assert opened == [
        ("model.fp16.plan", "", False),
        ("model.fp16.onnx", "onnxruntime-cuda", False),
        ("model.fp32.onnx", "onnxruntime", False),
    ]
    assert caplog.messages == [
        "onnxruntime runs instead of model.fp16.plan: no GPU for plans",
        f"{bundle.path}: model.fp32.onnx runs on onnxruntime model.fp32.onnx"
        " (CUDA does not load; on the CPU)",
    ]


def test_auto_takes_cuda_where_it_runs(
    bundle: Bundle, opened: list[tuple[str, str, bool]], caplog: pytest.LogCaptureFixture
) -> None:
    choice.open_model.runs_cuda.append(True)  # type: ignore[attr-defined]
    open_requested(bundle, BackendRequest(announce=True))
    assert opened[-1] == ("model.fp16.onnx", "onnxruntime-cuda", False)
    assert caplog.messages[-1] == (
        f"{bundle.path}: model.fp16.onnx runs on onnxruntime-cuda model.fp16.onnx (a GPU, and no plan for it)"
    )


def test_fp32_on_a_gpu_takes_the_form_of_gpus(bundle: Bundle, opened: list[tuple[str, str, bool]]) -> None:
    choice.open_model.runs_cuda.append(True)  # type: ignore[attr-defined]
    files = {**bundle.manifest.files, "model.fp32-gpu.onnx": bundle.manifest.files["model.fp32.onnx"]}
    manifest = msgspec.structs.replace(bundle.manifest, files=files)
    both = Bundle(path=bundle.path, manifest=manifest, manifest_sha256=bundle.manifest_sha256)
    for backend, wanted in (("onnxruntime-cuda", "model.fp32-gpu.onnx"), ("onnxruntime", "model.fp32.onnx")):
        open_requested(both, BackendRequest(backend=backend, precision="fp32"))
        assert opened[-1] == (wanted, backend, False)


def test_auto_says_nothing_where_there_is_no_listener(
    bundle: Bundle, opened: list[tuple[str, str, bool]], caplog: pytest.LogCaptureFixture
) -> None:
    open_requested(bundle, BackendRequest(precision="int8"))
    assert caplog.messages == []


@pytest.mark.parametrize("backend", ["onnxruntime", "onnxruntime-cuda", "tensorrt"])
def test_bf16_is_for_openvino(backend: choice.BackendName) -> None:
    with pytest.raises(UsageError, match=f"bf16 is for --backend openvino, not {backend}"):
        BackendRequest(backend=backend, precision="bf16")


@pytest.mark.parametrize("announce", [True, False])
def test_int8_without_vnni_is_announced(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, announce: bool
) -> None:
    request = BackendRequest(backend="onnxruntime", precision="int8", announce=announce)
    for instructions in ("AVX-512 VNNI", "no VNNI"):
        monkeypatch.setattr(onnxruntime_module, "_saturates", lambda: instructions == "no VNNI")  # noqa: B023
        monkeypatch.setattr(onnxruntime_module, "_cpu_flags", lambda: frozenset({"avx512_vnni"}))
        monkeypatch.setattr(onnxruntime_module.platform, "machine", lambda: "x86_64")
        onnxruntime_module.integer_instructions.cache_clear()
        backend = open_requested(bundle, request)
        assert backend.name.endswith(f"CPU, int8, {instructions}")
        announced = "1.9 times as fast as fp32 on this processor" in caplog.text
        assert announced == (announce and instructions == "no VNNI")
    onnxruntime_module.integer_instructions.cache_clear()


def test_the_number_of_the_gpu_reaches_what_runs_there(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []

    class FakeCuda(FakePlan):
        def __init__(self, bundle: Bundle, name: str, *, device: int) -> None:
            super().__init__(name)
            seen.append((name, device))

    monkeypatch.setattr("tsm_runtime.backends.onnxruntime_cuda.OnnxruntimeCudaBackend", FakeCuda)
    monkeypatch.setattr("tsm_runtime.backends.tensorrt.backend.TensorrtBackend", FakeCuda)
    open_requested(bundle, BackendRequest(backend="onnxruntime-cuda", device=3))
    open_requested(bundle, BackendRequest(backend="tensorrt", device=2))
    assert seen == [("model.fp16.onnx", 3), ("model.fp16.plan", 2)]
