"""onnxruntime's CUDA provider: against a double of the module, and for real where there is a GPU."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from fakes import BrightnessBackend, clips
from media import write_levels

pytest.importorskip("onnxruntime")

from onnxruntime_double import CPU, CUDA, installed

from tsm_runtime.backends import onnxruntime_module
from tsm_runtime.backends.base import run_failure
from tsm_runtime.backends.onnxruntime_cuda import OnnxruntimeCudaBackend, has_cuda_provider
from tsm_runtime.backends.onnxruntime_module import import_onnxruntime
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.errors import BackendError, BundleError, OutOfMemoryError, RunError
from tsm_runtime.models import choice
from tsm_runtime.models.choice import open_model
from tsm_runtime.models.opening import open_member
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run

FP32 = "model.fp32.onnx"


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


# --- against the double ---------------------------------------------------------------------------


def test_scores_are_those_of_the_model_whatever_the_batch(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    double = installed(monkeypatch)
    with OnnxruntimeCudaBackend(bundle, FP32) as backend:
        assert backend.name == "onnxruntime 1.31.1 CUDA on H100, fp32"
        for number in (4, 4, 4, 1, 4, 4):
            frames = clips(number, seed=number)
            found, wanted = backend.infer(frames), BrightnessBackend().infer(frames)
            np.testing.assert_allclose(found.action, wanted.action, atol=1e-5)
            assert found.scene is not None
            np.testing.assert_allclose(found.scene, wanted.scene, atol=1e-5)
    assert double.num_values == 4  # two slots of four clips, one of them made small and large again


def test_the_options_that_make_it_fast_and_exact(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    double = installed(monkeypatch)
    OnnxruntimeCudaBackend(bundle, FP32, device=1).close()
    options = double.provider_options[CUDA]
    assert all(isinstance(value, str) for value in options.values())
    assert {k: options[k] for k in ("device_id", "prefer_nhwc", "use_tf32")} == {
        "device_id": "1",
        "prefer_nhwc": "1",
        "use_tf32": "0",
    }


def test_tf32_is_used_where_it_is_requested_only(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    double = installed(monkeypatch)
    with OnnxruntimeCudaBackend(bundle, FP32, tf32=True) as backend:
        assert backend.name.endswith("fp32 with TF32")
    assert double.provider_options[CUDA]["use_tf32"] == "1"


def test_two_batches_are_in_flight_and_may_be_overwritten_after_submit(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    double = installed(monkeypatch)
    batches = [clips(2, seed=seed) for seed in range(6)]
    wanted = [BrightnessBackend().infer(frames).action for frames in batches]
    with OnnxruntimeCudaBackend(bundle, FP32) as backend:
        double.running.clear()  # both are submitted while the model cannot run
        first = [backend.submit(frames) for frames in batches[:2]]
        for frames in batches[:2]:
            frames.fill(0)
        double.running.set()
        found = [backend.result(batch).action for batch in reversed(first)][::-1]
        submitted = [backend.submit(frames) for frames in batches[2:]]  # more than there are slots
        found += [backend.result(batch).action for batch in submitted]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_silent_fall_back_to_the_cpu_is_an_error(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installed(monkeypatch, falls_back=True)
    with pytest.raises(
        BackendError,
        match=r"fell back to CPUExecutionProvider: .*libcudnn.*\n.*pip install 'onnxruntime-gpu\[",
    ):
        OnnxruntimeCudaBackend(bundle, FP32)
    assert capsys.readouterr().out == ""  # what onnxruntime prints is no result


def test_a_build_without_cuda_names_the_package(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, available=[CPU])
    assert not has_cuda_provider()
    with pytest.raises(BackendError, match=r"has no CUDA: .* pip install 'tsm-tal\[gpu\]'"):
        OnnxruntimeCudaBackend(bundle, FP32)


def test_two_packages_in_one_folder_are_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip lets onnxruntime overwrite onnxruntime-gpu, and an uninstall of either takes files of both."""
    installed(monkeypatch, available=[CPU])
    monkeypatch.setattr(onnxruntime_module.metadata, "version", lambda package: "1.31.1")
    repair = "pip install --force-reinstall --no-deps onnxruntime-gpu==1.31.1"
    with pytest.raises(BackendError, match=f"the CPU package lie over those of onnxruntime-gpu; {repair}"):
        OnnxruntimeCudaBackend(bundle, FP32)
    assert repair in choice._without_cuda()
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    with pytest.raises(BackendError, match=f"installed without its files: {repair}"):
        import_onnxruntime()


