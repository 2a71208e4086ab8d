"""The online ONNX file says on onnxruntime, frame by frame, what the clip-wise checkpoint says."""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from media import write_levels

from tsm_export.graphs.from_checkpoint import export_fp32
from tsm_export.graphs.online import compare_online, export_online
from tsm_export.graphs.session import open_session
from tsm_runtime.backends.online import ONLINE_MODEL, OnlineBackend, OnlineModel
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.manifest import MANIFEST, Manifest, ModelFile, encode_manifest, sha256
from tsm_runtime.errors import CheckError, UsageError
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run
from tsm_runtime.results import BACKGROUND
from tsm_runtime.verification.clip_sets import ClipSet
from tsm_runtime.verification.verify import REFERENCE, verify
from tsm_train.config import Config
from tsm_train.model.online import OnlineTSM
from tsm_train.model.tsm import Probabilities
from tsm_train.samples.clips import Labels
from tsm_train.sections.data import DataConfig
from tsm_train.sections.network import ClipConfig, ModelConfig
from tsm_train.training.checkpoint import Checkpoint, build_model
from tsm_train.training.validation import TorchBackend

Clips = npt.NDArray[np.uint8]
Arrays = dict[str, npt.NDArray[Any]]

SIZE, NUM_FRAMES = 48, 4
TOLERANCE = 1e-4
"""Of a probability: two engines sum in another order, and clips in another than single frames."""


def past_checkpoint(backbone: str, **model: Any) -> Checkpoint:
    """Random weights with batch statistics, whose logits vary by one from clip to clip."""
    config = Config(
        name="past",
        data=DataConfig(annotations="truth.json", videos="videos"),
        model=ModelConfig(**{"backbone": backbone, "shift_direction": "past", **model}),
        clip=ClipConfig(interval_seconds=0.4, num_frames=NUM_FRAMES, size=SIZE),
    )
    labels = Labels(("walk", "wave", BACKGROUND), ("hall", "park"))
    torch.manual_seed(0)
    network, clips = build_model(config, labels), torch.from_numpy(noise(6, seed=9))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network.train()(clips)
        features = network.eval().frame_features(clips).mean(1)
        for head in (network.action_head, network.scene_head):
            assert head is not None
            head.weight.normal_().div_(head(features).std(0)[:, None])
            head.bias.sub_(head(features).mean(0))
    return Checkpoint(config=config, labels=labels, epoch=1, metrics={}, weights=network.state_dict())


def noise(number: int, seed: int = 5) -> Clips:
    """Noise over a plain colour of each frame's own."""
    rng = np.random.default_rng(seed)
    plain = rng.integers(0, 192, (number, NUM_FRAMES, 1, 1, 3))
    return (plain + rng.integers(0, 64, (number, NUM_FRAMES, SIZE, SIZE, 3))).astype(np.uint8)


class Exported(NamedTuple):
    checkpoint: Checkpoint
    graph: bytes
    bundle: Bundle


def bundled(checkpoint: Checkpoint, graph: bytes, folder: Path) -> Bundle:
    folder.mkdir()
    (folder / ONLINE_MODEL).write_bytes(graph)
    manifest = Manifest(
        format_version=2,
        action_labels=checkpoint.labels.actions,
        scene_labels=checkpoint.labels.scenes,
        interval_seconds=checkpoint.config.clip.interval_seconds,
        num_frames=NUM_FRAMES,
        size=SIZE,
        backbone=checkpoint.config.model.backbone,
        shift_direction=checkpoint.config.model.shift_direction,
        files={ONLINE_MODEL: ModelFile(sha256=sha256(graph), precision="fp32", kind="online")},
    )
    (folder / MANIFEST).write_bytes(encode_manifest(manifest))
    return load_bundle(folder)


def exported(checkpoint: Checkpoint, folder: Path) -> Exported:
    graph = export_online(checkpoint)
    return Exported(checkpoint, graph, bundled(checkpoint, graph, folder))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported(
        past_checkpoint("mobilenet_v2", width_mult=0.25), tmp_path_factory.mktemp("small") / "bundle"
    )


def clip_wise(checkpoint: Checkpoint, clips: Clips) -> list[npt.NDArray[np.float32]]:
    with torch.inference_mode():
        return [value.numpy() for value in Probabilities(checkpoint.model())(torch.from_numpy(clips))]


def assert_frame_by_frame_equals_clip_wise(found: Exported) -> None:
    """Several intervals one after another, in streams side by side."""
    model = OnlineModel(found.bundle, num_threads=1)
    for number in (1, 3):
        scorer, said = model.scorer(number), []
        for interval in range(3):
            clips = noise(number, seed=interval)
            scorer.reset()
            for place in range(NUM_FRAMES):
                scores = scorer.push(clips[:, place])
            for value, want in zip(scores[:2], clip_wise(found.checkpoint, clips), strict=True):
                assert value is not None
                np.testing.assert_allclose(value, want, atol=TOLERANCE)
            said.append(scores.action)
        assert np.ptp(said, axis=0).max() > 0.1  # the intervals differ, so that a mistake would show


