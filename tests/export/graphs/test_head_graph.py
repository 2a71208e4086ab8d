"""A temporal head from training to `tsm-run`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch

from tsm_export.export import export_bundle
from tsm_export.graphs.head import compare_head, export_head, halve_head
from tsm_export.request import ExportRequest
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.manifest import MANIFEST
from tsm_runtime.errors import BundleError, CheckError, UsageError
from tsm_runtime.models.member import Overrides
from tsm_runtime.models.opening import open_member, settings_of
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run, run_videos
from tsm_runtime.results import Result
from tsm_runtime.segments.decoding.decode import decode_frames
from tsm_runtime.segments.decoding.settings import Decoding
from tsm_runtime.verification.clip_sets import noise_clips
from tsm_runtime.verification.verify import verify
from tsm_runtime.video.finding import VideoInput
from tsm_train.config import load_config
from tsm_train.data.dataset import open_data
from tsm_train.head.checkpoint import HEAD_FILE, HeadCheckpoint, load_head, save_head, weights_sha256
from tsm_train.head.features import FeatureCache
from tsm_train.head.network import HeadGroup, TemporalHead
from tsm_train.head.run import train_run_head
from tsm_train.head.train import score_pieces
from tsm_train.sections.after_backbone import HeadConfig
from tsm_train.training.checkpoint import load_checkpoint
from tsm_train.training.validation import TorchBackend

QUICK = [
    "head.epochs=4",
    "head.passes=2",
    "head.width=16",
    "head.window_seconds=4",
    "head.receptive_seconds=1",
]


@pytest.fixture(scope="module")
def run_folder(learnt_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose temporal head is trained."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "best.safetensors").write_bytes((learnt_run / "best.safetensors").read_bytes())
    config = load_config(learnt_run.parents[1] / "learnt.toml", QUICK)
    metrics = train_run_head(config, folder, open_data(config.data, config.clip.interval_seconds))
    assert metrics["head_fitted_map"] >= metrics["head_merge_map"] > 0
    return folder


@pytest.fixture(scope="module")
def head(run_folder: Path) -> HeadCheckpoint:
    return load_head(run_folder / HEAD_FILE)


@pytest.fixture(scope="module")
def bundle(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    request = ExportRequest(targets=("onnx",), precisions=("fp32", "fp16"))
    export_bundle(run_folder / "best.safetensors", folder, request)
    return folder


def test_the_bundle_holds_the_head_in_both_precisions(bundle: Path, head: HeadCheckpoint) -> None:
    manifest = load_bundle(bundle).manifest
    for name in ("head.fp32.onnx", "head.fp16.onnx"):
        parity = manifest.files[name].parity
        assert parity is not None
        assert max(parity.max_abs_error.values()) <= parity.tolerance
    assert manifest.decoding == head.decoding
    assert manifest.temporal_head is not None
    assert manifest.temporal_head.backbone_sha256 == manifest.files["model.fp32.onnx"].sha256


def test_tsm_verify_compares_the_head_in_chunks(bundle: Path) -> None:
    opened = load_bundle(bundle)
    report = verify(opened, [noise_clips(opened.manifest.clip_spec)], num_threads=1)
    assert report.failed_files == ()
    assert {"head.fp32.onnx", "head.fp16.onnx"} <= set(report.compared_files)
    found = {c.variant.file: c for c in report.comparisons}
    assert found["head.fp32.onnx"].heads["frame_scores"].max_abs_error < 1e-5
    assert 0 < found["head.fp16.onnx"].heads["frame_scores"].max_abs_error < 0.05


def test_tsm_run_gives_the_segments_of_the_head(
    bundle: Path, run_folder: Path, learnt_run: Path, head: HeadCheckpoint
) -> None:
    checkpoint = load_checkpoint(run_folder / "best.safetensors")
    config = load_config(learnt_run.parents[1] / "learnt.toml", QUICK)
    video = open_data(config.data, config.clip.interval_seconds).training[0]
    cache = FeatureCache(TorchBackend(checkpoint.model()), "x", checkpoint.labels, config, None)
    frames = score_pieces(head.model(), cache.deployed(video), sigmoid=False)
    expected = decode_frames(frames, checkpoint.labels.actions, head.decoding)
    member = open_member(load_bundle(bundle))
    found = run(video.path, member).segments
    assert [s.label for s in found] == [s.label for s in expected]
    bounds = [(s.start_seconds, s.end_seconds, s.score) for s in expected]
    np.testing.assert_allclose([(s.start_seconds, s.end_seconds, s.score) for s in found], bounds, atol=0.02)


def test_jobs_and_ensembles_use_the_head_as_a_run_alone_does(bundle: Path, drawn_data: Path) -> None:
    member = open_member(load_bundle(bundle))
    plain = replace(member, head=None, decoding=None, name="clips")
    paths = sorted((drawn_data / "videos").glob("training_*.mp4"))
    alone = {path.stem: run(path, member) for path in paths}
    videos = [VideoInput(path, path.stem) for path in paths]
    for video, result in run_videos(videos, [member], Options(batch_size=3), jobs=2):
        assert isinstance(result, Result)
        assert_same(result, alone[video.video_id])
    fused = run(paths[0], [member, plain])
    assert fused.members[0] is not None
    assert fused.members[1] is not None
    assert_same(fused.members[0], alone[paths[0].stem])
    assert fused.members[1].segments == run(paths[0], plain).segments


def assert_same(result: Result, expected: Result) -> None:
    assert [s.label for s in result.segments] == [s.label for s in expected.segments]
    values = ([(s.start_seconds, s.end_seconds, s.score) for s in r.segments] for r in (result, expected))
    np.testing.assert_allclose(*values, atol=1e-4)


def test_a_bundle_exported_without_the_head_merges_intervals(run_folder: Path, tmp_path: Path) -> None:
    export_bundle(
        run_folder / "best.safetensors", tmp_path / "b", ExportRequest(targets=("onnx",), head=False)
    )
    manifest = load_bundle(tmp_path / "b").manifest
    assert (manifest.temporal_head, manifest.decoding) == (None, None)


def test_a_head_of_another_backbone_is_refused(run_folder: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(run_folder / "best.safetensors")
    head = load_head(run_folder / HEAD_FILE)
    assert head.backbone_sha256 == weights_sha256(checkpoint.weights)
    (tmp_path / "best.safetensors").write_bytes((run_folder / "best.safetensors").read_bytes())
    save_head(tmp_path / HEAD_FILE, replace(head, backbone_sha256="0" * 64))
    with pytest.raises(UsageError, match=r"another backbone .* with --no-head"):
        export_bundle(tmp_path / "best.safetensors", tmp_path / "b", ExportRequest(targets=("onnx",)))
    with pytest.raises(UsageError, match=r"--no-frame-scores: the temporal head needs them"):
        export_bundle(
            run_folder / "best.safetensors",
            tmp_path / "b",
            ExportRequest(targets=("onnx",), frame_outputs=False),
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone_sha256": "0" * 64}, "trained on the features of another backbone"),
        ({"context": [-1, 2]}, "expected 0 or more frames on both sides"),
    ],
)
def test_a_bundle_whose_parts_do_not_belong_together_is_refused(
    bundle: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    raw = msgspec.json.decode((bundle / MANIFEST).read_bytes())
    raw["temporal_head"] |= change
    (tmp_path / MANIFEST).write_bytes(msgspec.json.encode(raw))
    with pytest.raises(BundleError, match=message):
        load_bundle(tmp_path)


def test_a_head_without_decoding_or_features_is_refused(bundle: Path, tmp_path: Path) -> None:
    for key, message in (("decoding", "no decoding of its scores"), ("feature_dim", "without")):
        raw = msgspec.json.decode((bundle / MANIFEST).read_bytes())
        del raw[key]
        (tmp_path / MANIFEST).write_bytes(msgspec.json.encode(raw))
        with pytest.raises(BundleError, match=message):
            load_bundle(tmp_path)


def test_a_head_for_other_labels_does_not_open(bundle: Path, tmp_path: Path) -> None:
    raw = msgspec.json.decode((bundle / MANIFEST).read_bytes())
    raw["action_labels"] = ["one more", *raw["action_labels"]]
    for name in raw["files"]:
        (tmp_path / name).write_bytes((bundle / name).read_bytes())
    (tmp_path / MANIFEST).write_bytes(msgspec.json.encode(raw))
    with pytest.raises(BundleError, match="does not fit the manifest"):
        open_member(load_bundle(tmp_path))


def test_clips_that_overlap_are_refused_with_a_head(bundle: Path) -> None:
    opened = load_bundle(bundle)
    for overrides, option in (
        (Overrides(stride_seconds=0.25), "--stride"),
        (Overrides(window_seconds=1.0), "--window"),
    ):
        with pytest.raises(UsageError, match=f"^{option}: the segments of this model are made of"):
            settings_of(opened, overrides)


def small_head(*, causal: bool, sigmoid: bool) -> HeadCheckpoint:
    from tsm_runtime.results import BACKGROUND
    from tsm_train.samples.clips import Labels

    config = HeadConfig(width=16, receptive_seconds=1.0, causal=causal)
    torch.manual_seed(0)
    network = TemporalHead(24, 3, frame_seconds=0.1, width=16, dilations=(1, 2, 4), causal=causal)
    torch.nn.init.normal_(network.action.weight)
    return HeadCheckpoint(
        config=config,
        labels=Labels(("a", "b", "c") if sigmoid else ("a", "b", BACKGROUND), ()),
        frame_seconds=0.1,
        feature_dim=24,
        backbone_sha256="x",
        metrics={},
        weights=network.state_dict(),
        decoding=Decoding(),
        thresholds=(0.5,) * 3 if sigmoid else (),
    )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_every_form_of_a_head_is_exported_and_compared(causal: bool, sigmoid: bool) -> None:
    head = small_head(causal=causal, sigmoid=sigmoid)
    graph = export_head(head)
    assert max(compare_head(head, graph, tolerance=1e-4).max_abs_error.values()) < 1e-4
    half = halve_head(graph)
    assert len(half) < len(graph)
    assert max(compare_head(head, half, tolerance=0.02).max_abs_error.values()) < 0.02
    other = replace(head, weights={**head.weights, "action.bias": torch.ones(3) * torch.arange(3)})
    with pytest.raises(CheckError, match="differs from PyTorch"):
        compare_head(other, graph, tolerance=1e-4)


def test_a_group_of_heads_is_one_graph(tmp_path: Path) -> None:
    """Its outputs are the means of those of its heads; a checkpoint keeps all of them."""
    heads = [small_head(causal=False, sigmoid=False).model() for _ in range(2)]
    torch.nn.init.normal_(heads[1].action.weight)
    group = HeadGroup(heads)
    one = small_head(causal=False, sigmoid=False)
    config = msgspec.structs.replace(one.config, members=2)
    save_head(tmp_path / "head.safetensors", replace(one, config=config, weights=group.state_dict()))
    loaded = load_head(tmp_path / "head.safetensors")
    features = torch.randn(1, 30, 24)
    with torch.inference_mode():
        apart = [
            torch.stack(parts).mean(0) for parts in zip(*(head(features) for head in heads), strict=True)
        ]
        together = loaded.model()(features)
    for got, want in zip(together, apart, strict=True):
        torch.testing.assert_close(got, want)
    assert max(compare_head(loaded, export_head(loaded), tolerance=1e-4).max_abs_error.values()) < 1e-4
    assert (
        max(compare_head(loaded, halve_head(export_head(loaded)), tolerance=0.02).max_abs_error.values()) > 0
    )


def test_a_damaged_head_is_named(tmp_path: Path, head: HeadCheckpoint) -> None:
    path = tmp_path / HEAD_FILE
    for content, message in ((None, "no readable temporal head"), (b"nothing", "not a safetensors")):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UsageError, match=message):
            load_head(path)
    save_head(path, head)
    assert load_head(path).decoding == head.decoding


def test_a_head_beside_is_parsed_by_tensorrt_for_rtx(bundle: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    for name in ("head.fp32.onnx", "head.fp16.onnx", "model.fp32.onnx"):
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        assert parser.parse((bundle / name).read_bytes()), parser.get_error(0)
        outputs = {network.get_output(i).name for i in range(network.num_outputs)}
        assert outputs == {o.name for o in onnx.load(bundle / name).graph.output}
