from __future__ import annotations

import dataclasses
import errno
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from entry import run_main
from media import write_levels

from tsm_export import onnx_models as onnx_files
from tsm_export import plans
from tsm_export.commands import export as cli
from tsm_export.export import export_bundle, newest_checkpoint
from tsm_export.graphs.frame_outputs import add_frame_outputs
from tsm_export.graphs.from_checkpoint import HALF_WEIGHTS_TOLERANCE, compare, export_fp32, halve_weights
from tsm_export.graphs.half import to_half
from tsm_export.graphs.parity import PARITY_BATCH_SIZES
from tsm_export.request import ExportRequest
from tsm_runtime.backends.cuda.gpu import Gpu
from tsm_runtime.backends.tensorrt.build import BuiltPlan
from tsm_runtime.backends.tensorrt.build_options import BuildOptions
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.manifest import EngineInfo, ModelFile, sha256
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import BackendError, CheckError, UsageError
from tsm_runtime.models.choice import open_model
from tsm_runtime.models.opening import open_member
from tsm_runtime.pipeline.run import run
from tsm_runtime.results import BACKGROUND
from tsm_runtime.segments.rules import SegmentRules
from tsm_runtime.verification.tolerances import TOLERANCES, Tolerance
from tsm_train.config import Config
from tsm_train.model.tsm import Probabilities
from tsm_train.samples.clips import Labels
from tsm_train.sections.data import DataConfig
from tsm_train.sections.network import ClipConfig, ModelConfig, SegmentsConfig
from tsm_train.sections.training import AugmentConfig
from tsm_train.training.checkpoint import Checkpoint, build_model, save_checkpoint
from tsm_train.training.validation import predict

ACTIONS = ("walk", "wave", BACKGROUND)
ENGINE = EngineInfo(
    library="tensorrt_rtx", version="1.7", batch=(1, 2, 4), onnx_sha256="0" * 64, layer_types={"Float": 1}
)
BUILT = BuiltPlan(plan=b"plan", engine=ENGINE, evidence="graph", num_layers=1)


def spread_checkpoint(
    scenes: tuple[str, ...] = ("hall", "park"),
    clip: ClipConfig = ClipConfig(num_frames=4, size=32),  # noqa: B008
    segments: SegmentsConfig = SegmentsConfig(),  # noqa: B008
    thresholds: tuple[float, ...] = (),
    **model: Any,
) -> Checkpoint:
    """A checkpoint of random weights whose scores depend on the pictures, so that a comparison can fail."""
    config = Config(
        name="random",
        data=DataConfig(annotations="truth.json", videos="videos"),
        model=ModelConfig(**{"backbone": "mobilenet_v2", "width_mult": 0.25, **model}),
        clip=clip,
        segments=segments,
    )
    labels = Labels(ACTIONS[:-1] if thresholds else ACTIONS, scenes)
    torch.manual_seed(0)
    network = build_model(config, labels)
    with torch.no_grad():
        for head in (network.action_head, network.scene_head):
            if head is not None:
                head.weight.normal_(std=0.3)
                head.bias.normal_()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        network.train()(
            torch.randint(0, 256, (8, clip.num_frames, clip.size, clip.size, 3))
        )  # batch statistics
    weights = network.state_dict()
    return Checkpoint(
        config=config,
        labels=labels,
        epoch=3,
        metrics={"map": 0.25},
        weights=weights,
        thresholds=thresholds,
    )


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return spread_checkpoint()


@pytest.fixture(scope="module")
def graph(checkpoint: Checkpoint) -> bytes:
    return export_fp32(checkpoint)