def test_short_memory_when_a_session_opens(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the GPU that is full, not the bundle that is bad, so that `auto` takes the CPU."""
    double = installed(monkeypatch)

    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")

    monkeypatch.setattr(double, "InferenceSession", refuse)
    with pytest.raises(BackendError, match="GPU 0 has too little free memory for"):
        OnnxruntimeCudaBackend(bundle, FP32)


@pytest.mark.parametrize(
    "words", ["CUDA_ERROR: DEVICE_ALLOCATION_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "out of memory"]
)
def test_words_for_short_memory(words: str) -> None:
    assert isinstance(run_failure("x", 4, RuntimeError(words)), OutOfMemoryError)


def test_a_missing_model_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    with pytest.raises(BundleError, match=r"model\.fp16\.onnx"):
        OnnxruntimeCudaBackend(bundle)


def test_short_memory_is_distinguished_from_other_failures(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    double = installed(monkeypatch, memory=2)
    with OnnxruntimeCudaBackend(bundle, FP32) as backend:
        with pytest.raises(OutOfMemoryError, match=r"failed on a batch of 3: .*Failed to allocate memory"):
            backend.infer(clips(3))
        backend.infer(clips(2))  # and goes on
        monkeypatch.setattr(double, "memory", None)  # a comparison with it raises
        with pytest.raises(RunError, match="failed on a batch of 1") as raised:
            backend.infer(clips(1))
        assert type(raised.value) is RunError


def test_a_run_goes_on_with_half_the_batch(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    video = write_levels(tmp_path / "v.mp4", [(20, 1.0), (128, 0.5), (235, 1.5)])
    expected = run(video, open_member(bundle))
    installed(monkeypatch, memory=2)
    member = open_member(bundle)
    with OnnxruntimeCudaBackend(bundle, FP32) as backend:
        found = run(video, replace(member, backend=backend), Options(batch_size=5))
    assert found == expected
    assert "no memory for a batch of 5, goes on with 2: onnxruntime 1.31.1 CUDA" in caplog.text


def test_closing_waits_for_what_is_in_flight(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    backend = OnnxruntimeCudaBackend(bundle, FP32)
    batch = backend.submit(clips(2))
    backend.close()
    backend.close()
    assert batch.scores.done()
    with pytest.raises(ValueError, match="closed"):
        backend.submit(clips(1))


# --- for real -------------------------------------------------------------------------------------


@pytest.fixture
def gpu() -> None:
    """onnxruntime on a GPU, or no test."""
    try:
        OnnxruntimeCudaBackend(load_bundle(demo_folder() / "bundle"), FP32).close()
    except BackendError as error:
        if os.environ.get("TSM_REQUIRE_GPU") == "1":
            raise
        pytest.skip(f"no GPU for this test: {error}")


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
def test_the_demo_model_says_the_same_as_on_the_cpu() -> None:
    bundle = load_bundle(demo_folder() / "bundle")
    spec = bundle.manifest.clip_spec
    reference = open_model(bundle, FP32)
    with OnnxruntimeCudaBackend(bundle, FP32) as backend:
        for number in (1, 5, 16, 5):
            frames = clips(number, spec.num_frames, spec.size, seed=number)
            np.testing.assert_allclose(
                backend.infer(frames).action, reference.infer(frames).action, atol=1e-4
            )


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
def test_batches_in_flight_do_not_meet() -> None:
    bundle = load_bundle(demo_folder() / "bundle")
    spec = bundle.manifest.clip_spec
    reference = open_model(bundle, FP32)
    batches = [clips(1 + seed % 3, spec.num_frames, spec.size, seed) for seed in range(20)]
    with OnnxruntimeCudaBackend(bundle, FP32) as backend:
        found, submitted = [], []
        for frames in batches:
            own = frames.copy()
            submitted.append(backend.submit(own))
            own.fill(0)
            if len(submitted) == 2:
                found.append(backend.result(submitted.pop(0)).action)
        found += [backend.result(batch).action for batch in submitted]
    for one, frames in zip(found, batches, strict=True):
        np.testing.assert_allclose(one, reference.infer(frames).action, atol=1e-4)
