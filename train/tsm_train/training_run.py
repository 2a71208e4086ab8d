"""One training run as Lightning calls it: loss, optimizer, validation, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import functional as F

from tsm_runtime.errors import RunError, VideoError
from tsm_runtime.outputs import Result
from tsm_runtime.terminal import warn
from tsm_train.checkpoint import Checkpoint
from tsm_train.clip_data import NO_SCENE, Labels
from tsm_train.config import Config, TrainConfig
from tsm_train.data.video import TrainingVideo
from tsm_train.model import TSM
from tsm_train.run_folder import RunFolder
from tsm_train.validation import predict, score_results

__all__ = ["TrainingRun"]

Batch = tuple[Tensor, Tensor, Tensor]


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
        self._validation = validation
        self._output = output
        self._results: dict[str, Result] = {}
        self._failed: set[str] = set()
        self._losses: list[Tensor] = []
        self._started = time.perf_counter()

    @property
    def num_validation_videos(self) -> int:
        """How many videos a validation runs."""
        return len(self._validation)

    @property
    def _epoch(self) -> int:
        """The current epoch, counted from 1."""
        return self.current_epoch + 1

    @property
    def _validates(self) -> bool:
        """Whether this epoch ends with a validation; Lightning's own setting may leave out the last."""
        t = self.config.train
        return self._epoch % t.validate_every == 0 or self._epoch == t.epochs

    def on_train_epoch_start(self) -> None:
        """Start a new mean of the loss."""
        self._losses.clear()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Cross entropy of both heads; clips without scene count for the actions alone."""
        frames, actions, scenes = batch
        action_logits, scene_logits = self.model(frames)
        loss = F.cross_entropy(action_logits, actions)
        if scene_logits is not None and bool((scenes != NO_SCENE).any()):
            scene_loss = F.cross_entropy(scene_logits, scenes, ignore_index=NO_SCENE)
            loss = loss + self.config.train.scene_loss_weight * scene_loss
        if not torch.isfinite(loss):
            raise self._diverged(f"the loss became {loss.item()}")
        self._losses.append(loss.detach())
        self.log("loss", loss.detach(), prog_bar=True)
        return loss

    def on_validation_start(self) -> None:
        """Refuse to judge, and to store, what the last step of the epoch ruined."""
        if not all(value.isfinite().all() for value in self.model.state_dict().values()):
            raise self._diverged("the weights became nan or infinite")

    def validation_step(self, index: int, batch_index: int) -> None:
        """Run one video as deployment would; one that cannot be read is named, once."""
        if not self._validates:
            return
        video = self._validation[index]
        spec = replace(self.config.clip_spec, crop=video.crop)
        try:
            result = predict(
                self.model, video.path, video.video_id, self.labels, spec, self.config.segment_rules
            )
        except VideoError as error:
            if video.video_id not in self._failed:
                warn(f"validation counts this video as one where nothing is found: {error}")
            self._failed.add(video.video_id)
        else:
            self._results[video.video_id] = result

    def on_validation_epoch_end(self) -> None:
        """Score the validation videos, write metrics and checkpoints."""
        if not self._validates:
            return
        metrics = score_results(self._validation, self._results)
        self._results.clear()
        loss = float(torch.stack(self._losses).mean())
        rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])
        seconds = time.perf_counter() - self._started
        checkpoint = Checkpoint(
            config=self.config,
            labels=self.labels,
            epoch=self._epoch,
            metrics=metrics,
            weights=self.model.state_dict(),
        )
        self._output.record(checkpoint, loss, rate, seconds)
        scores = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        failed = f"  {len(self._failed)} of {len(self._validation)} videos failed" if self._failed else ""
        warn(
            f"epoch {self._epoch}/{self.config.train.epochs}  loss {loss:.3f}  {scores}{failed}"
            f"  {seconds:.0f} s"
        )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """SGD with Nesterov momentum; weight decay on the matrices only, not on biases and norms."""
        t = self.config.train
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        optimizer = torch.optim.SGD(
            [{"params": matrices, "weight_decay": t.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=t.learning_rate,
            momentum=t.momentum,
            nesterov=t.momentum > 0,
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, t))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _diverged(self, what: str) -> RunError:
        t, output = self.config.train, self._output
        kept = f"{output.path}/last.safetensors holds epoch {output.last_epoch}"
        return RunError(
            f"{what} in epoch {self._epoch}; lower train.learning_rate (now {t.learning_rate:g}) or raise"
            f" train.warmup_epochs\n{kept if output.last_epoch else 'no epoch was stored yet'}"
        )


def _rate(step: int, steps: int, config: TrainConfig) -> float:
    """Share of the learning rate at a step: linear warm-up, then cosine to zero or constant."""
    warmup = config.warmup_epochs / config.epochs * steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))