@pytest.fixture
def stored(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "random" / "best.safetensors"
    path.parent.mkdir(parents=True)
    save_checkpoint(path, checkpoint)
    return path


@pytest.fixture
def quick(graph: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph of the module's checkpoint is exported already."""
    monkeypatch.setattr(onnx_files, "export_fp32", lambda checkpoint, *, opset: graph)


def test_the_bundle_knows_its_view_and_its_half(checkpoint: Checkpoint, tmp_path: Path, quick: None) -> None:
    for data, view, crop in (
        (DataConfig(root="x", format="x360", views=("binocular",), eyes="both"), "binocular", "left"),
        (
            DataConfig(root="x", format="x360", views=("panoramic", "third_person")),
            "panoramic,third_person",
            "",
        ),
        (DataConfig(annotations="truth.json", videos="videos"), "", ""),
    ):
        mirror = AugmentConfig(never_flip=(checkpoint.labels.actions[0], "elsewhere"))
        config = msgspec.structs.replace(checkpoint.config, data=data, augment=mirror)
        save_checkpoint(tmp_path / "c.safetensors", dataclasses.replace(checkpoint, config=config))
        export_bundle(tmp_path / "c.safetensors", tmp_path / "bundle")
        manifest = load_bundle(tmp_path / "bundle").manifest
        assert (manifest.view, manifest.crop) == (view, crop)
        assert manifest.never_flip == (checkpoint.labels.actions[0],)
        assert manifest.clip_spec == config.clip_spec


def noise(checkpoint: Checkpoint, number: int, seed: int = 5) -> npt.NDArray[np.uint8]:
    clip = checkpoint.config.clip
    shape = (number, clip.num_frames, clip.size, clip.size, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def scores_of(graph: bytes, frames: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"frames": frames}), strict=True))


def shapes(values: Any) -> dict[str, tuple[int, list[int | str]]]:
    return {
        value.name: (
            value.type.tensor_type.elem_type,
            [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim],
        )
        for value in values
    }


def tsm_export(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> tuple[int, str]:
    """Run the entry point in this process; return exit code and standard error."""
    done = run_main("tsm-export", cli.main, monkeypatch, capsys, *words)
    assert done.out == ""
    return done.code, done.err


def test_signature_of_the_graph(graph: bytes) -> None:
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model, full_check=True)
    assert shapes(model.graph.input) == {"frames": (onnx.TensorProto.UINT8, ["batch", 4, 32, 32, 3])}
    assert shapes(model.graph.output) == {
        "action_scores": (onnx.TensorProto.FLOAT, ["batch", 3]),
        "scene_scores": (onnx.TensorProto.FLOAT, ["batch", 2]),
    }


def test_frames_go_into_one_cast(graph: bytes) -> None:
    """TensorRT takes a uint8 input into a cast and into nothing else."""
    nodes = onnx.load_from_string(graph).graph.node
    assert [node.op_type for node in nodes if "frames" in node.input] == ["Cast"]


@pytest.mark.parametrize("opset", [18, pytest.param(23, marks=pytest.mark.nightly)])
def test_other_opsets_say_the_same(checkpoint: Checkpoint, graph: bytes, opset: int) -> None:
    other, frames = export_fp32(checkpoint, opset=opset), noise(checkpoint, 3)
    assert [each.version for each in onnx.load_from_string(other).opset_import if not each.domain] == [opset]
    for name, values in scores_of(graph, frames).items():
        np.testing.assert_allclose(scores_of(other, frames)[name], values, atol=1e-6)


