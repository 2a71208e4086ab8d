"""A trained model exported in all precisions, with what they cost."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tsm_export.export import export_bundle
from tsm_export.request import ExportRequest
from tsm_export.summary import describe
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.errors import UsageError
from tsm_runtime.models.choice import open_model
from tsm_train.training.checkpoint import load_checkpoint, save_checkpoint


def test_all_precisions_of_a_trained_model(learnt_run: Path, drawn_data: Path, tmp_path: Path) -> None:
    request = ExportRequest(precisions=("fp16", "int8"), validate=drawn_data / "ground_truth.json")
    exported = export_bundle(learnt_run / "best.safetensors", tmp_path / "bundle", request)
    assert exported.problems == ()
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.manifest == exported.manifest
    files = bundle.manifest.files
    assert list(files) == [
        "model.fp32.onnx",
        "model.fp16.onnx",
        "model.int8.onnx",
        "preprocess.onnx",
    ]
    assert files["model.fp32.onnx"].accuracy is None
    for name in ("model.fp16.onnx", "model.int8.onnx"):
        accuracy = files[name].accuracy
        assert accuracy is not None
        assert (accuracy.subset, accuracy.num_videos, accuracy.num_clips) == ("training", 3, 36)
        assert accuracy.fp32_scores["map_0.5"] > 0.5  # it has learnt them by heart
        assert min(accuracy.top1_agreement.values()) > 0.9
        assert abs(accuracy.scores["map_0.5"] - accuracy.fp32_scores["map_0.5"]) < 0.15
    report = files["model.int8.onnx"].quantization
    assert report is not None
    assert report.num_clips + report.num_held_out == 36
    assert 0 < report.noise <= report.noise_before
    assert len(bundle.model_bytes("model.int8.onnx")) < 0.6 * len(bundle.model_bytes("model.fp32.onnx"))
    assert "int8" in open_model(bundle, "model.int8.onnx").name
    lines = describe(Path("best.safetensors"), tmp_path / "bundle", exported).splitlines()
    assert lines[0] == f"best.safetensors -> {tmp_path / 'bundle'}"
    assert "same as fp32: action_scores" in lines[3]


def test_int8_without_footage_says_what_to_give(learnt_run: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(learnt_run / "best.safetensors")
    data = msgspec.structs.replace(checkpoint.config.data, annotations=str(tmp_path / "gone.json"))
    config = msgspec.structs.replace(checkpoint.config, data=data)
    moved = tmp_path / "moved.safetensors"
    save_checkpoint(
        moved,
        type(checkpoint)(
            config=config,
            labels=checkpoint.labels,
            epoch=checkpoint.epoch,
            metrics=checkpoint.metrics,
            weights=checkpoint.weights,
        ),
    )
    with pytest.raises(UsageError, match="--calibrate FOLDER"):
        export_bundle(moved, tmp_path / "bundle", ExportRequest(precisions=("int8",)))
    assert not (tmp_path / "bundle").exists()
