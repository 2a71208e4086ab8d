"""The joint model of views from training through the bundle to captures of several cameras."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest
import torch
from fakes import result_of, seg

from tsm_export.export import export_bundle
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.captures.selection import CapturePlan, plan_of_video
from tsm_runtime.errors import BundleError, UsageError
from tsm_runtime.models.opening import open_member
from tsm_runtime.models.view_join import ViewJoin
from tsm_runtime.pipeline.joining import joint_result
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.result import VideoOutcome
from tsm_runtime.pipeline.run import run_captures
from tsm_runtime.results import FrameFeatures
from tsm_runtime.verification.clip_sets import noise_clips
from tsm_runtime.verification.survey import survey_bundle
from tsm_runtime.verification.verify import verify
from tsm_runtime.video.finding import VideoInput
from tsm_train.config import Config, load_config
from tsm_train.data.dataset import TrainingData, open_data
from tsm_train.data.video import TrainingVideo
from tsm_train.head.features import Piece
from tsm_train.samples.clips import Labels
from tsm_train.sections.after_backbone import ViewsConfig
from tsm_train.training.checkpoint import Checkpoint, build_model, save_checkpoint
from tsm_train.views.checkpoint import VIEWS_FILE, load_views
from tsm_train.views.moments import Moments, read_moments
from tsm_train.views.network import ViewJoinNet
from tsm_train.views.run import train_run_views

VIEWS = ViewsConfig(epochs=150, batch_size=16, hidden=16, dropout=0.0)
LEVELS = {"low": 60, "high": 220}
"""Actions of the drawn panoramas: how bright the wall is, in one window of four."""


def draw_panorama(path: Path, actions: list[tuple[str, float, float, int]], seconds: float) -> None:
    """Draw a grey panorama with noise, in which a part of the wall at a yaw becomes dark or bright."""
    rng = np.random.default_rng(len(str(path)))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "crf": "12"})
        stream.width, stream.height, stream.pix_fmt = 192, 96, "yuv420p"
        for number in range(round(seconds * 10)):
            picture = rng.integers(120, 136, (96, 192, 3)).astype(np.uint8)
            for label, start, end, yaw in actions:
                if start <= number / 10 < end:
                    columns = np.arange(96 + yaw * 192 // 360 - 24, 96 + yaw * 192 // 360 + 24) % 192
                    picture[16:80, columns] = LEVELS[label]
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run on panoramas whose network is not trained."""
    folder = tmp_path_factory.mktemp("panoramas")
    (folder / "videos").mkdir()
    database: dict[str, Any] = {}
    for number, yaws in enumerate([(0, 180), (90, -90), (180, 0), (-90, 90)]):
        found = [("low", 1.0, 3.0, yaws[0]), ("high", 4.0, 6.0, yaws[1])]
        draw_panorama(folder / "videos" / f"v{number}.mp4", found, 8.0)
        marks = [{"label": label, "segment": [start, end]} for label, start, end, _ in found]
        subset = "validation" if number == 3 else "training"
        database[f"v{number}"] = {"subset": subset, "duration": 8.0, "annotations": marks}
    (folder / "ground_truth.json").write_text(json.dumps({"version": "drawn", "database": database}))
    path = folder / "run.toml"
    path.write_text(
        """
        name = "joint"
        data.annotations = "ground_truth.json"
        data.videos = "videos"
        data.cache = "cache"
        model = {backbone = "mobilenet_v2", width_mult = 0.25, dropout = 0.0, scene_head = false}
        clip = {interval_seconds = 0.5, num_frames = 2, size = 32, projection = "equirectangular"}
        """
    )
    return msgspec.structs.replace(load_config(path), views=VIEWS)


@pytest.fixture(scope="module")
def data(config: Config) -> TrainingData:
    """Its videos, one for each window."""
    return open_data(config.data, config.clip.interval_seconds, projection=config.clip.projection)


