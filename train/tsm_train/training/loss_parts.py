"""The parts of the loss of a batch: actions, scenes, and actions of single frames."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tsm_train.model.tsm import TSM
from tsm_train.sections.training import TrainConfig
from tsm_train.training.losses import action_loss, frame_loss, scene_loss

Batch = tuple[Tensor, ...]
"""Frames, action targets, scene targets and, for a per-frame loss, action targets of the frames."""

_Logits = tuple[Tensor, Tensor | None, Tensor | None]
"""Action logits (N, A), scene logits (N, S) and action logits of frames (N, T, A)."""


def loss_parts(
    model: TSM, config: TrainConfig, batch: Batch, adjustment: Tensor | None = None
) -> dict[str, tuple[float, Tensor]]:
    """Return weight and value of each part of the loss, by its name in metrics.csv.

    Args:
        model: the network.
        config: of the losses and of mixup.
        batch: frames and targets.
        adjustment: (A,) that is added to the action logits.
    """
    frames, *targets = batch
    per_frame = len(targets) > 2
    if not config.mixup:
        return _losses_of(_logits(model, frames, adjustment, per_frame=per_frame), targets, config)
    alpha = torch.tensor(config.mixup)
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    order = torch.randperm(len(frames), device=frames.device)
    mixed = share * frames.float() + (1 - share) * frames[order].float()
    logits = _logits(model, mixed, adjustment, per_frame=per_frame)
    first = _losses_of(logits, targets, config)
    second = _losses_of(logits, [target[order] for target in targets], config)
    return {
        name: (weight, share * value + (1 - share) * second[name][1])
        for name, (weight, value) in first.items()
    }


def _logits(model: TSM, frames: Tensor, adjustment: Tensor | None, *, per_frame: bool) -> _Logits:
    of_frames = None
    if per_frame:
        features = model.dropout(model.frame_features(frames))
        action, scene = model.classify(features.mean(1))
        of_frames = model.action_head(features)
    else:
        action, scene = model(frames)
    if adjustment is not None:
        action = action + adjustment.to(action)
        of_frames = None if of_frames is None else of_frames + adjustment.to(of_frames)
    return action, scene, of_frames


def _losses_of(
    logits: _Logits, targets: Sequence[Tensor], config: TrainConfig
) -> dict[str, tuple[float, Tensor]]:
    action, scene, of_frames = logits
    how = {
        "smoothing": config.label_smoothing,
        "focal_gamma": config.focal_gamma,
        "hard_background": config.hard_background,
    }
    parts = {"action_loss": (1.0, action_loss(action, targets[0], **how))}
    if scene is not None:
        parts["scene_loss"] = (config.scene_loss_weight, scene_loss(scene, targets[1]))
    if of_frames is not None:
        parts["frame_loss"] = (config.frame_loss, frame_loss(of_frames, targets[2], **how))
    return parts
