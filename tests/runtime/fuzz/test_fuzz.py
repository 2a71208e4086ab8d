"""Mutated inputs with fixed seeds: each is read or refused by the package's own error."""

from __future__ import annotations

import importlib.util
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from media import plain, write_levels, write_video
from tiny_bundle import write_tiny_bundle

from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.errors import TsmError
from tsm_runtime.formats.annotations import read_annotations
from tsm_runtime.formats.read_write import encode_results, read_segments
from tsm_runtime.fusion.ensemble_file import read_ensemble
from tsm_runtime.results import Result, SceneScore, Segment

HERE = Path(__file__).parent
MEDIA = ("v.mp4", "v.mkv", "v.ts", "v.avi", "v.webm", "v.gif", "v.h264", "v.flv")
NUMBER_OF_MEDIA = 40
NUMBER_OF_TEXTS = 300


def mutations_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutations", HERE / "mutations.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_media(folder: Path, name: str) -> Path:
    if name == "v.webm":
        return write_video(folder / name, (plain(n * 8) for n in range(20)), codec="libvpx", options={})
    if name == "v.gif":
        pictures = (plain(n * 8) for n in range(20))
        return write_video(folder / name, pictures, codec="gif", pixel_format="rgb8", options={})
    return write_levels(folder / name, [(40, 0.6), (200, 0.4)])


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))


@pytest.mark.parametrize("name", MEDIA)
def test_mutated_media_are_read_or_refused(tmp_path: Path, name: str) -> None:
    path = write_media(tmp_path, name)
    done = subprocess.run(
        [
            sys.executable,
            str(HERE / "media_fuzz.py"),
            str(path),
            "--number",
            str(NUMBER_OF_MEDIA),
            "--seed",
            "7",
        ],
        capture_output=True,
        text=True,
        preexec_fn=limit_memory,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    counts = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
    assert sum(map(int, counts.values())) == NUMBER_OF_MEDIA


RESULT = Result(
    video_id="a/b",
    segments=(
        Segment(label="run", start_seconds=0.5, end_seconds=2.0, score=0.75),
        Segment(label="=jump, high", start_seconds=3.0, end_seconds=4.25, score=0.5),
    ),
    scenes=(SceneScore(label="lawn", score=0.75), SceneScore(label="street", score=0.25)),
    interval_seconds=0.5,
    num_intervals=10,
    duration_seconds=5.0,
    complete=True,
    gaps=((1.0, 2.0),),
    corrupt_frames=0,
    warnings=(),
)
GROUND_TRUTH = {
    "version": "made",
    "database": {
        "a": {
            "subset": "training",
            "duration": 10.0,
            "scene": "lawn",
            "annotations": [{"label": "run", "segment": [1.0, 2.5]}, {"label": "jump", "segment": [3, 4]}],
        }
    },
}
ENSEMBLE = """
method = "wbf"
iou = 0.4
[[member]]
bundle = "a"
weight = 2.0
[[member]]
bundle = "b"
"""


def check_texts(tmp_path: Path, name: str, text: bytes, read: Callable[[Path], object]) -> None:
    path = tmp_path / name
    messages = []
    for data in mutations_module().mutations(text, 11, NUMBER_OF_TEXTS):
        path.write_bytes(data)
        try:
            read(path)
        except TsmError as error:
            messages.append(str(error))
    assert messages


@pytest.mark.parametrize(
    "format_", ["json", "csv", "jsonl", "vtt", "srt", "eaf", "via", "audacity", "kaggle"]
)
def test_mutated_segments_are_read_or_refused(tmp_path: Path, format_: str) -> None:
    ids = {"run": 1, "=jump, high": 2}
    text = encode_results([RESULT], format_, media={"a/b": Path("a/b.mp4")}, label_ids=ids)  # type: ignore[arg-type]
    suffix = {"via": "json", "audacity": "txt", "kaggle": "csv"}.get(format_, format_)
    check_texts(tmp_path, f"s.{suffix}", text, lambda path: read_segments(path, label_ids=ids))


def test_mutated_annotations_are_read_or_refused(tmp_path: Path) -> None:
    text = json.dumps(GROUND_TRUTH).encode()
    check_texts(tmp_path, "truth.json", text, lambda path: read_annotations(path))


def test_mutated_ensembles_are_read_or_refused(tmp_path: Path) -> None:
    check_texts(tmp_path, "ensemble.toml", ENSEMBLE.encode(), read_ensemble)


def test_mutated_manifests_are_read_or_refused(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle")
    text = (folder / "manifest.json").read_bytes()
    check_texts(folder, "manifest.json", text, lambda path: load_bundle(path.parent))
