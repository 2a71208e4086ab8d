"""The folder of a run: its description, and after every epoch metrics, checkpoints and where to go on."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import msgspec
import torch

from tsm_runtime.errors import RunError, UsageError
from tsm_runtime.files import read_text, write_whole
from tsm_train.audio.checkpoint import SOUND_FILE
from tsm_train.config import Config
from tsm_train.head.checkpoint import HEAD_FILE
from tsm_train.samples.clips import Labels
from tsm_train.training.checkpoint import Checkpoint, save_checkpoint
from tsm_train.views.checkpoint import VIEWS_FILE

RESUME = "resume.ckpt"
"""State from which an unfinished run goes on: local to the machine, and never accepted by the export."""

_CHECKPOINTS = ("best.safetensors", "last.safetensors")
_RUN_FILES = (
    *("config.json", "labels.json", RESUME, *_CHECKPOINTS, HEAD_FILE, SOUND_FILE, VIEWS_FILE),
    *("metrics.csv", "curves.png"),
)

_T = TypeVar("_T")

MAY_DIFFER = frozenset(
    {
        "data.root",
        "data.annotations",
        "data.videos",
        "data.scenes",
        "data.split",
        "data.cache",
        "data.accept",
        "model.pretrained",
        "train.num_workers",
    }
)
"""Keys that do not change what a resumed run computes; of the annotations their labels must be the same."""


class RunFolder:
    """Holds config.json, labels.json, metrics.csv, last.safetensors and best.safetensors.

    Until the run is complete there is resume.ckpt too, and then curves.png. The folder always holds one run:
    an earlier one stays whole until the first epoch of this run is stored, and then goes.

    Args:
        path: made when it does not exist.
        writes: False for a process whose writing another one does.

    Raises:
        RunError: the folder cannot be made.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self.last_epoch = 0
        """Of the last checkpoint; 0: there is none of this run yet."""
        self.best_metrics: dict[str, float] = {}
        self.rows: list[dict[str, float]] = []
        """Lines of metrics.csv."""
        self._description: dict[str, bytes] = {}
        """config.json and labels.json, while an earlier run is in the folder."""
        self._earlier_events = tuple((path / "tensorboard").glob("events.*"))
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path}: cannot make the run's folder ({error.strerror or error})") from error

    @property
    def resume_path(self) -> Path:
        """Where the state lies from which an unfinished run goes on."""
        return self.path / RESUME

    @property
    def kept(self) -> str:
        """What is there after a failure, in words."""
        if not self.last_epoch:
            earlier = f"; {self.path} still holds the earlier run" if self._description else ""
            return f"no epoch was stored yet{earlier}"
        return f"{self.path}/last.safetensors holds epoch {self.last_epoch}"

    def describe(self, config: Config, labels: Labels) -> None:
        """Begin a run: write config.json and labels.json, where an earlier run is there once it goes."""
        if not self.writes:
            return
        self._description = {
            name: msgspec.json.format(msgspec.json.encode(value)) + b"\n"
            for name, value in (("config.json", config), ("labels.json", labels))
        }
        if not any((self.path / name).exists() for name in _CHECKPOINTS):
            self._begin()

    def _begin(self) -> None:
        """Remove the files of an earlier run, then write what describes this one."""
        for path in (*(self.path / name for name in _RUN_FILES), *self._earlier_events):
            path.unlink(missing_ok=True)
        for name, content in self._description.items():
            write_whole(self.path / name, content)
        self._description = {}

    def check_same(self, config: Config, labels: Labels) -> None:
        """Refuse to go on with another run than was begun.

        Raises:
            UsageError: names the keys that differ.
        """
        check_same_config(self.path, _read(self.path / "config.json", Config), config)
        if _read(self.path / "labels.json", Labels) != labels:
            raise UsageError(
                f"{self.path}: was begun with other labels than the annotations have now; start again with"
                " --force"
            )

    def record(self, checkpoint: Checkpoint, row: Mapping[str, float]) -> None:
        """Add a row to metrics.csv and write last.safetensors, and best.safetensors where no mAP was higher.

        Args:
            checkpoint: as it is after its epoch; without metrics it was not validated.
            row: of metrics.csv.

        Raises:
            RunError: something cannot be written.
        """
        metrics = checkpoint.metrics
        # Of equal epochs the later one: it was trained for longer.
        is_best = bool(metrics) and metrics["map"] >= self.best_metrics.get("map", 0.0)
        self.rows.append(dict(row))
        if self.writes:
            if self._description:
                self._begin()
            save_checkpoint(self.path / "last.safetensors", checkpoint)
            if is_best:
                save_checkpoint(self.path / "best.safetensors", checkpoint)
            write_whole(self.path / "metrics.csv", self._table())
        self.last_epoch = checkpoint.epoch
        if is_best:
            self.best_metrics = metrics

    def save_resume(self, save: Callable[[Path], None]) -> None:
        """Replace resume.ckpt by what `save` writes; all processes of a run call this.

        Raises:
            RunError: it cannot be written; the last one stays.
        """
        temporary = self.path / "resume.part"
        try:
            save(temporary)
            if self.writes:
                temporary.replace(self.resume_path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise RunError(f"cannot write {self.resume_path}: {_first_line(error)}") from error

    def state(self) -> dict[str, Any]:
        """What resume.ckpt holds of this."""
        return {"rows": self.rows, "best_metrics": self.best_metrics, "last_epoch": self.last_epoch}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state` returned."""
        self.rows = [dict(row) for row in state["rows"]]
        self.best_metrics, self.last_epoch = dict(state["best_metrics"]), state["last_epoch"]

    def finish(self) -> None:
        """Draw the run's curves; there is nothing left to resume."""
        if self.writes:
            from tsm_train.training.curves import draw_curves

            write_whole(self.path / "curves.png", draw_curves(self.rows, self.path.name))
            self.resume_path.unlink(missing_ok=True)

    def _table(self) -> str:
        table = io.StringIO()
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        columns.append(columns.pop(columns.index("seconds")))
        writer = csv.DictWriter(table, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in self.rows)
        return table.getvalue()


def begun_config(folder: Path) -> Config | None:
    """Return the configuration that a run was begun with; None where no run was begun.

    Raises:
        UsageError: config.json is damaged.
    """
    path = folder / "config.json"
    return _read(path, Config) if path.exists() else None


def check_same_config(folder: Path, begun: Config, config: Config) -> None:
    """Refuse to go on with a run by another configuration than that it was begun with.

    Raises:
        UsageError: names the keys that differ.
    """
    # Head, sound branch and joint model are trained after all epochs, and change none of them.
    begun, config = (
        msgspec.structs.replace(each, head=None, audio=None, views=None) for each in (begun, config)
    )
    if keys := sorted(_differing_keys(begun, config) - MAY_DIFFER):
        raise UsageError(
            f"{folder}: was begun with another configuration ({', '.join(keys)}); resume with that one,"
            " choose another name, or start again with --force"
        )


def read_resume(path: Path) -> dict[str, Any]:
    """Return what Lightning stored; no code that a file might hold is run.

    Raises:
        UsageError: it is damaged, or not such a file.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return {"global_step": int(state["global_step"]), "run_folder": state["run_folder"]}
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, UnpicklingError) as error:
        raise UsageError(
            f"{path}: cannot be resumed ({_first_line(error)}); start again with --force"
        ) from error


def _differing_keys(first: Config, second: Config) -> set[str]:
    """Return the keys, as `train.epochs`, in which two configurations differ."""

    def flat(value: Any, where: str = "") -> dict[str, Any]:
        if not isinstance(value, dict):
            return {where.removeprefix("."): value}
        return {key: found for name in value for key, found in flat(value[name], f"{where}.{name}").items()}

    one, other = (flat(msgspec.to_builtins(config)) for config in (first, second))
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def _read(path: Path, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(read_text(path), type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise UsageError(
            f"{path}: not of a run that can be resumed ({error}); start again with --force"
        ) from error


def _first_line(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
