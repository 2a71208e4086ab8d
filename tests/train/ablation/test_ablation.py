"""`tsm-ablation`: members, resuming, ensembles and the files of the table."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from entry import Command, command

from tsm_runtime.commands import evaluate as eval_cli
from tsm_train.commands import ablation as ablation_cli
from tsm_train.synthetic.dataset import draw_dataset

CONFIG = """
name = "tiny"
[data]
root = "{folder}"
cache = "{folder}/cache"
accept = ["only-in-validation"]
[model]
backbone = "mobilenet_v2"
width_mult = 0.25
dropout = 0.0
[clip]
size = 48
num_frames = 2
[train]
epochs = 2
batch_size = 8
learning_rate = 0.02
[[member]]
name = "multi"
[[member]]
name = "single"
model.scene_head = false
clip.interval_seconds = 1.0
[ensemble]
[post_processing]
smoothing_seconds = [1.0]
min_duration_seconds = [1.0]
strides = [2]
windows = []
"""

KILLED = """
import os, signal, sys
from tsm_train.ablation import run
from tsm_train.commands.ablation import main

train_member = run.train_member
def die_before_the_second(member, **options):
    if member.name == "single":
        os.kill(os.getpid(), signal.SIGKILL)
    train_member(member, **options)
run.train_member = die_before_the_second
main()
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ablation") / "data"
    folder.mkdir()
    draw_dataset(folder, seed=2, training=3, validation=3, seconds=6.0, width=96, height=72, processes=1)
    return folder


@pytest.fixture(scope="module")
def config(data: Path) -> Path:
    path = data.parent / "tiny.toml"
    path.write_text(CONFIG.format(folder=data))
    return path