def test_an_opset_that_pytorch_cannot_write_is_reported(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its exporter goes on with another one when it cannot convert."""
    really = torch.onnx.export

    def stubborn(*arguments: Any, **options: Any) -> Any:
        return really(*arguments, **options | {"opset_version": 20})

    monkeypatch.setattr(torch.onnx, "export", stubborn)
    with pytest.raises(UsageError, match=r"--opset 21: PyTorch .* wrote opset 20; leave --opset out"):
        export_fp32(checkpoint, opset=21)


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_the_graph_says_what_the_model_says(checkpoint: Checkpoint, graph: bytes, number: int) -> None:
    frames = noise(checkpoint, number)
    with torch.inference_mode():
        action, scene = Probabilities(checkpoint.model())(torch.from_numpy(frames))
    got = scores_of(graph, frames)
    assert got["action_scores"].sum(1) == pytest.approx(np.ones(number), abs=1e-5)
    np.testing.assert_allclose(got["action_scores"], action.numpy(), atol=1e-4)
    np.testing.assert_allclose(got["scene_scores"], scene.numpy(), atol=1e-4)
    if number > 1:
        assert action.std(0).max() > 1e-3  # the weights are such that a difference would show


def test_the_order_of_frames_matters(checkpoint: Checkpoint, graph: bytes) -> None:
    frames = noise(checkpoint, 1)
    forward, backward = scores_of(graph, frames), scores_of(graph, np.ascontiguousarray(frames[:, ::-1]))
    assert np.abs(forward["action_scores"] - backward["action_scores"]).max() > 1e-3


def test_a_model_without_scenes_and_without_shift() -> None:
    single = spread_checkpoint(scenes=(), shift=False)
    graph, frames = export_fp32(single), noise(single, 5)
    assert list(scores_of(graph, frames)) == ["action_scores"]
    assert list(compare(single, graph, frames).max_abs_error) == ["action_scores"]
    # The same weights with the shift say something else, and the comparison sees it.
    model = msgspec.structs.replace(single.config.model, shift=True)
    config = msgspec.structs.replace(single.config, model=model)
    with pytest.raises(CheckError, match="differs from PyTorch"):
        compare(dataclasses.replace(single, config=config), graph, frames)


@pytest.mark.nightly
def test_efficientnet_lite0_at_64_pixels() -> None:
    lite = spread_checkpoint(
        backbone="efficientnet_lite0", width_mult=1.0, clip=ClipConfig(num_frames=8, size=64)
    )
    report = compare(lite, export_fp32(lite), noise(lite, 5))
    assert max(report.max_abs_error.values()) < report.tolerance


def test_the_same_checkpoint_gives_the_same_bytes(checkpoint: Checkpoint, graph: bytes) -> None:
    assert export_fp32(checkpoint) == graph


def test_nothing_of_this_machine_is_in_the_graph(graph: bytes) -> None:
    for trace in (
        b"/home",
        b"/work",
        b"/usr",
        b"/tmp",
        b"site-packages",
        b".py",
        str(Path.cwd()).encode(),
        b"Traceback",
    ):
        assert trace not in graph
    model = onnx.load_from_string(graph)
    assert not model.functions
    assert all(not node.doc_string and not node.metadata_props for node in model.graph.node)


def test_the_bundle(stored: Path, checkpoint: Checkpoint, graph: bytes, tmp_path: Path, quick: None) -> None:
    written = export_bundle(stored, tmp_path / "bundle").manifest
    bundle = load_bundle(tmp_path / "bundle")
    manifest = bundle.manifest
    assert manifest == written
    assert sorted(path.name for path in (tmp_path / "bundle").iterdir()) == [
        "MODEL_CARD.md",
        "manifest.json",
        "model.fp16.onnx",
        "model.fp32.onnx",
        "preprocess.onnx",
    ]
    assert bundle.model_bytes("model.fp32.onnx") == add_frame_outputs(graph)
    assert bundle.model_bytes("model.fp16.onnx") == add_frame_outputs(to_half(graph))
    assert manifest.files["model.fp32.onnx"].sha256 == sha256(add_frame_outputs(graph))
    assert (manifest.action_labels, manifest.scene_labels) == (ACTIONS, ("hall", "park"))
    assert manifest.clip_spec == checkpoint.config.clip_spec
    assert (manifest.head, manifest.backbone, manifest.shift) == ("softmax", "mobilenet_v2", True)
    assert manifest.built_with.keys() == {"tsm-tal", "torch", "onnx", "onnxruntime"}
    assert manifest.checkpoint == {
        "name": "random",
        "epoch": 3,
        "sha256": sha256(stored.read_bytes()),
        "validation_map": 0.25,
    }
    parity = manifest.files["model.fp32.onnx"].parity
    assert parity is not None
    assert len(parity.batch_sizes) >= 2
    assert parity.batch_sizes == PARITY_BATCH_SIZES
    outputs = {"action_scores", "scene_scores", "frame_action_scores", "features"}
    assert parity.max_abs_error.keys() == outputs
    assert all(0 <= error <= parity.tolerance for error in parity.max_abs_error.values())
    assert parity.top1_agreement == dict.fromkeys(outputs, 1.0)


def test_a_sigmoid_head_and_the_settings_after_the_scores(tmp_path: Path) -> None:
    """Through the checkpoint's file, the graph and the manifest into the segments of a video."""
    made = spread_checkpoint(
        clip=ClipConfig(num_frames=4, size=32, window_seconds=1.0),
        segments=SegmentsConfig(stride_seconds=0.25, smoothing_seconds=0.6, min_duration_seconds=0.3),
        thresholds=(0.4, 0.25),
        head="sigmoid",
        shift_direction="past",
    )
    stored = tmp_path / "best.safetensors"
    save_checkpoint(stored, made)
    written = export_bundle(stored, tmp_path / "bundle").manifest
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.manifest == written
    assert (written.head, written.thresholds, written.action_labels) == (
        "sigmoid",
        (0.4, 0.25),
        ACTIONS[:-1],
    )
    assert (
        written.clip_spec
        == made.config.clip_spec
        == ClipSpec(interval_seconds=0.5, num_frames=4, size=32, window_seconds=1.0, stride_seconds=0.25)
    )
    assert (
        written.segment_rules
        == made.segment_rules
        == SegmentRules(thresholds=(0.4, 0.25), smoothing_seconds=0.6, min_duration_seconds=0.3)
    )
    clips = noise(made, 3)
    with torch.inference_mode():
        logits, scenes = made.model()(torch.from_numpy(clips))
    scores = open_model(bundle, "model.fp32.onnx").infer(clips)
    np.testing.assert_allclose(scores.action, torch.sigmoid(logits).numpy(), atol=1e-4)
    assert scenes is not None
    np.testing.assert_allclose(scores.scene, torch.softmax(scenes, 1).numpy(), atol=1e-4)
    assert not np.allclose(scores.action.sum(axis=1), 1, atol=0.01)
    video = write_levels(tmp_path / "v.mp4", [(20, 1.0), (128, 0.5), (235, 1.5)])
    result = run(video, open_member(bundle))
    trained = predict(made.model(), video, "v", made.labels, made.config.clip_spec, made.segment_rules)
    assert result.segments
    assert [(s.label, s.start_seconds, s.end_seconds) for s in result.segments] == [
        (s.label, s.start_seconds, s.end_seconds) for s in trained.segments
    ]


def test_half_weights_halve_the_file_and_keep_the_arithmetic(
    checkpoint: Checkpoint, graph: bytes, stored: Path, tmp_path: Path, quick: None
) -> None:
    written = export_bundle(stored, tmp_path / "bundle", ExportRequest(half_weights=True)).manifest
    halved = load_bundle(tmp_path / "bundle").model_bytes("model.fp32.onnx")
    assert len(halved) < 0.6 * len(graph)
    parity = written.files["model.fp32.onnx"].parity
    assert parity is not None
    assert parity.tolerance == HALF_WEIGHTS_TOLERANCE
    full = onnx.load_from_string(graph)
    for tensor in full.graph.initializer:  # the same weights, rounded by numpy
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= 1024:
            rounded = values.astype(np.float16).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(rounded, tensor.name))
    clips = noise(checkpoint, 3)
    expected, got = scores_of(full.SerializeToString(), clips), scores_of(halved, clips)
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, atol=1e-6)