@pytest.fixture(scope="module")
def joint_run(config: Config, data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a joint model."""
    folder = tmp_path_factory.mktemp("run")
    labels = Labels.of(data.actions, data.scenes, config.model)
    torch.manual_seed(1)
    model = build_model(config, labels).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # mean statistics of all batches: without any, features hardly vary
    levels = torch.tensor([60, 90, 128, 128, 128, 220]).repeat(4)
    noise = torch.randint(-8, 8, (len(levels), 2, 32, 32, 3))
    with torch.no_grad():
        model((levels[:, None, None, None, None] + noise).to(torch.uint8))
    weights = model.state_dict()
    checkpoint = Checkpoint(config=config, labels=labels, epoch=1, metrics={}, weights=weights)
    save_checkpoint(folder / "best.safetensors", checkpoint)
    metrics = train_run_views(config, folder, data)
    assert set(metrics) == {f"views_{name}" for name in ("map", "map_0.5", "single_map", "single_map_0.5")}
    return folder


@pytest.fixture(scope="module")
def joint_bundle(joint_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle."""
    folder = tmp_path_factory.mktemp("bundles") / "joint"
    exported = export_bundle(joint_run / "best.safetensors", folder)
    assert exported.manifest.views is not None
    assert (exported.manifest.projection, exported.manifest.views.join) == ("equirectangular", "attention")
    return folder


def test_windows_together_find_what_is_in_any_of_them(
    joint_run: Path, joint_bundle: Path, config: Config, data: TrainingData
) -> None:
    """The last video's actions lie at yaws at which no training video has them."""
    metrics = load_views(joint_run / VIEWS_FILE).metrics
    assert metrics["map_0.5"] > 0.9
    assert metrics["map"] > metrics["single_map"]
    member = open_member(load_bundle(joint_bundle))
    video = Path(config.data.videos) / "v3.mp4"
    (outcome,) = run_captures([plan_of_video(VideoInput(video, "v3"))], [member], Options())
    assert outcome.result is not None
    best = [s for s in outcome.result.segments if s.end_seconds - s.start_seconds >= 1.0]
    assert [s.label for s in best] == ["low", "high"]
    for segment, (start, end) in zip(best, ((1.0, 3.0), (4.0, 6.0)), strict=True):
        assert abs(segment.start_seconds - start) <= 0.5
        assert abs(segment.end_seconds - end) <= 0.5
    assert outcome.result.num_intervals == 16
    assert outcome.result.scores is not None


def test_training_keeps_what_is_there(joint_run: Path, config: Config, data: TrainingData) -> None:
    before = (joint_run / VIEWS_FILE).stat().st_mtime_ns
    train_run_views(config, joint_run, data)
    assert (joint_run / VIEWS_FILE).stat().st_mtime_ns == before


def test_the_joint_model_is_verified_and_surveyed(joint_bundle: Path) -> None:
    bundle = load_bundle(joint_bundle)
    found = {each.name: each.detail for each in survey_bundle(bundle) if each.state == "ok"}
    assert found["views.fp32.onnx"] == "joint model of views, runs on the CPU beside the model"
    report = verify(bundle, [noise_clips(bundle.manifest.clip_spec, 4)])
    (joint,) = (each for each in report.comparisons if each.variant.file == "views.fp32.onnx")
    assert joint.problems == ()
    assert report.failures == {}


def test_a_joint_model_of_another_backbone_is_refused(joint_bundle: Path, tmp_path: Path) -> None:
    manifest = json.loads((joint_bundle / "manifest.json").read_text())
    manifest["views"]["backbone_sha256"] = "0" * 64
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="joint model of views was trained on the features of another"):
        load_bundle(tmp_path)


# --- several cameras ------------------------------------------------------------------------------


class Cached:
    """Features of videos by their name: the number of the interval, on the capture's time line."""

    frame_seconds = 0.25

    def deployed(self, video: TrainingVideo) -> list[Piece]:
        first = round(video.offset_seconds / 0.5)
        values = np.repeat(np.arange(first, first + 6), 2)[:, None].astype(np.float16)
        return [Piece(0.0, values)]