@pytest.fixture
def tsm_ablation(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    return command("tsm-ablation", ablation_cli.main, monkeypatch, capfdbinary)


@pytest.fixture
def tsm_eval(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    return command("tsm-eval", eval_cli.main, monkeypatch, capfdbinary)


@pytest.fixture(scope="module")
def killed_runs(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is there after the process was killed between its two members."""
    runs = tmp_path_factory.mktemp("killed")
    words = [str(config), "-o", str(runs), "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name for path in (runs / "tiny").rglob("*") if path.is_dir()][:2] == ["members", "multi"]
    assert trained_at(runs).keys() == {"multi"}
    assert not (runs / "tiny" / "table.md").exists()
    return runs


@pytest.fixture(scope="module")
def runs(killed_runs: Path, config: Path) -> Path:
    """The whole table, from what the killed process left."""
    before = trained_at(killed_runs)
    words = ["tsm-ablation", str(config), "-o", str(killed_runs), "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as left:
            ablation_cli.main()
    assert not left.value.code
    after = trained_at(killed_runs)
    assert after.keys() == {"multi", "single"}
    assert after["multi"] == before["multi"]
    return killed_runs


def trained_at(runs: Path) -> dict[str, int]:
    """When each member's last checkpoint was written."""
    found = (runs / "tiny" / "members").glob("*/last.safetensors")
    return {path.parent.name: path.stat().st_mtime_ns for path in found}


def table_of(runs: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((runs / "tiny" / "table.json").read_text())
    return table


def test_numbers_are_those_of_tsm_eval(runs: Path, data: Path, tsm_eval: Command) -> None:
    rows = table_of(runs)["rows"]
    assert [row["name"] for row in rows[:5]] == [
        *("multi", "single", "ensemble-validation", "ensemble-equal", "ensemble-fitted")
    ]
    for row in rows:
        for truth in (data / "ground_truth.json", runs / "tiny/segments/validation/ground_truth.json"):
            done = tsm_eval(truth, runs / "tiny" / row["segments"], "--subset", "validation", "--json")
            assert done.code == 0, done.err
            found = json.loads(done.out)
            assert row["map"] == pytest.approx(found["average"], abs=1e-6)
            assert row["tiou"] == pytest.approx(found["tiou"], abs=1e-6)
            assert row["scene_top1"] == (found["scene"] and pytest.approx(found["scene"]["top1"], abs=1e-6))
            assert (found["videos"], found["instances"]) == (3, 5)


def test_rows_describe_what_was_trained(runs: Path) -> None:
    table = table_of(runs)
    multi, single = table["rows"][:2]
    assert (multi["task"], multi["interval_seconds"], multi["shift"]) == ("multi", 0.5, True)
    assert (single["task"], single["interval_seconds"], single["scene_top1"]) == ("single", 1.0, None)
    # 3 videos of 6 s: 36 intervals of 0.5 s and 18 of 1 s, in whole batches of 8.
    assert (multi["clips_per_epoch"], single["clips_per_epoch"]) == (32, 16)
    for row, clips in ((multi, 32), (single, 16)):
        assert row["epochs"] == 2
        assert row["clips_per_second"] == pytest.approx(2 * clips / (60 * row["minutes"]), rel=1e-2)
        assert row["run_clips_per_second"] > 0
    assert (table["videos"], table["instances"], table["subset"]) == (3, 5, "validation")
    assert (multi["difference"], multi["difference_interval"]) == (None, None)
    for row in table["rows"][1:]:
        assert row["difference"] == pytest.approx(row["map"] - multi["map"], abs=2e-6)
        low, high = row["difference_interval"]["low"], row["difference_interval"]["high"]
        assert -1 <= low <= high <= 1


def test_weights_are_the_validation_scores(runs: Path) -> None:
    rows = {row["name"]: row for row in table_of(runs)["rows"]}
    scores = [rows[name]["map"] for name in ("multi", "single")]
    given = list(rows["ensemble-validation"]["detail"]["weights"].values())
    assert given == ([max(score, 1e-6) for score in scores] if any(scores) else [1, 1])
    assert list(rows["ensemble-equal"]["detail"]["weights"].values()) == [1, 1]
    assert [rows[f"ensemble-{name}"]["in_sample"] for name in ("validation", "fitted")] == [False, True]


def test_settings_after_the_scores_are_rows(runs: Path) -> None:
    rows = [row for row in table_of(runs)["rows"] if row["kind"] == "post-processing"]
    member = max(table_of(runs)["rows"][:2], key=lambda row: row["map"])["name"]
    names = ("smoothing", "shortest duration", "stride", "all of these")
    assert [row["name"] for row in rows] == [f"{member} + {name}" for name in names]
    t = {"multi": 0.5, "single": 1.0}[member]
    for row, allowed in zip(rows, ({0.0, 1.0}, {0.0}, {0.0}, {0.0, 1.0}), strict=True):
        assert set(row["detail"]["smoothing_seconds"]) <= allowed
        assert row["detail"]["window_seconds"] == [t]
        assert row["detail"]["by"] == "all other videos, for each video"


def test_the_files_are_whole(runs: Path) -> None:
    text = (runs / "tiny" / "table.md").read_text()
    table = table_of(runs)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    for row in table["rows"]:
        line = next(line for line in lines if line.startswith(f"| {row['name']}"))
        assert f"| {100 * row['map']:.1f} |" in line
        assert line.count("|") == lines[0].count("|")
    assert "| Multi; 64x4d; t=0.5 | 57.5 | 51.8 | 18.3 | 19.4 |" in lines
    assert "are also what is reported: all scores are somewhat too high" in text
    assert "does not state the members of its ensemble" in text
    assert (runs / "tiny" / "table.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_run_trains_nothing_and_finds_the_same(
    runs: Path, config: Path, tsm_ablation: Command
) -> None:
    before, table = trained_at(runs), table_of(runs)
    segments = (runs / "tiny/segments/validation/multi.json").stat().st_mtime_ns
    done = tsm_ablation(config, "-o", runs, "--device", "cpu")
    assert done.code == 0, done.err
    assert "multi: trained already (2 epochs)\nsingle: trained already (2 epochs)\n" in done.err
    assert trained_at(runs) == before
    assert (runs / "tiny/segments/validation/multi.json").stat().st_mtime_ns == segments
    assert table_of(runs) == table
    assert done.out.startswith("tiny: 3 videos of 'validation', ")
    assert "mAP %, its mean and at tIoU" in done.out
    assert "The paper" not in done.out


def test_another_configuration_is_refused_before_training(
    runs: Path, config: Path, tmp_path: Path, tsm_ablation: Command
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(config.read_text().replace("clip.interval_seconds = 1.0", "clip.interval_seconds = 2.0"))
    before = trained_at(runs)
    for words in ([], ["--dry-run"], ["--score-only"]):
        done = tsm_ablation(other, "-o", runs, "--device", "cpu", *words)
        assert (done.code, done.out) == (2, "")
        assert "members/single: was begun with another configuration (clip.interval_seconds)" in done.err
        assert done.err.count("\n") == 1
    assert trained_at(runs) == before


def test_dry_run_lists_what_is_left(runs: Path, config: Path, tmp_path: Path, tsm_ablation: Command) -> None:
    done = tsm_ablation(config, "-o", tmp_path, "--dry-run")
    assert (done.code, done.err) == (0, "")
    assert "multi   multi   mobilenet_v2  0.5  yes    0 of 2           32          64        ?" in done.out
    assert "single  single  mobilenet_v2  1    yes    0 of 2           16          32        ?" in done.out
    assert done.out.endswith("would train: time unknown\n")
    assert list(tmp_path.iterdir()) == []
    done = tsm_ablation(config, "-o", runs, "--dry-run")
    assert done.out.count("2, done") == 2
    assert done.out.endswith("would train: 0 minutes of training\n")
    fast = tmp_path / "fast.toml"
    fast.write_text("clips_per_second = {mobilenet_v2 = 0.1}\n" + config.read_text())
    done = tsm_ablation(fast, "-o", tmp_path, "--dry-run", "--only", "multi")
    assert done.out.endswith("would train: 11 minutes of training\n")  # 64 clips / 0.1 per s / 60


def test_a_part_is_scored_and_the_rest_is_named(
    runs: Path, config: Path, tmp_path: Path, tsm_ablation: Command
) -> None:
    shutil.copytree(runs / "tiny" / "members" / "single", tmp_path / "tiny" / "members" / "single")
    done = tsm_ablation(config, "-o", tmp_path, "--device", "cpu", "--score-only")
    assert done.code == 0, done.err
    table = table_of(tmp_path)
    assert [row["name"] for row in table["rows"] if row["kind"] != "post-processing"] == ["single"]
    assert table["not_trained"] == ["multi"]
    assert "- Not trained yet: multi." in done.out
    assert "- There is no ensemble until all" in done.out
    old = next(row for row in table_of(runs)["rows"] if row["name"] == "single")
    assert (table["rows"][0]["map"], table["rows"][0]["tiou"]) == (old["map"], old["tiou"])


def test_videos_kept_apart_are_what_is_reported(
    runs: Path, data: Path, config: Path, tmp_path: Path, tsm_ablation: Command
) -> None:
    truth = json.loads((data / "ground_truth.json").read_text())
    videos = [v for v in truth["database"] if truth["database"][v]["subset"] == "validation"]
    with_actions = [v for v in videos if truth["database"][v]["annotations"]]
    truth["database"][with_actions[0]]["subset"] = "test"
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    held_out = tmp_path / "held_out.toml"
    places = f'annotations = "{tmp_path}/truth.json"\nvideos = "{data}/videos"'
    held_out.write_text(config.read_text().replace(f'root = "{data}"', places))
    shutil.copytree(runs / "tiny" / "members", tmp_path / "tiny" / "members")
    done = tsm_ablation(held_out, "-o", tmp_path, "--device", "cpu", "--score-only")
    assert done.code == 0, done.err
    table = table_of(tmp_path)
    assert (table["subset"], table["validation_subset"], table["videos"]) == ("test", "validation", 1)
    assert table["instances"] == len(truth["database"][with_actions[0]]["annotations"])
    assert {row["segments"].split("/")[1] for row in table["rows"]} == {"test"}
    assert not any(row["in_sample"] for row in table["rows"])
    by = {row["detail"]["by"] for row in table["rows"] if row["kind"] == "post-processing"}
    assert by == {"the videos of 'validation'"}
    assert "Videos of 'test' are reported; those of 'validation' chose" in done.out
