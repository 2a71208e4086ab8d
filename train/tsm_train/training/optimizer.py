"""The optimizer of a run and the schedule of its learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tsm_train.sections.training import TrainConfig


def sgd(model: nn.Module, config: TrainConfig) -> SGD:
    """Return SGD with Nesterov momentum; weight decay on the matrices only, not on biases and norms."""
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim > 1]
    others = [p for p in trained if p.ndim <= 1]
    return torch.optim.SGD(
        [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
    )


def rate_schedule(optimizer: Optimizer, config: TrainConfig, steps: int) -> LambdaLR:
    """Return the schedule of a run of so many steps."""
    return LambdaLR(optimizer, lambda step: rate_at(step, steps, config))


def rate_at(step: int, steps: int, config: TrainConfig) -> float:
    """Return the share of the learning rate at a step: linear warm-up, then cosine, steps, or constant."""
    warmup = config.warmup_epochs / config.epochs * steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))
    epoch = step / steps * config.epochs
    return float(config.step_factor ** sum(epoch >= border for border in config.step_epochs))
