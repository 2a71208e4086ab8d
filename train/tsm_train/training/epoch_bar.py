"""The progress bar of an epoch, on one line of 80 columns."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import RichProgressBar


class EpochBar(RichProgressBar):
    """Lightning's bar with epochs counted from 1, as in the log, and without the logger's version."""

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs}"

    @property
    def validation_description(self) -> str:
        """Name of the bar of a validation, as long as that of an epoch at least."""
        return "validation"

    def get_metrics(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> dict[str, Any]:
        """Return the numbers beside the bar."""
        metrics: dict[str, Any] = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics

    def configure_columns(self, trainer: lightning.Trainer) -> list[Any]:
        """Return the bar's columns: description, bar, batches, time; the numbers follow."""
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        return [
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        ]
