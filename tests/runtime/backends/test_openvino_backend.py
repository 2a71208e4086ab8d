"""ONNX files through OpenVINO: onnxruntime's scores, batches in flight, bfloat16, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import BrightnessBackend, clips
from media import write_levels

from tsm_runtime.backends import openvino as backend_module
from tsm_runtime.backends.openvino import OpenvinoBackend
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.bundle.manifest import sha256
from tsm_runtime.errors import BackendError, BundleError, OutOfMemoryError, RunError
from tsm_runtime.models.choice import open_model
from tsm_runtime.models.opening import open_member
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run

pytest.importorskip("openvino")

ATOL = 1e-5
"""Another order of sums than onnxruntime's, after a small net."""


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


def test_scores_are_those_of_the_model_whatever_the_batch(bundle: Bundle) -> None:
    with OpenvinoBackend(bundle, num_threads=1) as backend:
        for number in (1, 3, 1, 8):
            frames = clips(number, seed=number)
            found, wanted = backend.infer(frames), BrightnessBackend().infer(frames)
            np.testing.assert_allclose(found.action, wanted.action, atol=ATOL)
            assert found.scene is not None
            np.testing.assert_allclose(found.scene, wanted.scene, atol=ATOL)
            assert found.action.dtype == found.scene.dtype == np.float32


def test_results_belong_to_their_batches_in_any_order(bundle: Bundle) -> None:
    """More batches than requests: the oldest are collected on the way, and stay good."""
    batches = [clips(2, seed=seed) for seed in range(5)]
    with OpenvinoBackend(bundle, num_threads=1) as backend:
        submitted = [backend.submit(frames) for frames in batches]
        found = {number: backend.result(submitted[number]) for number in (4, 0, 2, 2, 1, 3)}
    for number, frames in enumerate(batches):
        np.testing.assert_allclose(found[number].action, BrightnessBackend().infer(frames).action, atol=ATOL)


def test_frames_that_are_not_contiguous(bundle: Bundle) -> None:
    frames = clips(6)[::2, ::-1]
    with OpenvinoBackend(bundle, num_threads=1) as backend:
        np.testing.assert_allclose(
            backend.infer(frames).action, BrightnessBackend().infer(frames).action, atol=ATOL
        )


def test_closing_with_batches_in_flight_and_twice(bundle: Bundle) -> None:
    backend = OpenvinoBackend(bundle, num_threads=1)
    batch = backend.submit(clips(2))
    backend.close()
    backend.close()
    for call in (lambda: backend.submit(clips(1)), lambda: backend.result(batch)):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_a_batch_of_another_backend_is_refused(bundle: Bundle) -> None:
    with OpenvinoBackend(bundle, num_threads=1) as one, OpenvinoBackend(bundle, num_threads=1) as other:
        batch = one.submit(clips(1))
        with pytest.raises(ValueError, match="not in flight here"):
            other.result(batch)


def test_the_demo_model_says_the_same_as_on_onnxruntime() -> None:
    """Labels and bounds are equal, scores to 1e-5, as the design asks of two backends in fp32."""
    folder = demo_folder()
    bundle = load_bundle(folder / "bundle")
    member = open_member(bundle)
    with OpenvinoBackend(bundle, num_threads=1) as backend:
        from dataclasses import replace

        found = run(folder / "video.mp4", replace(member, backend=backend), Options(batch_size=3))
    wanted = run(folder / "video.mp4", member)
    assert [s.label for s in found.segments] == [s.label for s in wanted.segments]
    bounds, expected = ([(s.start_seconds, s.end_seconds) for s in r.segments] for r in (found, wanted))
    np.testing.assert_allclose(bounds, expected, atol=1e-4)
    assert found.scores is not None
    assert wanted.scores is not None
    np.testing.assert_allclose(found.scores.action, wanted.scores.action, atol=ATOL)


# --- bfloat16 -------------------------------------------------------------------------------------


def test_fp32_is_not_bf16_unless_requested() -> None:
    """OpenVINO's own choice would be bf16 on a CPU that has it, a hundred thousand times as far off."""
    if not backend_module._has_bf16(backend_module._core()):
        pytest.skip("this CPU has no bfloat16")
    bundle = load_bundle(demo_folder() / "bundle")
    spec = bundle.manifest.clip_spec
    frames = clips(4, spec.num_frames, spec.size)
    reference = open_model(bundle, "model.fp32.onnx").infer(frames).action
    errors = {}
    for bf16 in (False, True):
        with OpenvinoBackend(bundle, bf16=bf16, num_threads=1) as backend:
            errors[bf16] = float(np.abs(backend.infer(frames).action - reference).max())
            assert ("bf16" in backend.name) == bf16
    assert errors[False] < ATOL < errors[True] < 0.1


