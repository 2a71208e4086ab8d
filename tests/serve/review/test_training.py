"""Training from the page, with stand-ins for the two commands that it starts."""

from __future__ import annotations

import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tsm_runtime.errors import UsageError
from tsm_serve.review.entries import AnnotationEdit, EntryEdit
from tsm_serve.review.journal import Journal
from tsm_serve.review.training import Training, TrainingState
from tsm_serve.review.training_config import TrainingConfig
from tsm_serve.review.truth import TruthFile
from tsm_train.config import load_config

TRAIN = """
import pathlib, sys, time, tomllib
config = tomllib.loads(pathlib.Path(sys.argv[1]).read_text())
run = pathlib.Path(sys.argv[3]) / config["name"]
run.mkdir(parents=True)
(run / "metrics.csv").write_text("epoch,loss,map,map@0.50,seconds\\n1,2.0,,,1\\n2,1.0,0.5,0.75,2\\n")
print("epoch 2/4", flush=True)
print("more:", sys.argv[4:], flush=True)
if (run.parent.parent / "hang").exists():
    time.sleep(600)
if (run.parent.parent / "fail").exists():
    sys.exit("tsm-train: no memory")
(run / "best.safetensors").write_bytes(b"weights")
"""
EXPORT = """
import pathlib, sys
pathlib.Path(sys.argv[3]).mkdir(parents=True)
print("exported", sys.argv[1], flush=True)
"""


class Trainings:
    def __init__(self, folder: Path, **more: Any) -> None:
        self.truth = TruthFile(folder / "truth.json", Journal(folder / "journal.jsonl"))
        self.folder = folder / "train"
        self.folder.mkdir()
        self.bundles: list[Path] = []
        (folder / "videos").mkdir()
        commands = ([sys.executable, "-c", TRAIN], [sys.executable, "-c", EXPORT])
        self.training = Training(
            self.truth, folder / "videos", self.folder, lambda _: None, self.bundles.append,
            commands=commands, **more,
        )  # fmt: skip

    def finish_video(self, video_id: str, subset: str) -> None:
        edit = EntryEdit(annotations=[AnnotationEdit("run", (1, 2))], state="done", subset=subset)
        self.truth.save(video_id, edit, base="", who="anna")

    def until(self, *stages: str) -> TrainingState:
        for _ in range(600):
            state = self.training.state()
            if state.stage in stages:
                return state
            time.sleep(0.05)
        raise AssertionError(state)


@pytest.fixture
def trainings(tmp_path: Path) -> Trainings:
    return Trainings(tmp_path)


def test_a_training_becomes_a_bundle(trainings: Trainings) -> None:
    trainings.finish_video("a", "training")
    trainings.finish_video("b", "validation")
    trainings.training.start("full")
    state = trainings.until("done", "failed")
    assert state.error == ""
    assert (state.epoch, state.epochs, state.metrics) == (2, 20, {"map": 0.5, "map@0.50": 0.75})
    assert state.log[0] == "epoch 2/4"
    assert state.log[-1].startswith("exported")
    assert len(trainings.bundles) == 1
    assert state.note == ""


def test_a_quick_training_is_of_the_head_alone(trainings: Trainings) -> None:
    trainings.finish_video("a", "training")
    trainings.training.start("quick")
    state = trainings.until("done", "failed")
    assert (state.error, state.epochs) == ("", 0)
    assert "more: ['--head-only']" in state.log
    (path,) = (trainings.folder / "configs").iterdir()
    assert load_config(path).model.scene_head is False


