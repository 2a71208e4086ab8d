"""`tsm-run --scores` and `--decoding`, with the embedded model, which has scores of frames and a head."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from entry import Command, command

pytest.importorskip("onnxruntime")

from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.commands.run import main
from tsm_runtime.errors import UsageError
from tsm_runtime.formats.read_write import read_segments
from tsm_runtime.models.member import Overrides
from tsm_runtime.models.opening import decoding_of
from tsm_runtime.results import FrameScores
from tsm_runtime.segments.decoding.decode import decode_frames

VIDEO = demo_folder() / "video.mp4"
MODEL = ("--model", demo_folder() / "bundle")


@pytest.fixture
def tsm_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Command:
    monkeypatch.chdir(tmp_path)
    return command("tsm-run", main, monkeypatch, capfdbinary)


def test_scores_of_frames_decode_to_the_segments(tsm_run: Command) -> None:
    """The file holds what the segments were made from."""
    assert tsm_run(VIDEO, *MODEL, "-o", "v.json", "--scores", "s.npz", "-q").code == 0
    held = np.load("s.npz")
    bounds, action = held["video/frame_seconds"], held["video/frame_scores"]
    bundle = load_bundle(demo_folder() / "bundle")
    assert tuple(held["action_labels"].tolist()) == bundle.manifest.action_labels
    assert held["video/interval_scores"].shape == (len(held["video/interval_seconds"]), action.shape[1])
    step = float(bounds[0, 1] - bounds[0, 0])
    frames = FrameScores(
        indices=np.round(bounds[:, 0] / step).astype(np.int64),
        step_seconds=step,
        action=action,
        actionness=held["video/actionness"],
        distances=held["video/distances"],
    )
    assert bundle.manifest.decoding is not None
    found = decode_frames(frames, bundle.manifest.action_labels, bundle.manifest.decoding)
    expected = read_segments(Path("v.json"))["video"]
    assert [(s.label, round(s.start_seconds, 6)) for s in found] == [
        (s.label, round(s.start_seconds, 6)) for s in expected
    ]


def test_a_table_of_scores(tsm_run: Command) -> None:
    assert tsm_run(VIDEO, *MODEL, "--decoding", "clips", "-o", "v.json", "--scores", "s.csv", "-q").code == 0
    rows = list(csv.DictReader(Path("s.csv").read_text().splitlines()))
    assert {row["kind"] for row in rows} == {"interval"}
    labels = [name for name in rows[0] if name not in ("video", "kind", "start", "end")]
    assert all(sum(float(row[label]) for label in labels) == pytest.approx(1, abs=1e-3) for row in rows)
    starts = [s.start_seconds for s in read_segments(Path("v.json"))["video"]]
    assert set(starts) <= {float(row["start"]) for row in rows}


def test_each_method_gives_segments(tsm_run: Command) -> None:
    found = {}
    for method in ("clips", "merge", "viterbi", "proposals"):
        code, out, _ = tsm_run(VIDEO, *MODEL, "--decoding", method, "-o", "-", "-q")
        assert code == 0
        found[method] = [tuple(s["segment"]) for s in json.loads(out)["results"]["video"]]
    assert all(found.values())
    assert found["merge"] != found["clips"]
    assert len(found["viterbi"]) <= len(found["merge"])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--decoding", "durations"), "--decoding durations: the model has no lengths of actions"),
        (("--scores", "s.txt"), "--scores s.txt: expected a name that ends with .npz or .csv"),
        (("--scores", "v.csv", "-o", "v.csv"), "that is the output of segments too"),
    ],
)
def test_what_is_refused(tsm_run: Command, arguments: tuple[object, ...], why: str) -> None:
    code, out, err = tsm_run(VIDEO, *MODEL, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert why in err


def test_a_model_without_scores_of_frames(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    assert decoding_of(bundle) is decoding_of(bundle, Overrides(decoding="clips")) is None
    with pytest.raises(UsageError, match="--decoding viterbi: the model has no scores of frames; export it"):
        decoding_of(bundle, Overrides(decoding="viterbi"))
