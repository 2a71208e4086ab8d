"""Training of small networks on cached features: AdamW and one cycle of the learning rate."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tsm_runtime.errors import RunError

_WARM_UP = 0.1  # of all steps

Progress = Callable[[int, int], None]
"""Called with the steps done and all steps."""


def fit_one_cycle(
    network: nn.Module,
    loss_of: Callable[[int], Tensor | None],
    steps: int,
    *,
    learning_rate: float,
    weight_decay: float,
    what: str,
    option: str,
    progress: Progress | None = None,
) -> None:
    """Train a network in place; it ends in evaluation mode.

    Args:
        network: of which all parameters that require a gradient are trained.
        loss_of: returns the loss of a step, counted from 0; None: the step is left out.
        steps: number of steps.
        learning_rate: the largest of the cycle.
        weight_decay: of AdamW.
        what: name of the network in messages.
        option: that sets the learning rate.
        progress: called after each step.

    Raises:
        RunError: the loss is not finite.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=steps + 1, pct_start=_WARM_UP
    )
    network.train()
    for step in range(steps):
        loss = loss_of(step)
        if loss is None:
            continue
        if not loss.isfinite():
            raise RunError(
                f"{what}: the loss became {loss.item()} in step {step + 1} of {steps}; lower {option} (now"
                f" {learning_rate:g})"
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, steps)
    network.eval()