def test_a_quick_training_keeps_scenes_that_were_learnt(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    about = {
        "name": "x",
        "kind": "quick",
        "annotations": Path("t.json"),
        "videos": Path("v"),
        "num_training": 3,
        "num_validation": 1,
    }
    config = TrainingConfig(**about, previous=run / "best.safetensors")
    assert tomllib.loads(config.text)["model"]["scene_head"] is False
    (run / "labels.json").write_text('{"actions": ["run", "background"], "scenes": ["room", "park"]}')
    config = TrainingConfig(**about, previous=run / "best.safetensors")
    assert tomllib.loads(config.text)["model"]["scene_head"] is True


@pytest.mark.parametrize(
    ("num_training", "num_validation", "folds"), [(1, 0, 0), (2, 0, 2), (3, 1, 3), (9, 3, 4), (12, 4, 0)]
)
def test_few_validation_videos_do_not_choose_the_decoding(
    num_training: int, num_validation: int, folds: int
) -> None:
    config = TrainingConfig(
        name="x",
        kind="quick",
        annotations=Path("t.json"),
        videos=Path("v"),
        num_training=num_training,
        num_validation=num_validation,
    )
    assert tomllib.loads(config.text)["head"]["folds"] == folds


def test_a_quick_training_keeps_the_shift_of_the_network(tmp_path: Path) -> None:
    about = {"name": "x", "kind": "quick", "annotations": Path("t.json"), "videos": Path("v")}
    config = TrainingConfig(**about, num_training=1, num_validation=0)
    assert tomllib.loads(config.text)["model"]["shift"] is False
    previous = tmp_path / "best.safetensors"
    config = TrainingConfig(**about, num_training=5, num_validation=0, previous=previous)
    (tmp_path / "config.json").write_text('{"model": {"shift": true}}')
    assert tomllib.loads(config.text)["model"]["shift"] is True
    assert tomllib.loads(config.text)["head"]["folds"] == 0  # it was trained on these videos


def test_the_next_training_starts_from_the_last(trainings: Trainings) -> None:
    trainings.finish_video("a", "training")
    trainings.training.start("quick")
    assert "those of the training videos" in trainings.until("done").note
    trainings.training.start("full")
    trainings.until("done")
    first, *_, last = (tomllib.loads(p.read_text()) for p in sorted((trainings.folder / "configs").iterdir()))
    assert first["model"]["pretrained"] == "imagenet"
    if last is not first:
        assert last["model"]["pretrained"].endswith("best.safetensors")


def test_tsm_train_takes_the_configuration(trainings: Trainings) -> None:
    trainings.finish_video("a", "training")
    trainings.training.start("full")
    trainings.until("done")
    (path,) = (trainings.folder / "configs").iterdir()
    config = load_config(path)
    assert config.data.validation_subset == "training"
    assert config.head is not None


def test_a_config_of_the_user_s_keeps_its_sections(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('name = "x"\n[data]\nroot = "elsewhere"\n[clip]\nsize = 64\n[train]\nepochs = 3\n')
    trainings = Trainings(tmp_path, config=mine)
    trainings.finish_video("a", "training")
    trainings.training.start("quick")
    trainings.until("done")
    (path,) = (trainings.folder / "configs").iterdir()
    config = load_config(path)
    assert (config.clip.size, config.train.epochs, config.data.root) == (64, 3, "")


def test_a_training_is_stopped(trainings: Trainings) -> None:
    (trainings.folder / "hang").touch()
    trainings.finish_video("a", "training")
    trainings.training.start("quick")
    for _ in range(600):
        if trainings.training.state().log:
            break
        time.sleep(0.05)
    with pytest.raises(UsageError, match="runs already"):
        trainings.training.start("quick")
    trainings.training.stop()
    assert trainings.until("stopped").metrics == {"map": 0.5, "map@0.50": 0.75}
    assert trainings.bundles == []


def test_a_failure_is_the_last_line(trainings: Trainings) -> None:
    (trainings.folder / "fail").touch()
    trainings.finish_video("a", "training")
    trainings.training.start("quick")
    assert trainings.until("failed").error == "tsm-train: no memory"


def test_nothing_is_done_yet(trainings: Trainings) -> None:
    with pytest.raises(UsageError, match="finish one first"):
        trainings.training.start("quick")


def test_the_real_commands_are_started(tmp_path: Path) -> None:
    for command in _real_commands(tmp_path):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True)
        assert done.stdout.startswith("tsm-tal "), done.stderr


def _real_commands(folder: Path) -> tuple[list[str], list[str]]:
    truth = TruthFile(folder / "truth.json", Journal(folder / "journal.jsonl"))
    made = Training(truth, folder, folder, lambda _: None, lambda _: None)
    return made.commands
