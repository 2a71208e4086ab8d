"""The sound branch from training through the bundle to a result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tsm_export.export import export_bundle
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.errors import UsageError
from tsm_runtime.models.opening import open_member
from tsm_runtime.pipeline.run import run
from tsm_train.audio.checkpoint import SOUND_FILE, load_sound
from tsm_train.audio.run import train_run_sound
from tsm_train.config import AudioConfig, Config
from tsm_train.data.dataset import open_data
from tsm_train.synthetic.sounds import _mux
from tsm_train.training.checkpoint import load_checkpoint

AUDIO = AudioConfig(epochs=30, batch_size=16, width=4)


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
def heard_run(learnt_run: Path, heard_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The learnt run with a sound branch."""
    folder = tmp_path_factory.mktemp("run")
    for name in ("best.safetensors", "last.safetensors"):
        shutil.copy(learnt_run / name, folder)
    config = config_of(learnt_run, heard_data)
    metrics = train_run_sound(config, folder, open_data(config.data, config.clip.interval_seconds))
    assert set(metrics) == {"audio_map", "audio_map_0.5", "audio_muted_map", "audio_muted_map_0.5"}
    return folder


def config_of(learnt_run: Path, heard_data: Path) -> Config:
    config = load_checkpoint(learnt_run / "best.safetensors").config
    data = msgspec.structs.replace(
        config.data,
        annotations=str(heard_data / "ground_truth.json"),
        videos=str(heard_data / "videos"),
        cache=str(heard_data / "cache"),
    )
    return msgspec.structs.replace(config, data=data, audio=AUDIO)


def test_a_bundle_with_sound_hears_and_does_without(
    learnt_run: Path, heard_run: Path, heard_data: Path, drawn_data: Path, tmp_path: Path
) -> None:
    exported = export_bundle(heard_run / "best.safetensors", tmp_path / "both")
    assert exported.manifest.sound is not None
    assert exported.manifest.files["audio.fp32.onnx"].kind == "audio"
    export_bundle(learnt_run / "best.safetensors", tmp_path / "seen")
    both, seen = (open_member(load_bundle(tmp_path / name)) for name in ("both", "seen"))
    video = sorted((heard_data / "videos").glob("training*.mp4"))[0]
    heard = run(video, both)
    pictures = run(video, seen)
    assert heard.warnings == ()
    assert heard.scores is not None
    assert pictures.scores is not None
    assert np.abs(heard.scores.action - pictures.scores.action).max() > 1e-3
    mute = run(drawn_data / "videos" / video.name, both)
    assert mute.warnings == ("no audio track; scored by its pictures alone",)
    assert mute.scores is not None
    assert np.abs(mute.scores.action - pictures.scores.action).max() < 1e-5
    assert [(s.label, s.start_seconds) for s in mute.segments] == [
        (s.label, s.start_seconds) for s in pictures.segments
    ]


def test_sound_helps_and_training_keeps_what_is_there(
    learnt_run: Path, heard_run: Path, heard_data: Path
) -> None:
    kept = load_sound(heard_run / SOUND_FILE)
    assert kept.metrics["map"] >= kept.metrics["muted_map"]
    before = (heard_run / SOUND_FILE).stat().st_mtime_ns
    config = config_of(learnt_run, heard_data)
    train_run_sound(config, heard_run, open_data(config.data, config.clip.interval_seconds))
    assert (heard_run / SOUND_FILE).stat().st_mtime_ns == before


def test_pretrained_convolutions(learnt_run: Path, heard_run: Path, heard_data: Path) -> None:
    config = config_of(learnt_run, heard_data)
    data = open_data(config.data, config.clip.interval_seconds)
    path = str(heard_run / SOUND_FILE)
    wrong = msgspec.structs.replace(AUDIO, width=8, pretrained=path, epochs=1)
    with pytest.raises(UsageError, match=r"audio.pretrained: \d+ of \d+ tensors are missing or of another"):
        train_run_sound(msgspec.structs.replace(config, audio=wrong), heard_run, data)
    fitting = msgspec.structs.replace(AUDIO, pretrained=path, epochs=1)
    train_run_sound(msgspec.structs.replace(config, audio=fitting), heard_run, data)


def test_a_branch_of_another_backbone_is_refused(heard_run: Path, tmp_path: Path) -> None:
    for name in ("best.safetensors", SOUND_FILE):
        shutil.copy(heard_run / name, tmp_path)
    sound = load_sound(tmp_path / SOUND_FILE)
    from dataclasses import replace

    from tsm_train.audio.checkpoint import save_sound

    save_sound(tmp_path / SOUND_FILE, replace(sound, backbone_sha256="0" * 64))
    with pytest.raises(UsageError, match="was trained on features or labels of another model"):
        export_bundle(tmp_path / "best.safetensors", tmp_path / "bundle")
