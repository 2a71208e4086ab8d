"""The loss of both heads."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from tsm_train.samples.clips import NO_SCENE

__all__ = ["action_loss", "scene_loss"]


def action_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Loss of the action head, mean over clips.

    Args:
        logits: (N, A).
        targets: of a softmax head (N,) int64 indices: cross entropy. Of a sigmoid head (N, A) floating point
            of zeros and ones: binary cross entropy, summed over actions, so that each counts the same
            however many there are.
    """
    if targets.ndim == 1:
        return F.cross_entropy(logits, targets)
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(targets)


def scene_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of the scene head, summed over the clips that have a scene, divided by all.

    So a clip weighs the same whichever others are in its batch, and the mean over several processes is what
    one process finds for all their clips.

    Args:
        logits: (N, S).
        targets: (N,) int64, `NO_SCENE` where the scene is unknown.
    """
    return F.cross_entropy(logits, targets, ignore_index=NO_SCENE, reduction="sum") / len(targets)
