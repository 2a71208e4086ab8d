"""The sound branch from training through the bundle to a result."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from streams import segments_in

from tsm_export.export import export_bundle
from tsm_runtime.backends.base import Scores
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.errors import UsageError
from tsm_runtime.live.session import watch
from tsm_runtime.models.member import Member, Overrides
from tsm_runtime.models.opening import open_member
from tsm_runtime.models.sound_branch import SoundBranch
from tsm_runtime.pipeline.run import run
from tsm_runtime.verification.clip_sets import noise_clips, video_clips
from tsm_runtime.verification.survey import survey_bundle
from tsm_runtime.verification.verify import verify
from tsm_runtime.video.sources import FileSource
from tsm_train.audio.checkpoint import SOUND_FILE, load_sound, save_sound
from tsm_train.audio.run import train_run_sound
from tsm_train.config import Config, load_config
from tsm_train.data.dataset import TrainingData, open_data
from tsm_train.head.run import train_run_head
from tsm_train.samples.clips import Labels
from tsm_train.sections.after_backbone import AudioConfig, HeadConfig
from tsm_train.synthetic.sounds import _mux
from tsm_train.training.checkpoint import Checkpoint, build_model, save_checkpoint

AUDIO = AudioConfig(epochs=150, batch_size=8, width=8, dropout=0.0)


@pytest.fixture(scope="module")
def heard_data(drawn_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn videos, in which every action sounds at a pitch of its own."""
    folder = tmp_path_factory.mktemp("heard")
    shutil.copytree(drawn_data / "videos", folder / "videos")
    truth = json.loads((drawn_data / "ground_truth.json").read_text())
    labels = sorted({a["label"] for entry in truth["database"].values() for a in entry["annotations"]})
    for video_id, entry in truth["database"].items():
        times = np.arange(round(entry["duration"] * 16_000)) / 16_000
        samples = 0.01 * np.random.default_rng(1).normal(size=len(times))
        for action in entry["annotations"]:
            inside = (times >= action["segment"][0]) & (times < action["segment"][1])
            pitch = 300 * 1.4 ** labels.index(action["label"])
            samples += 0.3 * inside * np.sin(2 * np.pi * pitch * times)
        _mux(folder / "videos" / f"{video_id}.mp4", samples.astype(np.float32))
    (folder / "ground_truth.json").write_text(json.dumps(truth))
    return folder


@pytest.fixture(scope="module")
def config(heard_data: Path) -> Config:
    """A run whose network is not trained."""
    path = heard_data / "run.toml"
    path.write_text(
        """
        name = "heard"
        data.annotations = "ground_truth.json"
        data.videos = "videos"
        data.cache = "cache"
        data.validation_subset = "training"
        data.accept = ["capture-in-two-subsets"]
        model = {backbone = "mobilenet_v2", width_mult = 0.25, dropout = 0.0}
        clip = {interval_seconds = 0.5, num_frames = 2, size = 32}
        """
    )
    return msgspec.structs.replace(load_config(path), audio=AUDIO)


@pytest.fixture(scope="module")
def data(config: Config) -> TrainingData:
    """Its videos."""
    return open_data(config.data, config.clip.interval_seconds)


