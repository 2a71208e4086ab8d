"""Outputs per frame of a clip graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch

from tsm_export import onnx_models
from tsm_export.export import export_bundle
from tsm_export.graphs.frame_outputs import add_frame_outputs
from tsm_export.graphs.from_checkpoint import compare, export_fp32, halve_weights
from tsm_export.graphs.half import to_half
from tsm_export.graphs.session import open_session
from tsm_export.request import ExportRequest
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.errors import CheckError
from tsm_runtime.models.choice import open_model
from tsm_train.training.checkpoint import Checkpoint, load_checkpoint


@pytest.fixture(scope="module")
def checkpoint(learnt_run: Path) -> Checkpoint:
    return load_checkpoint(learnt_run / "best.safetensors")


@pytest.fixture(scope="module")
def plain(checkpoint: Checkpoint) -> bytes:
    return export_fp32(checkpoint)


def noise(checkpoint: Checkpoint, count: int) -> np.ndarray:
    clip = checkpoint.config.clip
    shape = (count, clip.num_frames, clip.size, clip.size, 3)
    return np.random.default_rng(3).integers(0, 255, shape, np.uint8)


def run(graph: bytes, frames: np.ndarray) -> dict[str, np.ndarray]:
    session = open_session(graph)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"frames": frames}), strict=True))


def test_clip_scores_stay_as_they_were_and_the_frames_explain_them(
    checkpoint: Checkpoint, plain: bytes
) -> None:
    frames = noise(checkpoint, 3)
    before, after = run(plain, frames), run(add_frame_outputs(plain), frames)
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name])
    model = checkpoint.model()
    assert after["features"].shape == (3, checkpoint.config.clip.num_frames, model.feature_dim)
    with torch.inference_mode():
        features = torch.from_numpy(after["features"])
        of_frames = model.action_head(features)
        of_clip = of_frames.mean(1).softmax(1)
    np.testing.assert_allclose(after["frame_action_scores"], of_frames.softmax(2), atol=1e-5)
    np.testing.assert_allclose(after["action_scores"], of_clip, atol=1e-5)


@pytest.mark.parametrize("form", [lambda graph: graph, halve_weights, to_half])
def test_every_form_of_the_graph_is_compared_with_the_checkpoint(
    checkpoint: Checkpoint, plain: bytes, form: object
) -> None:
    graph = add_frame_outputs(form(plain))  # type: ignore[operator]
    report = compare(checkpoint, graph, noise(checkpoint, 5), tolerance=0.02, frame_outputs=True)
    assert {"action_scores", "frame_action_scores", "features"} <= set(report.max_abs_error)
    wrong = onnx.load_from_string(graph)
    for tensor in wrong.graph.initializer:
        if tensor.name.startswith("model.action_head.bias"):
            bias = onnx.numpy_helper.to_array(tensor) + np.arange(tensor.dims[0], dtype=np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(bias, tensor.name))
    with pytest.raises(CheckError, match="differs from PyTorch"):
        compare(
            checkpoint, wrong.SerializeToString(), noise(checkpoint, 5), tolerance=0.02, frame_outputs=True
        )


def test_sigmoid_heads_score_frames_by_sigmoid(checkpoint: Checkpoint) -> None:
    labels = replace(checkpoint.labels, actions=checkpoint.labels.actions[:-1])
    model = msgspec.structs.replace(checkpoint.config.model, head="sigmoid")
    kept = len(labels.actions)
    weights = {n: w[:kept] if n.startswith("action_head") else w for n, w in checkpoint.weights.items()}
    several = Checkpoint(
        config=msgspec.structs.replace(checkpoint.config, model=model),
        labels=labels,
        epoch=1,
        metrics={},
        weights=weights,
        thresholds=(0.5,) * kept,
    )
    graph = add_frame_outputs(export_fp32(several))
    assert compare(several, graph, noise(several, 5), frame_outputs=True).top1_agreement["action_scores"] == 1


def test_graphs_of_another_form_are_refused(plain: bytes) -> None:
    model = onnx.load_from_string(plain)
    for node in model.graph.node:
        if node.output[0] == "action_scores":
            node.op_type = "LogSoftmax"
    with pytest.raises(CheckError, match="do not come from a linear layer"):
        add_frame_outputs(model.SerializeToString())


def test_the_embedded_demo_model_takes_outputs_per_frame() -> None:
    demo = load_bundle(demo_folder() / "bundle")
    data = demo.model_bytes("model.fp32.onnx")
    if "frame_action_scores" in [output.name for output in onnx.load_from_string(data).graph.output]:
        return
    frames = np.zeros((2, demo.manifest.num_frames, demo.manifest.size, demo.manifest.size, 3), np.uint8)
    after = run(add_frame_outputs(data), frames)
    np.testing.assert_array_equal(after["action_scores"], run(data, frames)["action_scores"])


@pytest.mark.parametrize("wanted", [True, False])
def test_a_bundle_says_whether_its_models_give_outputs_per_frame(
    learnt_run: Path,
    checkpoint: Checkpoint,
    plain: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wanted: bool,
) -> None:
    monkeypatch.setattr(onnx_models, "export_fp32", lambda checkpoint, *, opset: plain)
    request = ExportRequest(targets=("onnx",), frame_outputs=wanted)
    export_bundle(learnt_run / "best.safetensors", tmp_path / "b", request)
    bundle = load_bundle(tmp_path / "b")
    assert bundle.manifest.feature_dim == (checkpoint.model().feature_dim if wanted else 0)
    with open_model(bundle, "model.fp32.onnx") as backend:
        scores = backend.infer(noise(checkpoint, 2))
    assert (scores.features is not None) is wanted
    assert (scores.frame_action is not None) is wanted
