"""Batch norms that keep what they know: for fine-tuning with small batches."""

from __future__ import annotations

from typing import Literal

from torch import nn

FreezeBN = Literal["none", "partial", "all"]


def freeze_batch_norm(model: nn.Module, which: FreezeBN) -> None:
    """Stop batch norms from learning, in statistics and in weights.

    Call it again after `model.train()`, which undoes it in part.

    Args:
        model: changed in place.
        which: `partial` is all but the first, whose input is as new as the data (TSN, arXiv 1608.00859).
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    first = {"none": len(norms), "partial": 1, "all": 0}[which]
    for norm in norms[first:]:
        norm.eval()
        norm.requires_grad_(False)