def test_mobilenet_v2(small: Exported) -> None:
    assert_frame_by_frame_equals_clip_wise(small)


@pytest.mark.nightly
@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "resnet50"])
def test_other_backbones(backbone: str, tmp_path: Path) -> None:
    found = exported(past_checkpoint(backbone), tmp_path / "bundle")
    assert_frame_by_frame_equals_clip_wise(found)
    report = compare_online(found.checkpoint, found.graph, noise(5))
    assert max(report.max_abs_error.values()) < report.tolerance


def test_signature(small: Exported) -> None:
    graph = onnx.load_from_string(small.graph).graph
    shapes = [
        {v.name: [size.dim_param or size.dim_value for size in v.type.tensor_type.shape.dim] for v in values}
        for values in (graph.input, graph.output)
    ]
    edges = [(1, 12), (1, 6), (1, 6), *[(2, 3)] * 3, *[(3, 3)] * 2, *[(5, 2)] * 2]  # 8 to 40 channels // 8
    states = {
        "feature_sum": ["clips", 1280],
        "count": ["clips", 1],
        **{f"state_{i}": ["clips", channels, edge, edge] for i, (channels, edge) in enumerate(edges)},
    }
    assert shapes[0] == {"frame": ["clips", SIZE, SIZE, 3], **states}
    scores = {"action_scores": ["clips", 3], "scene_scores": ["clips", 2]}
    assert shapes[1] == {**scores, **{f"next_{name}": shape for name, shape in states.items()}}
    assert {v.type.tensor_type.elem_type for v in graph.input[1:]} == {onnx.TensorProto.FLOAT}
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_what_the_graph_is_made_of(small: Exported) -> None:
    """Per shift one split and one concatenation; the kept channels leave as they are."""
    graph = onnx.load_from_string(small.graph).graph
    operators = collections.Counter(node.op_type for node in graph.node)
    assert (operators["Split"], operators["Concat"]) == (10, 10)
    others = {"ScatterND", "Gather", "Where", "Shape", "Expand", "Pad", "Slice", "Reshape", "Identity"}
    assert not operators.keys() & others
    assert [node.op_type for node in graph.node if "frame" in node.input] == ["Cast"]
    assert all(trace not in small.graph for trace in (b"/home", b"/work", b"/tmp", b"site-packages", b".py"))


def zeros(shapes: dict[str, tuple[int, ...]], number: int) -> Arrays:
    return {name: np.zeros((number, *shape), np.float32) for name, shape in shapes.items()}


def stepped(session: Any, frame: Clips, states: Arrays) -> Arrays:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"frame": frame, **states}), strict=True))


def test_states_are_those_of_the_step_in_pytorch(small: Exported) -> None:
    step, session = OnlineTSM(small.checkpoint.model()), open_session(small.graph)
    shapes, clips = step.state_shapes(SIZE), noise(2)
    states, truth = zeros(shapes, 2), step.initial_states(2, SIZE)
    for place in range(NUM_FRAMES):
        found = stepped(session, clips[:, place], states)
        with torch.inference_mode():
            truth = step(torch.from_numpy(clips[:, place]), *truth)[2:]
        states = {name: found[f"next_{name}"] for name in shapes}
        for state, want in zip(states.values(), truth, strict=True):
            np.testing.assert_allclose(state, want.numpy(), rtol=1e-3, atol=1e-3)
    assert np.abs(states["state_0"]).max() > 0.1
    assert states["count"].tolist() == [[NUM_FRAMES]] * 2


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_stream_that_is_not_finite_stays_alone(small: Exported, poison: float) -> None:
    session, shapes = open_session(small.graph), OnlineTSM(small.checkpoint.model()).state_shapes(SIZE)
    clips = noise(3)
    states = zeros(shapes, 3)
    for state in states.values():
        state[0] = state[2] = poison
    for place in range(NUM_FRAMES):
        found = stepped(session, clips[:, place], states)
        states = {name: found[f"next_{name}"] for name in shapes}
    assert np.isnan(found["action_scores"][[0, 2]]).all()
    for value, want in zip(found.values(), clip_wise(small.checkpoint, clips[1:2]), strict=False):
        np.testing.assert_allclose(value[1:2], want, atol=TOLERANCE)


def test_without_reset_it_says_something_else(small: Exported) -> None:
    scorer, clips = OnlineModel(small.bundle, num_threads=1).scorer(), noise(2)
    for frame in (*clips[0], *clips[1]):
        scores = scorer.push(frame)
    assert np.abs(scores.action - clip_wise(small.checkpoint, clips[1:])[0]).max() > 100 * TOLERANCE


