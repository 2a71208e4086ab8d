"""Training of a sound branch on cached features."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from tsm_runtime.errors import UsageError
from tsm_train.audio.intervals import Intervals
from tsm_train.audio.network import SoundBranchNet, new_branch
from tsm_train.fitting import Progress, fit_one_cycle
from tsm_train.samples.clips import Labels
from tsm_train.sections.after_backbone import AudioConfig
from tsm_train.training.losses import action_loss, scene_loss

_GAIN = 1.0  # largest change of loudness, in nats
_MASKED = (0.2, 0.15)  # largest share of frames and of bands that is hidden (SpecAugment, Park et al. 2019)
_MOST_FOR_STATISTICS = 2000


def fit_branch(
    intervals: Intervals,
    heads: tuple[nn.Linear, nn.Linear | None],
    labels: Labels,
    config: AudioConfig,
    *,
    seed: int = 0,
    scene_weight: float = 0.5,
    start: dict[str, Tensor] | None = None,
    progress: Progress | None = None,
) -> SoundBranchNet:
    """Train a branch, with AdamW and one cycle of the learning rate.

    Args:
        intervals: of the training videos.
        heads: action head and scene head of the picture model.
        labels: names of the outputs.
        config: `[audio]` of the configuration.
        seed: of weights, order and augmentation.
        scene_weight: of the scene loss.
        start: weights of the convolutions to start from.
        progress: called with the steps done and all steps.

    Returns:
        The branch, in evaluation mode.

    Raises:
        UsageError: no training interval has sound, or the weights to start from do not fit.
        RunError: the loss is not finite.
    """
    rng = np.random.default_rng((seed, 2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        branch = _new(intervals, heads, labels, config, rng)
        if start is not None:
            load_convolutions(branch, start)
        return _train(branch, intervals, config, rng, scene_weight, progress)


def _new(
    intervals: Intervals,
    heads: tuple[nn.Linear, nn.Linear | None],
    labels: Labels,
    config: AudioConfig,
    rng: np.random.Generator,
) -> SoundBranchNet:
    some = rng.permutation(len(intervals))[:_MOST_FOR_STATISTICS]
    features, log_mel, is_heard = intervals.inputs(some)
    if not is_heard.any():
        raise UsageError("[audio]: no training video has sound; leave the section out")
    branch = SoundBranchNet(
        features.shape[1],
        len(labels.actions),
        len(labels.scenes),
        channels=config.channels,
        num_bands=config.num_bands,
        width=config.width,
        dropout=config.dropout,
        picture_dropout=config.picture_dropout,
    )
    return new_branch(branch, *heads, features, log_mel[is_heard > 0])


def load_convolutions(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Take over the convolutions of a sound branch.

    Args:
        network: a `SoundBranchNet`, or the `SoundFeatures` of a model of sound alone.
        weights: of a sound branch.

    Raises:
        UsageError: they are missing, or of another width.
    """
    convolutions = network.get_submodule("sound")
    own = convolutions.state_dict()
    given = {
        name.removeprefix("sound."): value for name, value in weights.items() if name.startswith("sound.")
    }
    wrong = [name for name, value in own.items() if name not in given or given[name].shape != value.shape]
    if wrong:
        raise UsageError(
            f"audio.pretrained: {len(wrong)} of {len(own)} tensors are missing or of another shape, the first"
            f" sound.{wrong[0]} ({tuple(own[wrong[0]].shape)}); expected a branch of the same width"
        )
    convolutions.load_state_dict(given)


def _train(
    branch: SoundBranchNet,
    intervals: Intervals,
    config: AudioConfig,
    rng: np.random.Generator,
    scene_weight: float,
    progress: Progress | None,
) -> SoundBranchNet:
    per_epoch = math.ceil(len(intervals) / config.batch_size)
    steps = per_epoch * config.epochs
    order = np.arange(len(intervals))

    def loss_of(step: int) -> Tensor | None:
        nonlocal order
        if step % per_epoch == 0:
            order = rng.permutation(len(intervals))
        begin = step % per_epoch * config.batch_size
        rows = order[begin : begin + config.batch_size]
        if len(rows) < 2:  # batch norm needs two
            return None
        return _loss(branch, intervals, rows, rng, scene_weight)

    fit_one_cycle(
        branch,
        loss_of,
        steps,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        what="sound branch",
        option="audio.learning_rate",
        progress=progress,
    )
    return branch


def _loss(
    branch: SoundBranchNet,
    intervals: Intervals,
    rows: np.ndarray[tuple[int], np.dtype[np.int64]],
    rng: np.random.Generator,
    scene_weight: float,
) -> Tensor:
    features, log_mel, is_heard = intervals.inputs(rows, rng.uniform(-0.05, 0.05, len(rows)))
    actions, scenes = branch(features, _augmented(log_mel, branch.mel_mean, rng), is_heard)
    loss = action_loss(actions, intervals.actions[rows])
    if scenes.shape[1]:
        loss = loss + scene_weight * scene_loss(scenes, intervals.scenes[rows])
    return loss


def _augmented(log_mel: Tensor, mean: Tensor, rng: np.random.Generator) -> Tensor:
    """Change the loudness, and hide some frames and some bands by the mean."""
    count, _, num_frames, num_bands = log_mel.shape
    floor = log_mel[:, :1].amin()
    gains = torch.from_numpy(rng.uniform(-_GAIN, _GAIN, (count, 1, 1, 1)).astype(np.float32))
    changed = log_mel.clone()
    changed[:, :1] = (log_mel[:, :1] + gains).clamp(min=float(floor))
    for row in range(count):
        length = int(rng.uniform(0, _MASKED[0]) * num_frames)
        height = int(rng.uniform(0, _MASKED[1]) * num_bands)
        begin, low = int(rng.integers(num_frames - length + 1)), int(rng.integers(num_bands - height + 1))
        changed[row, :, begin : begin + length] = mean
        changed[row, :, :, low : low + height] = mean[:, :, low : low + height]
    return changed
