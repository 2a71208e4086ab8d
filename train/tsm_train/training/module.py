"""One training run as Lightning calls it: loss, optimizer, validation, checkpoints."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tsm_runtime.errors import RunError, VideoError
from tsm_runtime.results import Result
from tsm_runtime.wording import counted
from tsm_train.config import Config
from tsm_train.data.video import TrainingVideo
from tsm_train.model.batch_norm import freeze_batch_norm
from tsm_train.model.tsm import TSM
from tsm_train.samples.clips import Labels
from tsm_train.training.checkpoint import Checkpoint
from tsm_train.training.loss_parts import Batch, loss_parts
from tsm_train.training.optimizer import rate_schedule, sgd
from tsm_train.training.run_folder import RunFolder
from tsm_train.training.thresholds import UNKNOWN_THRESHOLD, apply_rules, choose_thresholds
from tsm_train.training.validation import predict, score_results

_log = logging.getLogger("tsm_runtime")

NO_VIDEO = -1
"""In place of the number of a validation video: none."""

_STEPS_BETWEEN_CHECKS = 20
"""On a GPU: looking at a loss means to wait for all that was started."""


class TrainingRun(lightning.LightningModule):
    """Loss, schedule, validation and what is kept of them, as Lightning calls them.

    Args:
        config: the run.
        labels: names of the outputs.
        model: trained in place.
        validation: videos that are run and scored.
        output: gets metrics and checkpoints.
    """

    def __init__(
        self,
        config: Config,
        labels: Labels,
        model: TSM,
        validation: Sequence[TrainingVideo],
        output: RunFolder,
    ) -> None:
        super().__init__()
        self.config = config
        self.labels = labels
        self.model = model
        freeze_batch_norm(model, config.train.freeze_bn)
        self.average = _average_of(model, config.train.ema)
        self._validation = validation
        self._output = output
        self._results: dict[str, Result] = {}
        self._failed: set[str] = set()
        self._losses: list[Tensor] = []  # (P,) each, see `_loss_names`
        self._loss_names: tuple[str, ...] = ("loss",)
        self._adjustment: Tensor | None = None  # (A,), what is added to the action logits in training
        self._began = time.perf_counter()
        self._steps_between_checks = 1

    @property
    def validated(self) -> TSM:
        """The network that is validated and stored."""
        return self.model if self.average is None else cast("TSM", self.average.module)

    @property
    def _epoch(self) -> int:
        """The current epoch, counted from 1."""
        return self.current_epoch + 1

    @property
    def _validates(self) -> bool:
        """Whether this epoch ends with a validation; Lightning's own setting may leave out the last."""
        t = self.config.train
        return self._epoch % t.validate_every == 0 or self._epoch == t.epochs

    def on_fit_start(self) -> None:
        """Begin the run's folder, unless an unfinished run goes on."""
        if self.trainer.ckpt_path is None:
            self._output.describe(self.config, self.labels)
        self._adjustment = self._logit_adjustment()
        self._steps_between_checks = 1 if self.device.type == "cpu" else _STEPS_BETWEEN_CHECKS

    def _logit_adjustment(self) -> Tensor | None:
        weight = self.config.train.logit_adjustment
        clips = getattr(self.trainer, "datamodule", None)
        return None if not weight or clips is None else weight * clips.class_shares().log()

    def on_train_epoch_start(self) -> None:
        """Start a new mean of the loss. Chance within an epoch follows from seed, epoch and process alone."""
        self._losses.clear()
        freeze_batch_norm(self.model, self.config.train.freeze_bn)
        key = (self.config.train.seed, self.current_epoch, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1)))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Loss of both heads."""
        parts = loss_parts(self.model, self.config.train, batch, self._adjustment)
        loss = torch.stack([weight * part for weight, part in parts.values()]).sum()
        self._losses.append(torch.stack([loss, *(part for _, part in parts.values())]).detach())
        self._loss_names = ("loss", *parts)
        if len(self._losses) % self._steps_between_checks == 0:
            self._check_losses()
        self.log("loss", loss.detach(), prog_bar=True)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take a step, then follow it with the average."""
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.update_parameters(self.model)

    def on_validation_start(self) -> None:
        """Refuse to judge, and to store, what the last step of the epoch ruined."""
        self._check_losses()
        for network in {self.model, self.validated}:
            if not all(value.isfinite().all() for value in network.state_dict().values()):
                raise self._diverged("the weights became nan or infinite")

    def validation_step(self, index: int, batch_index: int) -> None:
        """Run one video as deployment would; one that cannot be read is named, once."""
        if not self._validates or index == NO_VIDEO:
            return
        video = self._validation[index]
        spec = self.config.clip_spec
        if spec.sound is None:
            spec = replace(spec, crop=video.crop)
        try:
            result = predict(
                self.validated,
                video.path,
                video.video_id,
                self.labels,
                spec,
                self.config.segment_rules,
                video.rate,
            )
        except VideoError as error:
            if video.video_id not in self._failed:
                _log.warning(f"validation counts this video as one where nothing is found: {error}")
            self._failed.add(video.video_id)
        else:
            self._results[video.video_id] = result

    def on_train_epoch_end(self) -> None:
        """Score the validation videos, write metrics, checkpoints and the state to resume from."""
        metrics, thresholds = self._score() if self._validates else ({}, self._no_thresholds())
        checkpoint = Checkpoint(
            config=self.config,
            labels=self.labels,
            epoch=self._epoch,
            metrics=metrics,
            weights=self.validated.state_dict(),
            thresholds=thresholds,
        )
        row = self._row(metrics)
        self._output.record(checkpoint, row)
        self._log_epoch(row)
        self._report_epoch(row, metrics)
        self._output.save_resume(self.trainer.save_checkpoint)

    def on_train_end(self) -> None:
        """Complete the run's folder."""
        self._output.finish()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the run's folder knows to resume.ckpt."""
        checkpoint["run_folder"] = self._output.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with what the run's folder knew."""
        self._output.restore(checkpoint["run_folder"])
        self._began = time.perf_counter() - self._output.rows[-1]["seconds"]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """SGD with Nesterov momentum; weight decay on the matrices only, not on biases and norms."""
        optimizer = sgd(self.model, self.config.train)
        schedule = rate_schedule(optimizer, self.config.train, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _score(self) -> tuple[dict[str, float], tuple[float, ...]]:
        """Return metrics of the validation videos of all processes, and the thresholds of a sigmoid head."""
        results = self._gathered_results()
        thresholds = self._no_thresholds()
        if thresholds:
            labels, cell_seconds = self.labels.actions, self.config.clip_spec.stride_seconds
            thresholds = choose_thresholds(self._validation, results, labels, cell_seconds)
            rules = replace(self.config.segment_rules, thresholds=thresholds)
            results = {k: apply_rules(r, labels, rules, cell_seconds) for k, r in results.items()}
        return score_results(self._validation, results), thresholds

    def _gathered_results(self) -> dict[str, Result]:
        results, failed = self._results, self._failed
        if self.trainer.world_size > 1:
            parts: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(parts, (results, failed))
            results = {key: result for part, _ in parts for key, result in part.items()}
            self._failed = {video_id for _, part in parts for video_id in part}
        self._results = {}
        return results

    def _no_thresholds(self) -> tuple[float, ...]:
        """Return the thresholds before any validation; none for a softmax head."""
        return (UNKNOWN_THRESHOLD,) * len(self.labels.actions) if self.labels.head == "sigmoid" else ()

    def _row(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return the line of metrics.csv for this epoch."""
        mean = torch.stack(self._losses).mean(0)
        losses = self.trainer.strategy.reduce(mean, reduce_op="mean").tolist()
        return {
            "epoch": self._epoch,
            **dict(zip(self._loss_names, losses, strict=True)),
            "learning_rate": float(self.trainer.optimizers[0].param_groups[0]["lr"]),
            **metrics,
            "seconds": time.perf_counter() - self._began,
        }

    def _log_epoch(self, row: Mapping[str, float]) -> None:
        """Hand the numbers of an epoch to TensorBoard."""
        values = {f"epoch/{name}": value for name, value in row.items() if name != "epoch"}
        for logger in self.loggers:
            logger.log_metrics(values, step=self._epoch)
            logger.save()

    def _report_epoch(self, row: Mapping[str, float], metrics: Mapping[str, float]) -> None:
        if not self._output.writes or not self._validates:
            return
        scores = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        failed = (
            f"  {len(self._failed)} of {counted(len(self._validation), 'video')} failed"
            if self._failed
            else ""
        )
        _log.warning(
            f"epoch {self._epoch}/{self.config.train.epochs}  loss {row['loss']:.3f}  {scores}{failed}"
            f"  {row['seconds']:.0f} s"
        )

    def _check_losses(self) -> None:
        if self._losses:
            values = torch.stack(self._losses[-self._steps_between_checks :])[:, 0]
            if not values.isfinite().all():
                raise self._diverged(f"the loss became {values[~values.isfinite()][0].item()}")

    def _diverged(self, what: str) -> RunError:
        t = self.config.train
        return RunError(
            f"{what} in epoch {self._epoch}; lower train.learning_rate (now {t.learning_rate:g}) or raise"
            f" train.warmup_epochs\n{self._output.kept}"
        )


def _average_of(model: TSM, decay: float) -> AveragedModel | None:
    if decay == 0:
        return None
    follow = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=follow, use_buffers=True).requires_grad_(False)