def test_the_comparison(small: Exported) -> None:
    report = compare_online(small.checkpoint, small.graph, noise(5))
    assert report.batch_sizes == (2, 3)
    assert report.max_abs_error.keys() == {"action_scores", "scene_scores"}
    assert all(0 < error < report.tolerance for error in report.max_abs_error.values())
    assert report.top1_agreement == {"action_scores": 1.0, "scene_scores": 1.0}
    with pytest.raises(ValueError, match="expected at least 5 clips, got 4"):
        compare_online(small.checkpoint, small.graph, noise(4))


@pytest.mark.parametrize("forgets", ["state_3", "feature_sum", "count"])
def test_the_comparison_sees_a_state_that_is_not_used(small: Exported, forgets: str) -> None:
    model = onnx.load_from_string(small.graph)
    for node in model.graph.node:
        node.input[:] = ["nothing" if name == forgets else name for name in node.input]
    model.graph.node.insert(0, onnx.helper.make_node("Sub", [forgets, forgets], ["nothing"]))
    with pytest.raises(CheckError, match="differs from PyTorch"):
        compare_online(small.checkpoint, model.SerializeToString(), noise(5))


def test_the_comparison_sees_other_names_and_other_weights(small: Exported) -> None:
    model = onnx.load_from_string(small.graph)
    model.graph.output[0].name = "scores"
    for node in model.graph.node:
        node.output[:] = ["scores" if name == "action_scores" else name for name in node.output]
    with pytest.raises(CheckError, match="other inputs or outputs than its checkpoint"):
        compare_online(small.checkpoint, model.SerializeToString(), noise(5))
    bias = small.checkpoint.weights["action_head.bias"] + torch.tensor([0.5, 0, 0])
    weights = {**small.checkpoint.weights, "action_head.bias": bias}
    with pytest.raises(CheckError, match="action_scores: the exported graph differs from PyTorch"):
        compare_online(dataclasses.replace(small.checkpoint, weights=weights), small.graph, noise(5))


def test_the_same_checkpoint_gives_the_same_bytes(small: Exported) -> None:
    assert export_online(small.checkpoint) == small.graph


def test_a_model_that_sees_later_frames_is_refused(small: Exported) -> None:
    both = past_checkpoint("mobilenet_v2", width_mult=0.25, shift_direction="both")
    for action in (export_online, lambda checkpoint: compare_online(checkpoint, small.graph, noise(5))):
        with pytest.raises(UsageError) as caught:
            action(both)  # type: ignore[operator]
        assert str(caught.value) == (
            "checkpoint 'past': its frames see later frames, so it cannot run online;"
            ' train with model.shift_direction = "past"'
        )


def test_the_bundle_is_verified_frame_by_frame(small: Exported, tmp_path: Path) -> None:
    """tsm-verify compares the online model with the clip-wise one, as it does with any other file."""
    graph = export_fp32(small.checkpoint)
    bundle = bundled(small.checkpoint, small.graph, tmp_path / "both")
    (bundle.path / REFERENCE).write_bytes(graph)
    file = ModelFile(sha256=sha256(graph), precision="fp32")
    both = msgspec.structs.replace(bundle.manifest, files={**bundle.manifest.files, REFERENCE: file})
    (bundle.path / MANIFEST).write_bytes(encode_manifest(both))
    report = verify(load_bundle(bundle.path), [ClipSet(name="noise", frames=noise(4))])
    assert (report.compared_files, report.failed_files) == ((ONLINE_MODEL,), ())
    (compared,) = [comparison for comparison in report.comparisons if comparison.variant.file == ONLINE_MODEL]
    assert compared.backend.endswith("online")
    assert compared.heads["action_scores"].max_abs_error < TOLERANCE


def test_a_whole_video(small: Exported, tmp_path: Path) -> None:
    """The runtime's pipeline with the online file and with the checkpoint on whole clips."""
    levels = [(20, 0.9), (128, 0.5), (235, 1.3), (60, 0.7), (200, 0.8), (90, 1.1)]
    video = write_levels(tmp_path / "levels.mp4", levels)
    labels, spec = small.checkpoint.labels, small.checkpoint.config.clip_spec
    backends = (OnlineBackend(OnlineModel(small.bundle)), TorchBackend(small.checkpoint.model()))
    online, whole = (
        run(
            video,
            Member(backend=backend, spec=spec, action_labels=labels.actions, scene_labels=labels.scenes),
            Options(batch_size=3),
        )
        for backend in backends
    )
    assert online.scores is not None
    assert whole.scores is not None
    assert online.scores.indices.tolist() == whole.scores.indices.tolist() == list(range(13))
    np.testing.assert_allclose(online.scores.action, whole.scores.action, atol=TOLERANCE)
    assert np.ptp(whole.scores.action, axis=0).max() > 0.1
    assert [(s.label, s.start_seconds, s.end_seconds) for s in online.segments] == [
        (s.label, s.start_seconds, s.end_seconds) for s in whole.segments
    ]
    assert len(whole.segments) >= 2
