"""`tsm-run --scores` and `--decoding`, with the embedded model, which has scores of frames and a head."""

from __future__ import annotations

import csv
import json
import shutil
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
from tsm_runtime.models.temporal_head import TemporalHead
from tsm_runtime.outputs.array_content import ScoreContent
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


def test_scores_as_parquet_are_those_of_the_arrays(tsm_run: Command) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    assert tsm_run(VIDEO, *MODEL, "-o", "v.json", "--scores", "s.npz", "-q").code == 0
    assert tsm_run(VIDEO, *MODEL, "-o", "v.json", "--scores", "s.parquet", "-q").code == 0
    held, rows = np.load("s.npz"), pq.read_table("s.parquet").to_pylist()
    labels = held["action_labels"].tolist()
    for kind in ("interval", "frame"):
        own = [row for row in rows if row["kind"] == kind]
        assert [[row["start"], row["end"]] for row in own] == held[f"video/{kind}_seconds"].tolist()
        assert [[row[label] for label in labels] for row in own] == held[f"video/{kind}_scores"].tolist()
    frames = [row for row in rows if row["kind"] == "frame"]
    distances = [[row["to_start"], row["to_end"]] for row in frames]
    assert [row["actionness"] for row in frames] == held["video/actionness"].tolist()
    assert distances == held["video/distances"].tolist()
    assert rows[0]["kind"] == "interval"
    assert rows[0]["actionness"] is rows[0]["to_end"] is None


def test_features_of_frames(tsm_run: Command) -> None:
    """The temporal head of the bundle scores the features of the file as the run does."""
    arguments = (VIDEO, *MODEL, "-o", "v.json", "-q", "--features")
    assert tsm_run(*arguments, "f.npz", "--scores", "s.npz").code == 0
    held, scores = np.load("f.npz"), np.load("s.npz")
    bundle = load_bundle(demo_folder() / "bundle")
    features = held["video/features"]
    assert features.shape[1] == bundle.manifest.feature_dim
    np.testing.assert_array_equal(held["video/frame_seconds"], scores["video/frame_seconds"])
    action, actionness, _ = TemporalHead(bundle).infer(features)
    np.testing.assert_allclose(action, scores["video/frame_scores"], atol=1e-5)
    np.testing.assert_allclose(actionness, scores["video/actionness"], atol=1e-5)
    assert tsm_run(*arguments, "f.csv").code == 0
    table = list(csv.reader(Path("f.csv").read_text().splitlines()))
    assert table[0][:4] == ["video", "start", "end", "feature_0"]
    rounded = np.array([row[3:] for row in table[1:]], np.float32)
    np.testing.assert_allclose(rounded, features, atol=1e-5)


def test_features_of_several_videos_as_parquet(tsm_run: Command, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    shutil.copy(VIDEO, tmp_path / "again.mp4")
    again = tmp_path / "again.mp4"
    assert tsm_run(VIDEO, again, *MODEL, "-o", "v.json", "--features", "f.parquet", "-q").code == 0
    table = pq.read_table("f.parquet")
    assert table.column_names == ["video", "start", "end", "features"]
    first, second = (table.filter(table["video"].to_numpy() == name) for name in ("video", "again"))
    assert first.num_rows == second.num_rows > 0
    assert first["features"].equals(second["features"])


def test_mirror_images_count_too(tsm_run: Command) -> None:
    arguments = (VIDEO, *MODEL, "--decoding", "clips", "-q", "-o", "v.json", "--scores")
    assert tsm_run(*arguments, "plain.npz").code == 0
    assert tsm_run(*arguments, "flipped.npz", "--flip").code == 0
    described = json.loads(Path("v.json").read_text())["external_data"]["model"]["backend"]
    assert described.endswith(", with mirror images")
    flipped, plain = (np.load(name)["video/interval_scores"] for name in ("flipped.npz", "plain.npz"))
    assert flipped.shape == plain.shape
    assert 0 < np.abs(flipped - plain).max() < 1
    assert (flipped.argmax(1) == plain.argmax(1)).mean() > 0.8


def test_an_action_with_the_name_of_a_column() -> None:
    with pytest.raises(UsageError, match="the action 'start' has the name of a column"):
        ScoreContent(("jump", "start")).check_columns()


def test_a_model_without_features(tsm_run: Command, tiny_bundle: Path) -> None:
    code, out, err = tsm_run(VIDEO, "--model", tiny_bundle, "--features", "f.npz")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--features: the model gives no features of frames" in err
    assert not Path("f.npz").exists()


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
        (("--scores", "s.txt"), "--scores s.txt: expected a name that ends with .npz, .csv, .parquet"),
        (("--features", "f.json"), "--features f.json: expected a name that ends with .npz, .csv, .parquet"),
        (("--features", "no/f.npz"), "--features no/f.npz: there is no folder no"),
        (("--scores", "v.csv", "-o", "v.csv"), "that is another output too"),
        (("--features", "v.csv", "--scores", "v.csv"), "that is another output too"),
        (("--features", "f.npz", "-o", "x/", "--resume"), "would hold the videos of this run alone"),
        (
            ("--features", "f.npz", "--decoding", "clips", "--stride", "0.25"),
            "leave out --window, --stride",
        ),
        (("--flip", "--hwdec", "cuda"), "--flip mirrors frames in main memory: leave out --hwdec cuda"),
        (("-o", "v.npz"), "no format has the suffix .npz"),
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
