"""Models of sound alone, from recordings through training and the bundle to a result."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from entry import command
from media import counted, write_video
from sounds import RATE, write_sound

from tsm_export.export import export_bundle
from tsm_export.request import ExportRequest
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.captures.selection import plan_of_video
from tsm_runtime.commands.run import main
from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.evaluation.protocol import evaluate
from tsm_runtime.models.member import Overrides
from tsm_runtime.models.opening import open_member
from tsm_runtime.pipeline.isolation import Isolation
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.reading import Reading
from tsm_runtime.pipeline.run import run, run_captures
from tsm_runtime.results import Segment
from tsm_runtime.video.finding import VideoInput
from tsm_train.config import Config, HeadConfig, config_of, load_config
from tsm_train.head.run import train_run_head
from tsm_train.training.train import open_run_data, train

PITCHES = {"high": 3000.0, "low": 300.0}
SECONDS = 8.0
HEARD = {
    "ExoPlayer__sample.avi",
    "ExoPlayer__sample_fragmented.mp4",
    "ExoPlayer__sample_opus.mp4",
    "ExoPlayer__sample_with_htc_rotation_track_name.mkv",
    "ExoPlayer__sample_with_increasing_timestamps.mp4",
    "ExoPlayer__testvid_1022ms.mp4",
    "moviepy__no_duration.webm",
    "moviepy__video_with_failing_audio.mp4",
    "mp4parser__MOV00006.3gp",
    "tika__testWEBM.webm",
    "tika__testWMV.wmv",
    "torchcodec__nasa_13013.mp4",
}
"""Hard files with half a second of sound or more."""
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


def test_workers_and_ensembles_with_pictures(
    heard_bundle: Path, recordings: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    heard = replace(open_member(load_bundle(heard_bundle)), name="heard")
    video, wav = recordings / "videos" / "r4.mp4", recordings / "videos" / "r0.wav"
    alone = run(video, heard)
    plans = [plan_of_video(VideoInput(video, "r4"))]
    with Isolation() as workers:
        (apart,) = run_captures(plans, [heard], Options(), Reading(isolation=workers))
    assert apart.result is not None
    assert apart.result.segments == alone.segments
    seen = replace(open_member(load_bundle(tiny_bundle)), name="seen")
    seen_of_both, heard_of_both = run(video, [seen, heard]).members
    assert seen_of_both is not None
    assert heard_of_both is not None
    assert heard_of_both.segments == alone.segments
    assert seen_of_both.segments == run(video, seen).segments
    of_wav = run(wav, [seen, heard])
    seen_of_wav, heard_of_wav = of_wav.members
    assert seen_of_wav is None
    assert heard_of_wav is not None
    assert heard_of_wav.segments
    assert "sound without pictures" in " ".join(of_wav.warnings)
    with pytest.raises(VideoError, match="no audio track, and this model takes sound alone"):
        run(write_video(tmp_path / "mute.mp4", counted(25)), heard)


def test_what_sound_has_not_is_refused(heard_run: Path, heard_bundle: Path, config: Config) -> None:
    checkpoint = heard_run / "best.safetensors"
    with pytest.raises(UsageError, match="a network of sound alone has no INT8 form"):
        export_bundle(checkpoint, heard_run / "b", ExportRequest(precisions=("int8",)))
    with pytest.raises(UsageError, match="--flip: sound has no mirror image"):
        open_member(load_bundle(heard_bundle), None, Overrides(flip=True))
    raw = msgspec.to_builtins(config)
    with pytest.raises(UsageError, match=r"needs an \[audio\] section"):
        config_of({**raw, "audio": None}, "run.toml", heard_run)
    with pytest.raises(UsageError, match=r"takes sound alone: leave clip\.projection out"):
        config_of({**raw, "clip": {**raw["clip"], "projection": "equirectangular"}}, "run.toml", heard_run)


def test_the_command_takes_folders_of_recordings(
    heard_bundle: Path,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    tsm_run = command("tsm-run", main, monkeypatch, capfdbinary)
    out, page, scores = tmp_path / "out.json", tmp_path / "page.html", tmp_path / "scores.csv"
    arguments = ["--model", heard_bundle, recordings / "videos", "-o", out, "--report", page]
    done = tsm_run(*map(str, arguments), "--scores", str(scores), "-q")
    assert done.code == 0, done.err
    assert len(json.loads(out.read_text())["results"]) == 6
    assert '"waveforms":["' in page.read_text()


def test_hard_files_give_a_result_or_one_error(heard_bundle: Path, shared_data: Path) -> None:
    """All media of the hard set: those with sound are heard, the others are refused in words."""
    member = open_member(load_bundle(heard_bundle))
    heard, refused = set(), {}
    for file in sorted((shared_data / "hard").iterdir()):
        if not file.is_file() or file.suffix in (".md", ".json", ".txt", ".csv"):
            continue
        try:
            result = run(file, member)
        except VideoError as error:
            refused[file.name] = str(error)
            continue
        heard.add(file.name)
        assert result.num_intervals > 0
        assert all(np.isfinite(segment.score) for segment in result.segments)
    assert heard == HEARD
    assert all(why.count("\n") == 0 for why in refused.values())
    assert heard.isdisjoint(name for name, why in refused.items() if "no audio track" in why)


def test_a_temporal_head_hears_too(heard_run: Path, config: Config, recordings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(heard_run, folder)
    head = HeadConfig(epochs=20, passes=2, window_seconds=4.0, receptive_seconds=1.0, width=16)
    with_head = msgspec.structs.replace(config, head=head)
    metrics = train_run_head(with_head, folder, open_run_data(with_head))
    assert metrics["head_cv_map"] > 0.3
    exported = export_bundle(folder / "best.safetensors", tmp_path / "bundle")
    assert exported.manifest.temporal_head is not None
    assert not exported.manifest.temporal_head.with_sound
    member = open_member(load_bundle(tmp_path / "bundle"))
    assert member.decoding is not None
    file = recordings / "videos" / "r0.wav"
    result = run(file, member, Options(keep_features=True))
    assert result.features is not None
    assert result.features.values.shape == (32, 64)
    found = evaluate({"r": recording(0)[1]}, {"r": result.segments}, (0.5,))
    assert found.average_map > 0.4
