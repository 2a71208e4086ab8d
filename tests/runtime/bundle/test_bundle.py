"""Reading of bundles, and the messages for refused ones."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fakes import ACTIONS, SCENES, BrightnessBackend
from tiny_bundle import write_tiny_bundle, write_tiny_sound_bundle

from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.bundle.manifest import FORMAT_VERSION, encode_manifest, sha256
from tsm_runtime.bundle.reports import Verification
from tsm_runtime.errors import BackendError, BundleError
from tsm_runtime.models.choice import open_model
from tsm_runtime.segments.rules import SegmentRules

MANIFEST: dict[str, Any] = {
    "format_version": 1,
    "action_labels": ["wave", "background"],
    "interval_seconds": 0.5,
    "num_frames": 8,
    "size": 128,
    "backbone": "mobilenet_v2",
    "files": {"model.fp32.onnx": {"sha256": "0" * 64, "precision": "fp32"}},
}

SIGMOID = MANIFEST | {"head": "sigmoid", "action_labels": ["wave", "walk"], "thresholds": [0.5, 0.25]}


def write_manifest(folder: Path, content: object) -> Path:
    folder.mkdir(exist_ok=True)
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "manifest.json").write_bytes(data)
    return folder


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(BundleError) as caught:
        action()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4
    return str(caught.value)


# --- the manifest ---------------------------------------------------------------------------------


def test_a_manifest_is_read_with_its_defaults(tmp_path: Path) -> None:
    bundle = load_bundle(write_manifest(tmp_path / "bundle", MANIFEST))
    assert bundle.manifest.action_labels == ("wave", "background")
    assert bundle.manifest.scene_labels == ()
    spec = bundle.manifest.clip_spec
    assert (spec.interval_seconds, spec.num_frames, spec.size) == (0.5, 8, 128)
    assert len(bundle.manifest_sha256) == 64


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            MANIFEST | {"intervall_seconds": 1},
            "unknown field `intervall_seconds`; the nearest known key is 'interval_seconds'",
        ),
        (MANIFEST | {"zzz": 1}, "unknown field `zzz`"),
        (
            MANIFEST | {"files": {"m.onnx": {"sha265": "", "precision": "fp32"}}},
            "unknown field `sha265` - at `$.files[...]`; the nearest known key is 'sha256'",
        ),
        ({k: v for k, v in MANIFEST.items() if k != "size"}, "missing required field `size`"),
        (MANIFEST | {"size": "128"}, "Expected `int`, got `str` - at `$.size`"),
        (
            MANIFEST | {"format_version": FORMAT_VERSION + 1, "new": 1},
            f"format {FORMAT_VERSION + 1} is newer than this program's {FORMAT_VERSION}; update tsm-tal",
        ),
        (MANIFEST | {"format_version": 0}, f"format_version 0; expected 1 to {FORMAT_VERSION}"),
        (MANIFEST | {"resize": "bicubic"}, "resize 'bicubic', but this program resizes by 'bilinear'"),
        (MANIFEST | {"head": "tanh"}, "Invalid enum value 'tanh'"),
        (MANIFEST | {"head": "sigmoid"}, "sigmoid head must be at least one action, and none 'background'"),
        (MANIFEST | {"head": "sigmoid", "action_labels": []}, "must be at least one action, and none"),
        (SIGMOID | {"thresholds": [0.5]}, "1 threshold for 2 action_labels"),
        (SIGMOID | {"thresholds": []}, "0 thresholds for 2 action_labels"),
        (SIGMOID | {"thresholds": [0.5, 0]}, "threshold 0: expected more than 0, at most 1"),
        (SIGMOID | {"thresholds": [0.5, 1.01]}, "threshold 1.01: expected more than 0, at most 1"),
        (MANIFEST | {"thresholds": [0.5, 0.5]}, "thresholds are for a sigmoid head"),
        (MANIFEST | {"window_seconds": 0.4}, "window 0.4 s: expected the interval of 0.5 s or more"),
        (MANIFEST | {"stride_seconds": 0.3}, "stride 0.3 s: expected the interval of 0.5 s or a whole part"),
        (MANIFEST | {"stride_seconds": -0.25}, "stride -0.25 s: expected the interval"),
        (MANIFEST | {"window_seconds": 33}, "expected a window of 64 strides or less"),
        (MANIFEST | {"smoothing_seconds": -1}, "smoothing -1: expected seconds, 0 or more"),
        (MANIFEST | {"min_duration_seconds": -1}, "min-duration -1: expected seconds, 0 or more"),
        (MANIFEST | {"action_labels": ["background"]}, "at least one action and then 'background'"),
        (MANIFEST | {"action_labels": ["background", "wave"]}, "at least one action and then 'background'"),
        (MANIFEST | {"action_labels": ["a", "a", "background"]}, "action_labels names a label twice"),
        (MANIFEST | {"scene_labels": ["a", "a"]}, "scene_labels names a label twice"),
        (MANIFEST | {"scene_labels": [" "]}, "scene_labels holds an empty label"),
        (MANIFEST | {"interval_seconds": 0}, "must be positive"),
        (MANIFEST | {"num_frames": -8}, "must be positive"),
        (
            MANIFEST | {"files": {"../x.onnx": {"sha256": "", "precision": "fp32"}}},
            "'../x.onnx' leads out of the bundle",
        ),
        (MANIFEST | {"files": {"..": {"sha256": "", "precision": "fp32"}}}, "'..' leads out of the bundle"),
        (
            MANIFEST | {"files": {"/x.onnx": {"sha256": "", "precision": "fp32"}}},
            "'/x.onnx' leads out of the bundle",
        ),
        ([], "Expected `object`, got `array`"),
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b'{"a": "\xff"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_wrong_manifest_is_reported(tmp_path: Path, content: object, words: str) -> None:
    folder = write_manifest(tmp_path / "bundle", content)
    message = refused(lambda: load_bundle(folder))
    assert message.startswith(f"{folder / 'manifest.json'}: ")
    assert words in message


def test_settings_of_what_follows_the_scores(tmp_path: Path) -> None:
    off = load_bundle(write_manifest(tmp_path / "old", MANIFEST)).manifest
    assert (off.clip_spec.window_seconds, off.clip_spec.stride_seconds, off.head) == (0.5, 0.5, "softmax")
    assert off.segment_rules == SegmentRules()
    assert not {"window_seconds", "thresholds", "head"} & json.loads(encode_manifest(off)).keys()
    settings = {
        "format_version": 3,
        "window_seconds": 2,
        "stride_seconds": 0.125,
        "smoothing_seconds": 0.75,
        "min_duration_seconds": 0.3,
    }
    manifest = load_bundle(write_manifest(tmp_path / "new", SIGMOID | settings)).manifest
    assert (manifest.clip_spec.window_seconds, manifest.clip_spec.num_overlapping) == (2.0, 4)
    assert manifest.segment_rules == SegmentRules(
        thresholds=(0.5, 0.25), smoothing_seconds=0.75, min_duration_seconds=0.3
    )
    again = load_bundle(write_manifest(tmp_path / "again", json.loads(encode_manifest(manifest))))
    assert again.manifest == manifest


def test_what_is_no_bundle_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    assert "no such bundle folder; write one with: tsm-export" in refused(
        lambda: load_bundle(tmp_path / "none")
    )
    assert "is a file, not a bundle folder; write one with" in refused(lambda: load_bundle(tmp_path / "file"))
    assert "no readable manifest.json in it" in refused(lambda: load_bundle(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("given", "next_step"),
    [
        ("run/best.safetensors", "is a checkpoint, not a bundle; write one: tsm-export {0}/best.safetensors"),
        ("run/resume.ckpt", "is a file of a run, not a bundle; write one: tsm-export {0}/best.safetensors"),
        ("run", "is the folder of a run, not a bundle; write one: tsm-export {0}/best.safetensors"),
        (
            "other/best.pt",
            "another program, not a bundle; train with them first (tsm-train CONFIG --set model.",
        ),
        ("bundle/manifest.json", "is a file of a bundle; give its folder: {1}"),
        ("nothing/best.pt", "no such file; a bundle is the folder that tsm-export writes"),
    ],
)
def test_advice_for_what_is_no_bundle_fits_what_it_is(tmp_path: Path, given: str, next_step: str) -> None:
    for name in ("run/best.safetensors", "run/resume.ckpt", "other/best.pt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    write_manifest(tmp_path / "bundle", MANIFEST)
    said = refused(lambda: load_bundle(tmp_path / given))
    assert next_step.format(tmp_path / "run", tmp_path / "bundle") in said


# --- the model files ------------------------------------------------------------------------------


def test_a_model_that_is_not_there_is_reported(tmp_path: Path) -> None:
    bundle = load_bundle(write_manifest(tmp_path / "bundle", MANIFEST))
    message = refused(lambda: bundle.model_bytes("model.fp32.onnx"))
    assert "model.fp32.onnx: named in the manifest but not readable (No such file or directory)" in message
    assert "has no model.int8.onnx (it has model.fp32.onnx)" in refused(
        lambda: bundle.model_bytes("model.int8.onnx")
    )


def test_an_altered_model_is_refused(tmp_path: Path) -> None:
    bundle = load_bundle(write_manifest(tmp_path / "bundle", MANIFEST))
    (bundle.path / "model.fp32.onnx").write_bytes(b"another")
    assert "SHA-256 differs from the manifest" in refused(lambda: bundle.model_bytes("model.fp32.onnx"))


def test_without_onnxruntime_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = load_bundle(write_manifest(tmp_path / "bundle", MANIFEST))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        BackendError, match=r"no backend is installed: pip install 'tsm-tal\[cpu\]'"
    ) as caught:
        open_model(bundle, "model.fp32.onnx")
    assert caught.value.exit_code == 5


# --- onnxruntime ----------------------------------------------------------------------------------


def test_the_tiny_model_scores_as_its_stand_in(tiny_bundle: Path) -> None:
    backend = open_model(load_bundle(tiny_bundle), "model.fp32.onnx", num_threads=1)
    clips = np.random.default_rng(0).integers(0, 255, (5, 4, 32, 32, 3), dtype=np.uint8)
    clips[0], clips[1] = 0, 255
    for batch in (clips, clips[:1], clips[:3]):
        found, wanted = backend.infer(batch), BrightnessBackend().infer(batch)
        assert found.scene is not None
        np.testing.assert_allclose(found.action, wanted.action, atol=1e-5)
        np.testing.assert_allclose(found.scene, wanted.scene, atol=1e-5)
    assert backend.name.startswith("onnxruntime 1.")
    assert backend.name.endswith(" CPU, fp32")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 64}, "'frames': ('uint8', [4, 64, 64, 3])"),
        ({"num_frames": 8}, "'frames': ('uint8', [8, 32, 32, 3])"),
        ({"action_labels": ["a", *ACTIONS]}, "'action_scores': ('float', [4])"),
        ({"scene_labels": SCENES[:1]}, "'scene_scores': ('float', [1])"),
        ({"scene_labels": []}, "'action_scores': ('float', [3])}, got"),
    ],
)
def test_a_model_that_does_not_fit_the_manifest_is_refused(
    tiny_bundle: Path, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    folder = changed_copy(tiny_bundle, tmp_path, changes)
    message = refused(lambda: open_model(load_bundle(folder), "model.fp32.onnx"))
    assert "model.fp32.onnx does not fit the manifest: expected" in message
    assert words in message


def changed_copy(bundle: Path, tmp_path: Path, changes: dict[str, object]) -> Path:
    folder = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    manifest = json.loads((folder / "manifest.json").read_text())
    return write_manifest(folder, manifest | changes)


def test_a_fixed_number_of_clips_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from tiny_bundle import tiny_model, write_tiny_bundle

    model = tiny_model()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    folder = write_tiny_bundle(tmp_path / "bundle", model)
    assert "takes one number of clips only" in refused(
        lambda: open_model(load_bundle(folder), "model.fp32.onnx")
    )


def test_what_is_no_onnx_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    import hashlib

    data = b"not a model"
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "precision": "fp32"}
    folder = write_manifest(tmp_path / "bundle", MANIFEST | {"files": {"model.fp32.onnx": entry}})
    (folder / "model.fp32.onnx").write_bytes(data)
    assert "model.fp32.onnx does not load in onnxruntime" in refused(
        lambda: open_model(load_bundle(folder), "model.fp32.onnx")
    )


def test_weights_outside_the_model_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hash covers them, and onnxruntime would take them from the current folder."""
    onnx = pytest.importorskip("onnx")
    from tiny_bundle import tiny_manifest, tiny_model

    folder = tmp_path / "bundle"
    folder.mkdir()
    onnx.save(
        tiny_model(),
        str(folder / "model.fp32.onnx"),
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    write_manifest(folder, tiny_manifest((folder / "model.fp32.onnx").read_bytes()))
    monkeypatch.chdir(folder)
    assert (folder / "w.bin").exists()
    message = refused(lambda: open_model(load_bundle(folder), "model.fp32.onnx"))
    assert "does not load" in message
    assert "External data" in message or "external" in message


def test_a_verification_does_not_make_it_another_bundle(tmp_path: Path) -> None:
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle"))
    plain = encode_manifest(bundle.manifest)
    (bundle.path / "manifest.json").write_bytes(plain)
    identity = load_bundle(bundle.path).manifest_sha256
    assert identity == sha256(plain)
    verified = msgspec.structs.replace(
        bundle.manifest, verifications=(Verification(date="2026-11-23", machine="this one", files=()),)
    )
    (bundle.path / "manifest.json").write_bytes(encode_manifest(verified))
    again = load_bundle(bundle.path)
    assert again.manifest == verified
    assert again.manifest_sha256 == identity


def test_the_embedded_bundle_keeps_its_identity() -> None:
    """Settings that are newer than a bundle do not change what archives and ensembles call it."""
    folder = demo_folder() / "bundle"
    assert load_bundle(folder).manifest_sha256 == sha256((folder / "manifest.json").read_bytes())


def test_models_of_sound_alone_take_nothing_else(tmp_path: Path) -> None:
    folder = write_tiny_sound_bundle(tmp_path / "heard")
    assert load_bundle(folder).manifest.clip_spec.clip_shape == (4, 60, 64, 1)
    raw = json.loads((folder / "manifest.json").read_text())
    for changes in ({"size": 32}, {"crop": "left"}, {"projection": "perspective"}):
        (folder / "manifest.json").write_text(json.dumps({**raw, **changes}))
        with pytest.raises(
            BundleError, match="models of sound alone, but also a picture size, a sound branch"
        ):
            load_bundle(folder)