@pytest.fixture(scope="module")
def heard_run(config: Config, data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a sound branch."""
    folder = tmp_path_factory.mktemp("run")
    labels = Labels.of(data.actions, data.scenes, config.model)
    torch.manual_seed(1)
    checkpoint = Checkpoint(
        config=config,
        labels=labels,
        epoch=1,
        metrics={},
        weights=build_model(config, labels).state_dict(),
    )
    save_checkpoint(folder / "best.safetensors", checkpoint)
    metrics = train_run_sound(config, folder, data)
    assert set(metrics) == {"audio_map", "audio_map_0.5", "audio_muted_map", "audio_muted_map_0.5"}
    return folder


@pytest.fixture(scope="module")
def heard_bundle(heard_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle."""
    folder = tmp_path_factory.mktemp("bundles") / "both"
    exported = export_bundle(heard_run / "best.safetensors", folder)
    assert exported.manifest.sound is not None
    assert exported.manifest.files["audio.fp32.onnx"].kind == "audio"
    return folder


def bounds_live(video: Path, member: Member) -> list[tuple[str, float, float]]:
    """The segments of a live run over a file."""
    return segments_in(list(watch(FileSource(path=video), member)))


def test_a_bundle_with_sound_hears_and_does_without(
    heard_bundle: Path, heard_data: Path, drawn_data: Path
) -> None:
    both = open_member(load_bundle(heard_bundle))
    seen = replace(both, sound=None)
    video = sorted((heard_data / "videos").glob("training*.mp4"))[0]
    heard = run(video, both)
    pictures = run(video, seen)
    assert heard.warnings == ()
    assert heard.scores is not None
    assert pictures.scores is not None
    assert np.abs(heard.scores.action - pictures.scores.action).max() > 1e-3
    assert bounds_live(video, both) == [(s.label, s.start_seconds, s.end_seconds) for s in heard.segments]
    mute = run(drawn_data / "videos" / video.name, both)
    assert mute.warnings == ("no audio track; scored by its pictures alone",)
    assert mute.scores is not None
    assert np.abs(mute.scores.action - pictures.scores.action).max() < 1e-5
    assert [(s.label, s.start_seconds) for s in mute.segments] == [
        (s.label, s.start_seconds) for s in pictures.segments
    ]


def test_the_branch_is_verified_and_surveyed(
    heard_bundle: Path, heard_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load_bundle(heard_bundle)
    found = {each.name: each.detail for each in survey_bundle(bundle) if each.state == "ok"}
    assert found["audio.fp32.onnx"] == "sound branch, runs on the CPU beside the model"
    video = sorted((heard_data / "videos").glob("training*.mp4"))[0]
    spec = bundle.manifest.clip_spec
    clips = [noise_clips(spec, 4), video_clips(video, spec, 6)]
    report = verify(bundle, clips)
    assert (report.failures, report.not_run) == ({}, {})
    sound = [each for each in report.comparisons if each.variant.file == "audio.fp32.onnx"]
    assert [each.backend for each in sound] == [f"onnxruntime, {n} of {n} intervals heard" for n in (4, 6)]
    assert all(each.problems == () for each in sound)
    assert set(sound[0].heads) == {"action_scores", "scene_scores", "heard_action_scores"}
    infer = SoundBranch.infer

    def certain(*given: Any) -> Scores:
        scores = infer(*given)
        return scores._replace(
            action=np.eye(scores.action.shape[1], dtype=np.float32)[scores.action.argmin(1)]
        )

    monkeypatch.setattr(SoundBranch, "infer", certain)
    wrong = [c for c in verify(bundle, clips[:1]).comparisons if c.variant.file == "audio.fp32.onnx"]
    assert "action_scores" in wrong[0].problems[0]


def test_sound_helps_and_training_keeps_what_is_there(
    heard_run: Path, config: Config, data: TrainingData
) -> None:
    kept = load_sound(heard_run / SOUND_FILE)
    assert kept.metrics["map"] > kept.metrics["muted_map"] + 0.1
    before = (heard_run / SOUND_FILE).stat().st_mtime_ns
    train_run_sound(config, heard_run, data)
    assert (heard_run / SOUND_FILE).stat().st_mtime_ns == before


def test_a_temporal_head_hears(
    heard_run: Path, config: Config, data: TrainingData, heard_data: Path, drawn_data: Path, tmp_path: Path
) -> None:
    """The head takes what is heard behind the features of pictures, and zeros where there is no sound."""
    for name in ("best.safetensors", SOUND_FILE):
        shutil.copy(heard_run / name, tmp_path)
    few = {"passes": 1, "dropout": 0.0, "input_dropout": 0.0, "window_seconds": 6.0}
    head = HeadConfig(epochs=600, width=16, receptive_seconds=1.0, learning_rate=0.01, **few)
    metrics = train_run_head(msgspec.structs.replace(config, head=head), tmp_path, data)
    assert metrics["head_merge_map"] > load_sound(heard_run / SOUND_FILE).metrics["muted_map"] + 0.1
    exported = export_bundle(tmp_path / "best.safetensors", tmp_path / "bundle")
    assert exported.manifest.temporal_head is not None
    assert exported.manifest.temporal_head.with_sound
    member = open_member(load_bundle(tmp_path / "bundle"))
    video = sorted((heard_data / "videos").glob("training*.mp4"))[0]
    heard, mute = run(video, member), run(drawn_data / "videos" / video.name, member)
    alone = run(video, replace(member, sound=None))
    assert heard.frames is not None
    assert mute.frames is not None
    assert alone.frames is not None
    assert np.abs(heard.frames.action - mute.frames.action).max() > 0.05
    assert np.abs(alone.frames.action - mute.frames.action).max() < 1e-5
    assert mute.warnings == ("no audio track; scored by its pictures alone",)
    merging = open_member(load_bundle(tmp_path / "bundle"), None, Overrides(decoding="merge"))
    merged = [(s.label, s.start_seconds, s.end_seconds) for s in run(video, merging).segments]
    live = bounds_live(video, merging)
    assert [each[0] for each in live] == [each[0] for each in merged]
    np.testing.assert_allclose([each[1:] for each in live], [each[1:] for each in merged], atol=1e-4)
    report = verify(load_bundle(tmp_path / "bundle"), [noise_clips(member.spec, 3)])
    assert report.failures == {}
    sound = load_sound(tmp_path / SOUND_FILE)
    changed = {name: value + 1 for name, value in sound.weights.items() if value.dtype == torch.float32}
    save_sound(tmp_path / SOUND_FILE, replace(sound, weights={**sound.weights, **changed}))
    with pytest.raises(UsageError, match="temporal head was trained on features of another backbone"):
        export_bundle(tmp_path / "best.safetensors", tmp_path / "other")


def test_pretrained_convolutions(heard_run: Path, config: Config, data: TrainingData, tmp_path: Path) -> None:
    shutil.copy(heard_run / "best.safetensors", tmp_path)
    path = str(heard_run / SOUND_FILE)
    wrong = msgspec.structs.replace(AUDIO, width=4, pretrained=path, epochs=1)
    with pytest.raises(UsageError, match=r"audio.pretrained: \d+ of \d+ tensors are missing or of another"):
        train_run_sound(msgspec.structs.replace(config, audio=wrong), tmp_path, data)
    fitting = msgspec.structs.replace(AUDIO, pretrained=path, epochs=1)
    train_run_sound(msgspec.structs.replace(config, audio=fitting), tmp_path, data)
    assert load_sound(tmp_path / SOUND_FILE).config == fitting


def test_a_branch_of_another_backbone_is_refused(heard_run: Path, tmp_path: Path) -> None:
    for name in ("best.safetensors", SOUND_FILE):
        shutil.copy(heard_run / name, tmp_path)
    sound = load_sound(tmp_path / SOUND_FILE)
    save_sound(tmp_path / SOUND_FILE, replace(sound, backbone_sha256="0" * 64))
    with pytest.raises(UsageError, match="was trained on features or labels of another model"):
        export_bundle(tmp_path / "best.safetensors", tmp_path / "bundle")
