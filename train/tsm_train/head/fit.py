"""Training of a temporal head on cached features."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tsm_runtime.errors import UsageError
from tsm_train.fitting import Progress, fit_one_cycle
from tsm_train.head.features import FrameSequence
from tsm_train.head.losses import head_loss
from tsm_train.head.network import AnyHead, HeadGroup, TemporalHead, dilations_for
from tsm_train.head.windows import draw_windows
from tsm_train.samples.clips import Labels
from tsm_train.sections.after_backbone import HeadConfig

_STD_FLOOR = 0.05
"""Added to the spread of a feature, so that one that hardly varies is not blown up."""

_SEEDS_APART = 1000
"""Between the seeds of the heads of a group, so that those of runs with neighbouring seeds differ."""


def fit_heads(
    sequences: Sequence[FrameSequence],
    frame_head: nn.Linear,
    labels: Labels,
    frame_seconds: float,
    config: HeadConfig,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> AnyHead:
    """Train as many heads as the configuration names; arguments and errors are those of `fit_head`."""
    heads = [
        fit_head(
            sequences,
            frame_head,
            labels,
            frame_seconds,
            config,
            seed=seed + number * _SEEDS_APART,
            progress=progress,
        )
        for number in range(config.members)
    ]
    return heads[0] if len(heads) == 1 else HeadGroup(heads).eval()


def fit_head(
    sequences: Sequence[FrameSequence],
    frame_head: nn.Linear,
    labels: Labels,
    frame_seconds: float,
    config: HeadConfig,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> TemporalHead:
    """Train a head, with AdamW and one cycle of the learning rate.

    Args:
        sequences: features and targets of the training videos.
        frame_head: the linear action head of the backbone.
        labels: names of its outputs.
        frame_seconds: time from one frame to the next.
        config: `[head]` of the configuration.
        seed: of weights, windows and dropout.
        progress: called with the steps done and all steps.

    Returns:
        The head, in evaluation mode, on the CPU.

    Raises:
        UsageError: there is no training video.
        RunError: the loss is not finite.
    """
    if not sequences:
        raise UsageError("the temporal head has no training video as long as one interval")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = new_head(sequences, frame_head, labels, frame_seconds, config)
        return _train(head, sequences, config, np.random.default_rng((seed, 1)), progress)


def new_head(
    sequences: Sequence[FrameSequence],
    frame_head: nn.Linear,
    labels: Labels,
    frame_seconds: float,
    config: HeadConfig,
) -> TemporalHead:
    """Return a head before training, which knows the features' mean and spread."""
    head = TemporalHead(
        sequences[0].features.shape[1],
        len(labels.actions),
        frame_seconds=frame_seconds,
        width=config.width,
        dilations=dilations_for(config.receptive_seconds, frame_seconds),
        dropout=config.dropout,
        input_dropout=config.input_dropout,
        causal=config.causal,
    )
    rows = np.concatenate([sequence.features.astype(np.float32) for sequence in sequences])
    head.mean.copy_(torch.from_numpy(rows.mean(0)))
    head.std.copy_(torch.from_numpy(rows.std(0) + _STD_FLOOR))
    with torch.no_grad():
        head.frame_head.weight.copy_(frame_head.weight)
        head.frame_head.bias.copy_(frame_head.bias)
    return head


def _train(
    head: TemporalHead,
    sequences: Sequence[FrameSequence],
    config: HeadConfig,
    rng: np.random.Generator,
    progress: Progress | None,
) -> TemporalHead:
    num_frames = max(1, round(config.window_seconds / head.frame_seconds))
    total = sum(max(1.0, len(sequence.features) / num_frames) for sequence in sequences)
    steps = max(1, math.ceil(config.epochs * total / config.batch_size))

    def loss_of(_: int) -> Tensor:
        window = draw_windows(sequences, config.batch_size, num_frames, config.speed, rng)
        return head_loss(head(window.features, window.mask), window, config)

    fit_one_cycle(
        head,
        loss_of,
        steps,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        what="temporal head",
        option="head.learning_rate",
        progress=progress,
    )
    return head