def test_weights_beyond_half_precision_are_refused(graph: bytes) -> None:
    model = onnx.load_from_string(graph)
    large = next(v for v in model.graph.initializer if np.prod(v.dims) >= 1024 and v.data_type == 1)
    values = onnx.numpy_helper.to_array(large) * np.float32(1e7)
    large.CopyFrom(onnx.numpy_helper.from_array(values, large.name))
    with pytest.raises(CheckError, match="beyond half precision"):
        halve_weights(model.SerializeToString())


def test_a_graph_with_other_weights_is_refused(
    stored: Path,
    tmp_path: Path,
    graph: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = onnx.load_from_string(graph)
    bias = next(value for value in model.graph.initializer if value.name.endswith("action_head.bias"))
    other = onnx.numpy_helper.to_array(bias) + np.array([0.5, 0, 0], np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(other, bias.name))
    monkeypatch.setattr(onnx_files, "export_fp32", lambda checkpoint, *, opset: model.SerializeToString())
    code, said = tsm_export(monkeypatch, capsys, stored, "-o", tmp_path / "bundle")
    assert code == 6
    assert said.startswith("tsm-export: action_scores: the exported graph differs from PyTorch by ")
    assert said.endswith("allowed is 0.0001; nothing was written\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_a_bundle_stays_when_its_successor_fails(
    stored: Path, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle"
    export_bundle(stored, bundle)
    before = (bundle / "manifest.json").read_bytes()
    monkeypatch.setattr(onnx_files, "PARITY_TOLERANCE", -1.0)
    with pytest.raises(CheckError, match="nothing was written"):
        export_bundle(stored, bundle)
    assert (bundle / "manifest.json").read_bytes() == before
    monkeypatch.undo()


def test_a_graph_of_another_shape_is_refused(checkpoint: Checkpoint, graph: bytes) -> None:
    for change in ("batch", "name"):
        model = onnx.load_from_string(graph)
        if change == "batch":
            model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
        else:
            model.graph.output[1].name = "scenes"
            for node in model.graph.node:
                node.output[:] = ["scenes" if name == "scene_scores" else name for name in node.output]
        with pytest.raises(CheckError, match="other inputs or outputs than its checkpoint"):
            compare(checkpoint, model.SerializeToString(), noise(checkpoint, 5))


def test_the_command(
    stored: Path,
    tmp_path: Path,
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a checkpoint the newest one is taken, and ./bundle written."""
    monkeypatch.chdir(tmp_path)
    older = tmp_path / "runs" / "older" / "best.safetensors"
    older.parent.mkdir()
    older.write_bytes(b"not looked at")
    os.utime(older, (1, 1))
    code, said = tsm_export(monkeypatch, capsys)
    assert code == 0
    first, second, half, third = said.splitlines()
    assert first == "runs/random/best.safetensors -> bundle"
    assert second.startswith("  model.fp32.onnx (")
    assert "largest difference from PyTorch at batches (2, 3): action_scores " in second
    assert half.startswith("  model.fp16.onnx (")
    assert third.startswith("  preprocess.onnx (")
    code, _ = tsm_export(monkeypatch, capsys, stored, "--engine", "fp32")  # over the existing bundle
    assert code == 0
    load_bundle(tmp_path / "bundle").model_bytes("model.fp32.onnx")


def test_nothing_to_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = tsm_export(monkeypatch, capsys)
    assert (code, said) == (
        2,
        "tsm-export: no checkpoint given and none in runs/*/best.safetensors; train one with tsm-train\n",
    )
    with pytest.raises(UsageError, match="none in somewhere"):
        newest_checkpoint(Path("somewhere"))
    code, said = tsm_export(monkeypatch, capsys, "none.safetensors")
    assert code == 2
    assert said.startswith("tsm-export: none.safetensors: no readable checkpoint")
    assert list(tmp_path.iterdir()) == []


def test_fp16_beside_fp32(
    stored: Path,
    tmp_path: Path,
    graph: bytes,
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, said = tsm_export(monkeypatch, capsys, stored, "-o", tmp_path / "bundle", "--engine", "fp16")
    assert code == 0, said
    assert [line.split()[0] for line in said.splitlines()[1:]] == [
        "model.fp32.onnx",
        "model.fp16.onnx",
        "preprocess.onnx",
    ]
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.model_bytes("model.fp32.onnx") == add_frame_outputs(graph)
    assert bundle.model_bytes("model.fp16.onnx") == add_frame_outputs(to_half(graph))
    half = bundle.manifest.files["model.fp16.onnx"]
    assert half.precision == "fp16"
    assert half.parity is not None
    errors = half.parity.max_abs_error
    assert half.parity.tolerance == 5e-2
    assert 1e-6 < max(errors["action_scores"], errors["scene_scores"]) < 5e-2
    # One frame has sqrt(T) times the error of the mean over T frames.
    assert max(errors["frame_action_scores"], errors["features"]) < 5e-2 * math.sqrt(8)


def test_fp16_that_differs_too_much_costs_its_file_alone(
    stored: Path,
    tmp_path: Path,
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    strict = {**TOLERANCES, "fp16": Tolerance(max_abs_error=1e-7)}
    monkeypatch.setattr(onnx_files, "TOLERANCES", strict)
    code, said = tsm_export(monkeypatch, capsys, stored, "-o", tmp_path / "bundle")
    assert code == 0
    assert re.fullmatch(
        r"model\.fp16\.onnx is left out, and a GPU runs fp32: \w+: the exported graph differs from PyTorch by"
        r" \S+, allowed is 1e-07",
        said.splitlines()[-1],
    )
    assert list(load_bundle(tmp_path / "bundle").manifest.files) == ["model.fp32.onnx", "preprocess.onnx"]
    # Where it is named, its failure is that of the export, and the bundle stays as it was.
    code, said = tsm_export(monkeypatch, capsys, stored, "-o", tmp_path / "bundle", "--engine", "fp16")
    assert code == 6
    assert said.endswith("allowed is 1e-07; nothing was written\n")
    load_bundle(tmp_path / "bundle").model_bytes("model.fp32.onnx")


def test_fp32_for_gpus_has_a_form_of_its_own(
    graph: bytes, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Residual nets, whose CPU file keeps the moved channels apart; here any other graph stands for that."""
    monkeypatch.setattr(onnx_files, "export_fp32", lambda checkpoint, *, opset: graph)
    request = ExportRequest(precisions=("fp32",))
    assert list(onnx_files.onnx_files(checkpoint, request, for_plans=True)[0]) == [
        "model.fp32.onnx",
        "preprocess.onnx",
    ]
    separated = export_fp32(checkpoint, opset=19)
    monkeypatch.setattr(onnx_files, "separate_moved_channels", lambda data: separated)
    files, warnings = onnx_files.onnx_files(checkpoint, request, for_plans=True)
    assert list(files) == ["model.fp32.onnx", "model.fp32-gpu.onnx", "preprocess.onnx"]
    assert [files[name][0] for name in ("model.fp32.onnx", "model.fp32-gpu.onnx")] == [
        add_frame_outputs(separated),
        add_frame_outputs(graph),
    ]
    assert files["model.fp32-gpu.onnx"][1].precision == "fp32"
    assert warnings == []
    assert "model.fp32-gpu.onnx" not in onnx_files.onnx_files(checkpoint, request)[0]
    built_of: list[bytes] = []

    def build(onnx: bytes, options: BuildOptions, **_: object) -> BuiltPlan:
        built_of.append(onnx)
        return BUILT

    monkeypatch.setattr(plans, "build_plan", build)
    assert [plan.name for plan in plans.plans(files, request, ["tensorrt"])] == [
        "model.fp32.plan",
        "preprocess.plan",
    ]
    assert built_of == [add_frame_outputs(graph), files["preprocess.onnx"][0]]


def test_a_plan_for_each_kind_of_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs of a kind share their plans; TensorRT for RTX builds for all kinds at once."""
    kinds = {0: "9.0", 1: "8.6", 2: "9.0", 3: "8.6"}

    def find(device: int) -> Gpu:
        if device not in kinds:
            raise BackendError(f"no GPU {device}")
        return Gpu(name="some GPU", compute_capability=kinds[device])

    built_on: list[int] = []

    def build(onnx: bytes, options: BuildOptions, **_: object) -> BuiltPlan:
        built_on.append(options.device)
        return BUILT

    monkeypatch.setattr(plans, "find_gpu", find)
    monkeypatch.setattr(plans, "build_plan", build)
    entry = ModelFile(sha256="", precision="fp16")
    files = dict.fromkeys(("model.fp16.onnx", "model.fp32.onnx", "preprocess.onnx"), (b"graph", entry))
    request = ExportRequest(precisions=("fp16",), devices=(2, 3, 0, 1))
    assert [plan.name for plan in plans.plans(files, request, ["tensorrt", "tensorrt_rtx"])] == [
        "model.fp16.plan",
        "preprocess.plan",
        "model.fp16.sm86.plan",
        "preprocess.sm86.plan",
        "model.fp16.rtx.plan",
        "preprocess.rtx.plan",
    ]
    assert built_on == [2, 2, 3, 3, 2, 2]
    (missing,) = plans.plans(files, dataclasses.replace(request, devices=(0, 4)), ["tensorrt"])
    assert (missing.name, str(missing.problem)) == ("plans of tensorrt", "no GPU 4")


def test_a_target_that_is_not_possible_here_does_not_cost_the_onnx_files(
    stored: Path,
    tmp_path: Path,
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    words = (stored, "-o", tmp_path / "bundle", "--engine", "fp16", "--target", "all")
    code, said = tsm_export(monkeypatch, capsys, *words)
    assert code == 5
    assert "pip install 'tsm-tal[tensorrt]'" in said
    assert sorted(load_bundle(tmp_path / "bundle").manifest.files) == [
        "model.fp16.onnx",
        "model.fp32.onnx",
        "preprocess.onnx",
    ]


def test_a_plan_for_which_there_is_no_room_is_left_out(
    stored: Path,
    tmp_path: Path,
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    built_of = []

    def build(onnx: bytes, options: BuildOptions, **_: object) -> BuiltPlan:
        built_of.append((onnx, options))
        return BUILT

    monkeypatch.setattr(plans, "build_plan", build)
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.suffix == ".plan":
            write(path, data[:2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    words = (stored, "-o", tmp_path / "bundle", "--target", "tensorrt-rtx")
    code, said = tsm_export(monkeypatch, capsys, *words)
    assert code == 0
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.model_bytes("model.fp16.rtx.plan") == b"plan"
    assert bundle.manifest.files["model.fp16.rtx.plan"].engine == ENGINE
    pictures = bundle.manifest.files["preprocess.rtx.plan"]
    assert (pictures.kind, pictures.precision, pictures.engine) == ("preprocess", "fp32", ENGINE)
    assert [(options.batch, set(options.shapes)) for _, options in built_of] == [
        ((1, 8, 32), set()),
        ((1, 1, 1), {"y", "uv"}),
    ]
    assert sha256(built_of[1][0]) == bundle.manifest.files["preprocess.onnx"].sha256
    assert re.search(r"preprocess\.rtx\.plan \(0\.0 MB\): .*, pictures; outputs of layers", said)
    monkeypatch.setattr(Path, "write_bytes", full)
    code, said = tsm_export(monkeypatch, capsys, *words)
    monkeypatch.undo()
    assert code == 7
    assert said.splitlines()[-2:] == [
        f"tsm-export: cannot write {name}.rtx.plan: No space left on device"
        for name in ("model.fp16", "preprocess")
    ]
    assert sorted(path.name for path in (tmp_path / "bundle").iterdir()) == [
        "MODEL_CARD.md",
        "manifest.json",
        "model.fp16.onnx",
        "model.fp32.onnx",
        "preprocess.onnx",
    ]
    assert list(load_bundle(tmp_path / "bundle").manifest.files) == [
        "model.fp32.onnx",
        "model.fp16.onnx",
        "preprocess.onnx",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--engine", "fp8"), "--engine 'fp8': expected fp32, fp16, int8"),
        (("--target", "coreml"), "--target 'coreml': expected onnx, tensorrt, tensorrt-rtx, all"),
        (("--calibrate", "videos"), "--calibrate is for --engine int8"),
        (("--batch", "4,2,8"), "expected MIN,OPT,MAX"),
        (("--opset", "11"), "--opset 11: expected 18 to 23; leave it out for 20"),
    ],
)
def test_wrong_usage(
    words: tuple[str, ...],
    message: str,
    stored: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, said = tsm_export(monkeypatch, capsys, stored, *words)
    assert code == 2
    assert message in said


def test_a_folder_with_other_files_is_left_alone(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    code, said = tsm_export(monkeypatch, capsys, stored, "-o", tmp_path / "mine")
    assert code == 2
    assert "holds other files" in said
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]
    code, said = tsm_export(monkeypatch, capsys, stored, "-o", tmp_path / "mine" / "letter.txt")
    assert code == 2
    assert "is not a folder" in said


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "torch"])
def test_an_extra_that_is_missing_is_named(
    stored: Path, missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("tsm_export.export", "tsm_export.onnx_models", "tsm_export.graphs.from_checkpoint"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    code, said = tsm_export(monkeypatch, capsys, stored)
    assert code == 5
    assert said == (
        f"tsm-export: {missing} is not installed: pip install 'tsm-tal[export,cpu]', or"
        " 'tsm-tal[export,gpu]' on a CUDA machine\n"
    )


def test_help_answers_without_torch_and_onnx() -> None:
    check = "finally: assert not {'torch', 'onnx'} & set(sys.modules)"
    script = f"import sys; from tsm_export.commands.export import main\ntry: main()\n{check}"
    done = subprocess.run(
        [sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Write a bundle that tsm-run takes" in done.stdout