def test_bf16_on_a_cpu_that_has_none_is_an_error(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "_has_bf16", lambda core: False)
    with pytest.raises(BackendError, match=r"does not compute in bfloat16; leave --precision out"):
        OpenvinoBackend(bundle, bf16=True)


# --- what is refused ------------------------------------------------------------------------------


def test_openvino_that_is_not_installed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match=r"pip install 'tsm-tal\[openvino\]'"):
        OpenvinoBackend(bundle)


def with_model(folder: Path, model: Any) -> Bundle:
    from tiny_bundle import write_tiny_bundle

    return load_bundle(write_tiny_bundle(folder, model))


def test_a_model_that_does_not_fit_the_manifest(tmp_path: Path) -> None:
    from tiny_bundle import tiny_model, write_tiny_bundle

    folder = write_tiny_bundle(tmp_path / "labels", action_labels=["a", "background"])
    with pytest.raises(BundleError, match="does not fit the manifest"):
        OpenvinoBackend(load_bundle(folder))
    model = tiny_model()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(BundleError, match="takes one number of clips only"):
        OpenvinoBackend(with_model(tmp_path / "fixed", model))


def test_what_is_no_onnx_is_refused(tmp_path: Path) -> None:
    from tiny_bundle import write_tiny_bundle

    data = b"not a model"
    folder = write_tiny_bundle(
        tmp_path / "bundle", files={"model.fp32.onnx": {"sha256": sha256(data), "precision": "fp32"}}
    )
    (folder / "model.fp32.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"model\.fp32\.onnx does not load in openvino"):
        OpenvinoBackend(load_bundle(folder))


@pytest.mark.parametrize("absolute", [False, True])
def test_weights_outside_the_model_are_refused(
    tmp_path: Path, absolute: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO itself would load them, from the current folder or from any path."""
    onnx = pytest.importorskip("onnx")
    from tiny_bundle import tiny_manifest, tiny_model

    folder = tmp_path / "bundle"
    folder.mkdir()
    path = folder / "model.fp32.onnx"
    onnx.save(tiny_model(), str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    if absolute:
        model = onnx.load(str(path), load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                entry.value = str(folder / "w.bin") if entry.key == "location" else entry.value
        path.write_bytes(model.SerializeToString())
    import json

    (folder / "manifest.json").write_text(json.dumps(tiny_manifest(path.read_bytes())))
    monkeypatch.chdir(folder)
    with pytest.raises(BundleError, match="keeps weights in other files"):
        OpenvinoBackend(load_bundle(folder))


@pytest.mark.parametrize(
    ("words", "kind"),
    [("std::bad_alloc", OutOfMemoryError), ("could not create a primitive", RunError)],
)
@pytest.mark.parametrize("stage", ["start_async", "wait"])
def test_a_failure_is_reported_with_its_words(
    bundle: Bundle, words: str, kind: type[RunError], stage: str
) -> None:
    class Request:
        def __init__(self, request: Any) -> None:
            self.request = request

        def __getattr__(self, name: str) -> Any:
            def fail(*_: object) -> None:
                raise RuntimeError(f"Exception from src/inference:\n{words}")

            return fail if name == stage else getattr(self.request, name)

    with OpenvinoBackend(bundle, num_threads=1) as backend:
        for slot in backend._free:
            slot.request = Request(slot.request)
        with pytest.raises(RunError, match=f"on a batch of 3: Exception from src/inference: {words}") as e:
            backend.infer(clips(3))
        assert type(e.value) is kind


def test_a_run_on_a_video(bundle: Bundle, tmp_path: Path) -> None:
    from dataclasses import replace

    video = write_levels(tmp_path / "v.mp4", [(20, 1.0), (128, 0.5), (235, 1.5)])
    member = open_member(bundle)
    with OpenvinoBackend(bundle, num_threads=1) as backend:
        found = run(video, replace(member, backend=backend), Options(batch_size=2))
    assert [(s.label, s.start_seconds, s.end_seconds) for s in found.segments] == [
        ("dark", 0.0, 1.0),
        ("bright", 1.5, 3.0),
    ]