def camera(view: str, offset: float) -> TrainingVideo:
    return TrainingVideo(
        video_id=f"{view}@{offset:g}",
        path=Path(f"{view}.mp4"),
        capture="c",
        view=view,
        subset="training",
        segments=(seg("walk", max(0.0, 1.0 - offset), 2.0 - offset),),
        offset_seconds=offset,
        duration_seconds=3.0,
    )


def test_moments_lie_on_the_time_line_of_the_capture() -> None:
    videos = [camera("panoramic", 0.0), camera("binocular", 1.1), camera("third_person", -0.5)]
    (moments,) = read_moments(videos, Cached(), 2)  # type: ignore[arg-type]
    assert moments.indices.tolist() == list(range(8))
    assert moments.present.sum(axis=0).tolist() == [6, 6, 5]
    there = moments.present > 0
    assert (moments.features[..., 0] == np.arange(8)[:, None])[there].all()
    labels = Labels(actions=("walk", "background"), scenes=())
    assert Moments.of([moments], labels, 0.5).actions.tolist() == [1, 1, 0, 0, 1, 1, 1, 1]
    alone = moments.only(2)
    assert alone is not None
    assert alone.indices.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(UsageError, match="no moment has two views"):
        Moments.of([alone], labels, 0.5)


class Summing(ViewJoin):
    """Says 'walk' where the features of the views that are there sum to 2 or more."""

    def __init__(self) -> None:
        pass

    def infer(self, features: Any, present: Any) -> Any:
        from tsm_runtime.backends.base import Scores

        walks = ((features[..., 0] * present).sum(axis=1) >= 2)[:, None]
        return Scores(np.concatenate([walks, ~walks], 1).astype(np.float32), None)


def test_views_that_begin_late_or_are_missing_are_joined() -> None:
    from fakes import brightness_member

    def outcome(number: int, view: str, values: list[float]) -> VideoOutcome:
        features = FrameFeatures(
            indices=np.arange(len(values)), step_seconds=0.5, values=np.array(values, np.float32)[:, None]
        )
        result = replace(result_of(video_id="c"), num_intervals=len(values), features=features)
        result = replace(result, duration_seconds=0.5 * len(values))
        return VideoOutcome(video=VideoInput(Path(f"{view}.mp4"), "c", view=view), results={number: result})

    found = [outcome(0, "panoramic", [1, 1, 1, 1, 2, 0]), outcome(1, "third_person", [1, 1])]
    begins = ((found[0].video, 0.0), (found[1].video, 0.9))
    plan = CapturePlan(named=found[0].video, begins=begins)
    member = replace(brightness_member(), action_labels=("walk", "background"), joint=Summing())
    looks = [(0, replace(member, view="panoramic")), (1, replace(member, view="third_person"))]
    result = joint_result(plan, looks, found)
    assert result is not None
    assert [(s.label, s.start_seconds, s.end_seconds) for s in result.segments] == [("walk", 1.0, 2.5)]
    assert result.num_intervals == 6
    assert joint_result(plan, looks, [replace(each, results={}) for each in found]) is None


def test_the_order_of_views_and_what_is_missing_do_not_matter() -> None:
    torch.manual_seed(0)
    network = ViewJoinNet(5, 3, 0, join="attention", hidden=8).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    features, present = torch.randn(4, 3, 5), torch.tensor([[1.0, 1, 1], [1, 1, 0], [0, 1, 1], [0, 0, 1]])
    before, _ = network(features, present)
    order = [2, 0, 1]
    assert torch.allclose(before, network(features[:, order], present[:, order])[0], atol=1e-5)
    features[present == 0] = 99.0
    assert torch.allclose(before, network(features, present)[0], atol=1e-4)
    assert torch.allclose(before[3], network(features[3:, 2:], present[3:, 2:])[0], atol=1e-4)


def test_before_training_it_is_the_picture_model_on_the_mean() -> None:
    network = ViewJoinNet(5, 3, 0, join="mean").eval()
    features = torch.randn(4, 3, 5)
    logits, _ = network(features, torch.ones(4, 3))
    assert torch.allclose(logits, network.picture_head(features.mean(1)), atol=1e-6)
