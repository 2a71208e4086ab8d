"""A model of overlapping actions by the three commands: trained, exported, run on a video it has not seen."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from entry import command
from media import Picture, plain, write_video

from tsm_export.commands import export as export_cli
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.commands import run as run_cli
from tsm_train.commands import train as train_cli
from tsm_train.training.checkpoint import load_checkpoint

RATE = 8
Truth = list[tuple[str, float, float]]
TRUTH: dict[str, Truth] = {
    "one": [("red", 1.0, 4.0), ("blue", 2.5, 6.0)],
    "two": [("blue", 0.0, 3.0), ("red", 4.0, 6.5), ("blue", 5.0, 8.0)],
    "three": [("red", 0.5, 7.0), ("blue", 2.0, 3.5)],
    "new": [("blue", 0.5, 4.5), ("red", 3.0, 6.0), ("blue", 6.5, 7.5)],
}
SECONDS = 8.0

CONFIG = """
name = "colours"
data.root = "."
data.cache = "cache"
model = {backbone = "mobilenet_v2", width_mult = 0.25, dropout = 0.0, head = "sigmoid"}
clip = {interval_seconds = 0.5, num_frames = 2, size = 32}
train = {epochs = 12, batch_size = 8, learning_rate = 0.02, validate_every = 12}
augment = {crop_scale = 1.0, color = 0.0, time_jitter = 0.0}
"""


def picture(truth: Truth, seconds: float) -> Picture:
    """Grey, with more red, more blue or more of both."""
    going = {label for label, start, end in truth if start <= seconds < end}
    return plain([180 if "red" in going else 60, 60, 180 if "blue" in going else 60])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("colours")
    (root / "videos").mkdir()
    database = {}
    for name, truth in TRUTH.items():
        moments = np.arange(0, SECONDS, 1 / RATE)
        write_video(root / "videos" / f"{name}.mp4", [picture(truth, s) for s in moments], rate=RATE)
        database[name] = {
            "subset": "validation" if name == "new" else "training",
            "annotations": [{"label": label, "segment": [start, end]} for label, start, end in truth],
        }
    (root / "ground_truth.json").write_text(json.dumps({"database": database}))
    (root / "colours.toml").write_text(CONFIG)
    return root


def test_overlapping_actions_by_the_commands(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def call(name: str, module: object, *words: object) -> str:
        done = command(name, module.main, monkeypatch, capfdbinary)(*words)  # type: ignore[attr-defined]
        assert done.code == 0, done.err
        return done.out

    call("tsm-train", train_cli, folder / "colours.toml", "-o", folder / "runs", "--device", "cpu")
    best = folder / "runs" / "colours" / "best.safetensors"
    checkpoint = load_checkpoint(best)
    assert checkpoint.labels.actions == ("blue", "red")
    assert checkpoint.metrics["map_0.95"] == 1.0

    call("tsm-export", export_cli, best, "-o", folder / "bundle")
    manifest = load_bundle(folder / "bundle").manifest
    assert (manifest.head, manifest.thresholds) == ("sigmoid", checkpoint.thresholds)

    out = call("tsm-run", run_cli, folder / "videos" / "new.mp4", "--model", folder / "bundle", "-o", "-")
    segments = json.loads(out)["results"]["new"]
    found = sorted((s["segment"][0], s["segment"][1], s["label"]) for s in segments)
    assert found == sorted((start, end, label) for label, start, end in TRUTH["new"])
    assert any(second[0] < first[1] for first, second in pairwise(found))
