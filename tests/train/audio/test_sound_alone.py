"""Models of sound alone, from recordings through training and the bundle to a result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sounds import RATE, write_sound

from tsm_export.export import export_bundle
from tsm_export.request import ExportRequest
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.evaluation.protocol import evaluate
from tsm_runtime.models.opening import open_member
from tsm_runtime.pipeline.run import run
from tsm_runtime.results import Segment
from tsm_train.config import Config, load_config
from tsm_train.training.train import train

PITCHES = {"high": 3000.0, "low": 300.0}
SECONDS = 8.0
T = 0.5


def recording(seed: int) -> tuple[np.ndarray, list[Segment]]:
    """Noise with a high and a low tone, each at a time of its own."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(SECONDS * RATE)) / RATE
    samples = 0.01 * rng.normal(size=len(times))
    found = []
    for place, label in enumerate(rng.permutation(sorted(PITCHES))):
        begin = float(rng.integers(1, 4)) * T + place * 4.0
        end = begin + float(rng.integers(2, 4)) * T
        inside = (times >= begin) & (times < end)
        samples += 0.2 * inside * np.sin(2 * np.pi * PITCHES[str(label)] * times)
        found.append(Segment(label=str(label), start_seconds=begin, end_seconds=end, score=1.0))
    return samples.astype(np.float32), found


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings in several formats, and their annotations."""
    folder = tmp_path_factory.mktemp("recordings")
    (folder / "videos").mkdir()
    database = {}
    codecs = {
        "wav": "pcm_s16le",
        "flac": "flac",
        "mp3": "libmp3lame",
        "m4a": "aac",
        "mp4": "aac",
        "mkv": "aac",
    }
    for seed, (suffix, codec) in enumerate(codecs.items()):
        samples, segments = recording(seed)
        pictures = None if suffix in ("mp4", "mkv") else 0
        file = folder / "videos" / f"r{seed}.{suffix}"
        write_sound(file, samples, codec=codec, picture_seconds=pictures)
        annotations = [
            {"label": each.label, "segment": [each.start_seconds, each.end_seconds]} for each in segments
        ]
        database[file.stem] = {"subset": "training", "duration": SECONDS, "annotations": annotations}
    (folder / "ground_truth.json").write_text(json.dumps({"database": database}))
    return folder


@pytest.fixture(scope="module")
def config(recordings: Path) -> Config:
    """A small run."""
    path = recordings / "run.toml"
    path.write_text(
        """
        name = "heard"
        data.annotations = "ground_truth.json"
        data.videos = "videos"
        data.cache = "cache"
        data.validation_subset = "training"
        data.accept = ["capture-in-two-subsets"]
        model = {backbone = "audio", dropout = 0.0}
        clip = {interval_seconds = 0.5, num_frames = 2}
        audio = {width = 8, window_seconds = 0.3}
        train = {epochs = 15, batch_size = 8, learning_rate = 0.05, validate_every = 15}
        augment = {time_jitter = 0.1}
        """
    )
    return load_config(path)


@pytest.fixture(scope="module")
def heard_run(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder."""
    folder = tmp_path_factory.mktemp("run")
    metrics = train(config, folder, device="cpu", show_progress=False)

    assert metrics["map_0.5"] > 0.9
    return folder


@pytest.fixture(scope="module")
def heard_bundle(heard_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle."""
    folder = tmp_path_factory.mktemp("bundles") / "heard"
    export_bundle(heard_run / "best.safetensors", folder, ExportRequest())
    return folder


def test_the_bundle_holds_one_network_of_sound(heard_bundle: Path) -> None:
    manifest = load_bundle(heard_bundle).manifest
    assert sorted(manifest.files) == ["model.fp16.onnx", "model.fp32.onnx"]
    assert (manifest.backbone, manifest.size, manifest.format_version) == ("audio", 0, 7)
    assert manifest.sound_input is not None
    assert manifest.clip_spec.clip_shape == (2, 30, 64, 1)


@pytest.mark.parametrize("number", range(6))
def test_every_format_gives_what_was_played(heard_bundle: Path, recordings: Path, number: int) -> None:
    file = next((recordings / "videos").glob(f"r{number}.*"))
    with_member = open_member(load_bundle(heard_bundle))
    result = run(file, with_member)
    assert (result.num_intervals, result.interval_seconds, result.complete) == (16, 0.5, True)
    _, truth = recording(number)
    found = evaluate({"r": truth}, {"r": result.segments}, (0.5,))
    assert found.average_map > 0.7
