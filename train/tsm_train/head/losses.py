"""The loss of a temporal head: class, actionness and distances of the frames of windows."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from tsm_train.head.windows import Window
from tsm_train.sections.after_backbone import HeadConfig
from tsm_train.training.losses import frame_loss

_NEAR_SECONDS = 8.0
"""Bounds farther away than that are not regressed: nothing in the receptive field shows them."""

_HALF_WEIGHT_SECONDS = 0.5
"""Distance at which an error counts half as much as at the bound."""

_UNIT_SECONDS = 0.125
"""An error of that at a bound has the loss 1, about; a quarter of it is where the loss becomes quadratic."""


def head_loss(outputs: tuple[Tensor, Tensor, Tensor], window: Window, config: HeadConfig) -> Tensor:
    """Return the weighted sum of the three losses.

    Args:
        outputs: of `TemporalHead.forward`.
        window: the targets.
        config: the weights.
    """
    logits, actionness, distances = outputs
    loss = frame_loss(
        logits,
        window.action,
        smoothing=config.label_smoothing,
        focal_gamma=config.focal_gamma,
        hard_background=config.hard_background,
    )
    known = ~window.actionness.isnan()
    if config.actionness_weight and known.any():
        loss = loss + config.actionness_weight * F.binary_cross_entropy_with_logits(
            actionness[known], window.actionness[known]
        )
    return loss + config.distance_weight * distance_loss(distances, window.distances)


def distance_loss(distances: Tensor, targets: Tensor) -> Tensor:
    """Smooth L1 of distances in seconds, each divided by 1 + d / 0.5 s: far bounds count less.

    Args:
        distances: (N, L, 2).
        targets: (N, L, 2), nan where there is none.
    """
    counts = targets < _NEAR_SECONDS  # false for nan
    if not counts.any():
        return distances.sum() * 0.0
    got, want = distances[counts], targets[counts]
    scale = (1 + want / _HALF_WEIGHT_SECONDS) * _UNIT_SECONDS
    return F.smooth_l1_loss(got / scale, want / scale, beta=0.25)
