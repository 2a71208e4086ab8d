"""The folder of a run: its description, and after every validation the metrics and checkpoints."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import msgspec

from tsm_runtime.errors import RunError
from tsm_runtime.files import write_whole
from tsm_train.checkpoint import Checkpoint, save_checkpoint

__all__ = ["RunFolder"]


class RunFolder:
    """Holds config.json, labels.json, metrics.csv, last.safetensors and best.safetensors.

    Args:
        path: made when it does not exist; files of an earlier run in it are replaced one by one.

    Raises:
        RunError: the folder cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last_epoch = 0
        """Of the last checkpoint; 0: there is none of this run yet."""
        self.best_metrics: dict[str, float] = {}
        self._rows: list[dict[str, float]] = []
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path}: cannot make the run's folder ({error.strerror or error})") from error

    def describe(self, config: msgspec.Struct, labels: object) -> None:
        """Write config.json and labels.json."""
        for name, value in (("config.json", config), ("labels.json", labels)):
            write_whole(self.path / name, msgspec.json.format(msgspec.json.encode(value)) + b"\n")

    def record(self, checkpoint: Checkpoint, loss: float, learning_rate: float, seconds: float) -> None:
        """Add a row to metrics.csv and write last.safetensors, and best.safetensors where no mAP was higher.

        Args:
            checkpoint: as it is after the validation of its epoch.
            loss: mean over the epoch.
            learning_rate: at the end of the epoch.
            seconds: since training started.

        Raises:
            RunError: something cannot be written.
        """
        metrics = checkpoint.metrics
        row = {"epoch": checkpoint.epoch, "loss": loss, "learning_rate": learning_rate}
        self._rows.append({**row, **metrics, "seconds": seconds})
        write_whole(self.path / "metrics.csv", self._table())
        save_checkpoint(self.path / "last.safetensors", checkpoint)
        self.last_epoch = checkpoint.epoch
        # Of equal epochs the later one: it was trained for longer.
        if not self.best_metrics or metrics["map"] >= self.best_metrics["map"]:
            save_checkpoint(self.path / "best.safetensors", checkpoint)
            self.best_metrics = metrics

    def _table(self) -> str:
        table = io.StringIO()
        writer = csv.DictWriter(table, list(self._rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in self._rows)
        return table.getvalue()
