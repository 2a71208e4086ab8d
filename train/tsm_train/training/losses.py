"""The losses of both heads, per clip and per frame."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tsm_train.samples.clips import NO_FRAME, NO_SCENE


def action_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    hard_background: float = 0.0,
) -> Tensor:
    """Loss of the action head, mean over clips.

    Args:
        logits: (N, A).
        targets: of a softmax head (N,) int64 indices: cross entropy. Of a sigmoid head (N, A) floating point
            of zeros and ones: binary cross entropy, summed over actions, so that each counts the same
            however many there are.
        smoothing: share of the target that is spread evenly: over the A classes of a softmax head, over yes
            and no of each action of a sigmoid head.
        focal_gamma: exponent of (1 - p), by which each loss is multiplied; p is the probability of the truth.
        hard_background: share of the background clips that count, those with the highest loss, rounded up
            (online hard example mining, arXiv 1604.03540, 4); 0: all count.
    """
    if not focal_gamma and not hard_background:
        if targets.ndim == 1:
            return F.cross_entropy(logits, targets, label_smoothing=smoothing)
        soft = _smoothed(targets, smoothing)
        return F.binary_cross_entropy_with_logits(logits, soft, reduction="sum") / len(targets)
    each = _losses(logits, targets, smoothing, focal_gamma)
    return each[_counting(each.detach(), targets, logits.shape[1], hard_background)].mean()


def _losses(logits: Tensor, targets: Tensor, smoothing: float, focal_gamma: float) -> Tensor:
    """Return the loss of each clip (N,)."""
    if targets.ndim == 1:
        each = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
        true = logits.softmax(1).gather(1, targets[:, None])[:, 0]
        return (1 - true) ** focal_gamma * each if focal_gamma else each
    soft = _smoothed(targets, smoothing)
    each = F.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    true = torch.where(targets > 0.5, logits.sigmoid(), 1 - logits.sigmoid())
    return ((1 - true) ** focal_gamma * each if focal_gamma else each).sum(1)


def _smoothed(targets: Tensor, smoothing: float) -> Tensor:
    return targets * (1 - smoothing) + smoothing / 2


def _counting(losses: Tensor, targets: Tensor, num_actions: int, hard_background: float) -> Tensor:
    """Return which clips count (N,): all with an action, and the hardest of the background."""
    background = targets == num_actions - 1 if targets.ndim == 1 else targets.sum(1) == 0
    count = math.ceil(hard_background * int(background.sum()) - 1e-9)
    if not hard_background or not count:
        return torch.ones_like(background)
    hardest = losses.masked_fill(~background, -math.inf).topk(count).indices
    return (~background).index_fill(0, hardest, value=True)


def frame_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    hard_background: float = 0.0,
) -> Tensor:
    """Loss of the action head on single frames, mean over the frames that have a target.

    Args:
        logits: (N, T, A).
        targets: of a softmax head (N, T) int64, `NO_FRAME` where a frame does not count; of a sigmoid head
            (N, T, A) of zeros and ones, nan where a frame does not count.
        smoothing: as in `action_loss`.
        focal_gamma: as in `action_loss`.
        hard_background: as in `action_loss`, of frames.
    """
    counts = targets != NO_FRAME if targets.ndim == 2 else ~targets.isnan().any(-1)
    if not counts.any():
        return logits.sum() * 0.0
    return action_loss(
        logits[counts],
        targets[counts],
        smoothing=smoothing,
        focal_gamma=focal_gamma,
        hard_background=hard_background,
    )


def scene_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of the scene head, summed over the clips that have a scene, divided by all.

    So a clip weighs the same whichever others are in its batch, and the mean over several processes is what
    one process finds for all their clips.

    Args:
        logits: (N, S).
        targets: (N,) int64, `NO_SCENE` where the scene is unknown.
    """
    return F.cross_entropy(logits, targets, ignore_index=NO_SCENE, reduction="sum") / len(targets)
