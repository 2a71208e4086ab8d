"""Runs that are killed, shared among processes, or lose a disk or a worker."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tsm_runtime.errors import RunError, UsageError
from tsm_train.config import Config, load_config
from tsm_train.samples import clips as clip_data
from tsm_train.training import train as training
from tsm_train.training.checkpoint import load_checkpoint
from tsm_train.training.module import TrainingRun

KILLED = """
import os, signal, sys
from pathlib import Path
from tsm_train.training import train as training
from tsm_train.config import load_config
from tsm_train.training.module import TrainingRun

step = TrainingRun.training_step
def die_in_the_middle_of_an_epoch(run, batch, index):
    if (run.current_epoch, index) == (2, 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(run, batch, index)
TrainingRun.training_step = die_in_the_middle_of_an_epoch
training.train(load_config(Path(sys.argv[1]), sys.argv[3:]), Path(sys.argv[2]), device="cpu")
"""

SHARED = """
import os, sys
from pathlib import Path
import torch
from tsm_train.training import train as training
from tsm_train.config import load_config
from tsm_train.training.module import TrainingRun

def keep(run, optimizer):
    if run.global_step == 0:
        found = {name: p.grad.clone() for name, p in run.model.named_parameters() if p.grad is not None}
        torch.save(found, f"{sys.argv[2]}.gradients.{run.global_rank}")
TrainingRun.on_before_optimizer_step = keep
# The environment of processes that torchrun starts; forked here, so that PyTorch is imported once.
rank = 0 if (other := os.fork()) else 1
os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "TORCHELASTIC_RUN_ID": "none"}
training.train(load_config(Path(sys.argv[1]), sys.argv[3:]), Path(sys.argv[2]), device="cpu")
if other:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
"""

SAME_FOR_ANY_NUMBER = ["model.dropout=0", "train.freeze_bn=all", "train.epochs=1", "train.clip_gradient=0"]


@pytest.fixture(scope="module")
def config_file(drawn_data: Path, tmp_path_factory: pytest.TempPathFactory, write_run: Any) -> Path:
    folder = tmp_path_factory.mktemp("robust")
    file: Path = write_run(folder / "small.toml", drawn_data, epochs=3)
    return file


def fit(config: Config, folder: Path, **options: Any) -> dict[str, float]:
    return training.train(config, folder, device="cpu", show_progress=False, **options)


@pytest.fixture(scope="module")
def whole_run(config_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs that nothing interrupted, with two loading processes and an average."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    fit(load_config(config_file, ["train.ema=0.8", "train.num_workers=2"]), folder)
    return folder


def numbers(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as stream:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


def assert_same_run(first: Path, second: Path) -> None:
    assert numbers(first) == numbers(second)
    for name in ("best", "last"):
        one, other = (load_checkpoint(folder / f"{name}.safetensors") for folder in (first, second))
        assert (one.epoch, one.metrics, one.thresholds) == (other.epoch, other.metrics, other.thresholds)
        assert one.weights.keys() == other.weights.keys()
        assert all(torch.equal(value, other.weights[key]) for key, value in one.weights.items())


def test_a_killed_run_goes_on_as_if_nothing_had_been(
    config_file: Path, tmp_path: Path, whole_run: Path
) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(config_file), str(folder), "train.ema=0.8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (folder / "resume.ckpt").exists()
    assert len(numbers(folder)) == 2
    # Loading processes may be others than before: chance does not depend on them.
    metrics = fit(load_config(config_file, ["train.ema=0.8"]), folder, resume=True)
    assert_same_run(folder, whole_run)
    assert metrics == load_checkpoint(whole_run / "best.safetensors").metrics
    assert not (folder / "resume.ckpt").exists()
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    # What is complete is left as it is.
    before = (folder / "last.safetensors").stat().st_mtime_ns
    assert fit(load_config(config_file, ["train.ema=0.8"]), folder, resume=True) == metrics
    assert (folder / "last.safetensors").stat().st_mtime_ns == before


def interrupted_run(config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch, epoch: int = 1) -> None:
    """Train until the first batch of an epoch, counted from 0."""

    def stop(run: TrainingRun) -> None:
        if run.current_epoch == epoch:
            raise RunError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "on_train_batch_start", lambda run, batch, index: stop(run))
        with pytest.raises(RunError, match="stopped"):
            fit(config, folder)


def test_only_the_run_that_was_begun_goes_on(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    interrupted_run(load_config(config_file), folder, monkeypatch)
    state = (folder / "resume.ckpt").read_bytes()
    with pytest.raises(UsageError, match=r"another configuration \(clip\.num_frames, train\.seed\)"):
        fit(load_config(config_file, ["train.seed=4", "clip.num_frames=4"]), folder, resume=True)
    (folder / "labels.json").write_text('{"actions": ["other", "background"], "scenes": []}')
    with pytest.raises(UsageError, match="begun with other labels than the annotations have now"):
        fit(load_config(config_file), folder, resume=True)
    (folder / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"config\.json: not of a run that can be resumed"):
        fit(load_config(config_file), folder, resume=True)
    for damage in (b"", b"no checkpoint", state[:-2000]):
        (folder / "resume.ckpt").write_bytes(damage)
        with pytest.raises(UsageError, match=r"resume\.ckpt: cannot be resumed \(.*start again with --force"):
            fit(load_config(config_file), folder, resume=True)
    assert load_checkpoint(folder / "last.safetensors").epoch == 1


def test_resume_begins_where_there_is_nothing_and_force_forgets(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = load_config(config_file, ["train.epochs=2"]), tmp_path / "run"
    interrupted_run(config, folder, monkeypatch)
    fit(config, folder)
    assert [row["epoch"] for row in numbers(folder)] == ["1", "2"]
    fit(config, tmp_path / "new", resume=True)
    assert_same_run(folder, tmp_path / "new")
    with pytest.raises(UsageError, match=r"another configuration \(train\.seed\)"):
        fit(load_config(config_file, ["train.epochs=2", "train.seed=1"]), folder, resume=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_folder_holds_one_run_at_any_time(
    config_file: Path, tmp_path: Path, whole_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole_run, folder)
    (folder / "head.safetensors").touch()
    before, events = contents(folder), {path.name for path in (folder / "tensorboard").glob("events.*")}
    other = load_config(config_file, ["train.seed=9"])
    interrupted_run(other, folder, monkeypatch, epoch=0)
    assert contents(folder) == before
    interrupted_run(other, folder, monkeypatch)
    after = contents(folder)
    assert set(after) == {
        *("best.safetensors", "last.safetensors", "config.json", "labels.json", "metrics.csv", "resume.ckpt")
    }
    assert all(after[name] != before[name] for name in ("best.safetensors", "config.json", "metrics.csv"))
    assert [load_checkpoint(folder / f"{name}.safetensors").epoch for name in ("best", "last")] == [1, 1]
    assert not events & {path.name for path in (folder / "tensorboard").iterdir()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_processes_are_one_with_twice_the_batch(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "shared.py"
    script.write_text(SHARED)
    environment = {
        **os.environ,
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, str(script), str(config_file), str(tmp_path / "two"), *SAME_FOR_ANY_NUMBER]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch 1/1") == 1  # one of the processes speaks
    alone: dict[str, torch.Tensor] = {}

    def keep(run: TrainingRun, optimizer: object) -> None:
        if run.global_step == 0:
            alone.update({k: p.grad.clone() for k, p in run.model.named_parameters() if p.grad is not None})

    monkeypatch.setattr(TrainingRun, "on_before_optimizer_step", keep)
    fit(load_config(config_file, SAME_FOR_ANY_NUMBER), tmp_path / "one")
    assert alone.keys() > {"action_head.weight", "scene_head.weight"}
    for rank in (0, 1):
        shared = torch.load(tmp_path / f"two.gradients.{rank}", weights_only=True)
        assert shared.keys() == alone.keys()
        for name, gradient in alone.items():
            torch.testing.assert_close(shared[name], gradient, rtol=1e-3, atol=1e-5 * gradient.abs().max())
    one, two = (load_checkpoint(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    for name, value in one.weights.items():
        torch.testing.assert_close(two.weights[name], value, rtol=1e-3, atol=1e-5)
    assert float(numbers(tmp_path / "two")[0]["loss"]) == pytest.approx(
        float(numbers(tmp_path / "one")[0]["loss"]), rel=1e-4
    )
    assert numbers(tmp_path / "two")[0].keys() == numbers(tmp_path / "one")[0].keys()


def test_a_batch_that_processes_cannot_share(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"train\.batch_size 8 .* must be a multiple of 3"):
        fit(load_config(config_file), tmp_path / "run", devices=3)


def test_a_loading_process_that_dies(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = clip_data.ClipDataset.__getitem__

    def die(data: clip_data.ClipDataset, item: tuple[int, int]) -> clip_data.Sample:
        if item[0] == 1 and torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return get(data, item)

    monkeypatch.setattr(clip_data.ClipDataset, "__getitem__", die)
    folder = tmp_path / "run"
    with pytest.raises(RunError) as caught:
        fit(load_config(config_file, ["train.epochs=2", "train.num_workers=2"]), folder)
    first, second = str(caught.value).splitlines()
    # Which of the two PyTorch says depends on who notices first.
    assert first.startswith(
        (
            "a data-loading process died (killed by signal: Killed), most often for want of memory",
            "a data-loading process died (exited unexpectedly), most often for want of memory",
        )
    )
    assert "lower train.num_workers (now 2), then go on with --resume" in first
    assert second == f"{folder}/last.safetensors holds epoch 1"
    assert load_checkpoint(folder / "last.safetensors").epoch == 1
    monkeypatch.undo()
    fit(load_config(config_file, ["train.epochs=2"]), folder, resume=True)
    assert len(numbers(folder)) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_stored_frames_that_are_lost_while_training(
    config_file: Path, drawn_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    cache = Path(shutil.copytree(drawn_data / "cache", tmp_path / "cache"))

    def lose(run: TrainingRun) -> None:
        if run.current_epoch == 1:
            shutil.rmtree(cache, ignore_errors=True)

    start = TrainingRun.on_train_epoch_start
    monkeypatch.setattr(TrainingRun, "on_train_epoch_start", lambda run: (lose(run), start(run)))
    overrides = [f"data.cache={cache}", f"train.num_workers={workers}"]
    with pytest.raises(RunError, match=r"^[^\n]*\.frames: stored frames cannot be read \(No such file"):
        fit(load_config(config_file, overrides), tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").epoch == 1


def test_a_disk_that_is_full_when_the_state_is_written(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning import Trainer

    save = Trainer.save_checkpoint

    def full(trainer: Trainer, path: Path) -> None:
        if trainer.current_epoch == 1:
            path.write_bytes(b"the first part")
            raise OSError(28, "No space left on device")
        save(trainer, path)

    monkeypatch.setattr(Trainer, "save_checkpoint", full)
    folder = tmp_path / "run"
    with pytest.raises(RunError, match=r"cannot write .*resume\.ckpt: No space left on device"):
        fit(load_config(config_file, ["train.epochs=2"]), folder)
    assert not (folder / "resume.part").exists()
    monkeypatch.undo()
    fit(load_config(config_file, ["train.epochs=2"]), folder, resume=True)
    assert [row["epoch"] for row in numbers(folder)] == ["1", "2"]


def test_a_disk_that_is_full_when_the_log_is_written(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning.pytorch.loggers import TensorBoardLogger

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "events.out")

    monkeypatch.setattr(TensorBoardLogger, "log_metrics", full)
    with pytest.raises(RunError) as caught:
        fit(load_config(config_file), tmp_path / "run")
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/run: cannot go on: events.out No space left on device",
        f"{tmp_path}/run/last.safetensors holds epoch 1",
    ]
