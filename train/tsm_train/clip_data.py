"""Training samples: one clip per interval of the annotated videos, with its action and its scene."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from tsm_runtime.annotations import interval_label
from tsm_runtime.clips import count_intervals, frame_indices
from tsm_runtime.errors import UsageError
from tsm_runtime.segments import BACKGROUND
from tsm_train.augment import augment_clip
from tsm_train.config import Config
from tsm_train.data.video import TrainingVideo
from tsm_train.frame_cache import CachedVideo

__all__ = ["NO_SCENE", "ClipDataset", "EpochSampler", "Labels", "stored_size"]

NO_SCENE = -1
"""Target of a video without scene: left out of the scene loss."""

Sample = tuple[Tensor, int, int]


@dataclass(frozen=True, slots=True)
class Labels:
    """Names of both heads' outputs, in order. Of a softmax head `actions` ends with the background.

    Raises:
        ValueError: there is no action, or the background is not the last.
    """

    actions: tuple[str, ...]
    scenes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.actions or self.actions[0] == BACKGROUND or BACKGROUND in self.actions[:-1]:
            raise ValueError(f"expected at least one action, then {BACKGROUND!r}, got {self.actions}")

    @property
    def head(self) -> Literal["softmax", "sigmoid"]:
        """Kind of the action head that has these outputs."""
        return "softmax" if self.actions[-1] == BACKGROUND else "sigmoid"


def stored_size(size: int) -> int:
    """Return the edge at which frames are stored: an eighth more than the model's, as room for crops."""
    return size + size // 8


class EpochSampler(Sampler[tuple[int, int]]):
    """All samples once per epoch in random order, as (epoch, index): chance depends on nothing else."""

    def __init__(self, num_samples: int, seed: int) -> None:
        self.num_samples = num_samples
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration; the training loop calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.num_samples)
        return ((self.epoch, int(index)) for index in order)


class ClipDataset(Dataset[Sample]):
    """Clips of intervals: item (epoch, index) -> (T, size, size, 3) uint8, action index, scene index.

    Args:
        videos: annotations and stored frames of each video, in the same order.
        labels: names of the outputs.
        config: the run.
    """

    def __init__(
        self, videos: Sequence[tuple[TrainingVideo, CachedVideo]], labels: Labels, config: Config
    ) -> None:
        self._videos = list(videos)
        self._action_index = {label: i for i, label in enumerate(labels.actions)}
        self._scene_index = {label: i for i, label in enumerate(labels.scenes)}
        self._config = config
        t = config.clip.interval_seconds
        self._samples = [
            (v, k)
            for v, (_, cached) in enumerate(self._videos)
            for k in range(count_intervals(cached.duration_seconds, t))
        ]
        if not self._samples:
            raise UsageError(f"no training video is as long as one interval of {t:g} s")

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, item: tuple[int, int]) -> Sample:
        epoch, index = item
        rng = np.random.default_rng((self._config.train.seed, epoch, index))
        video, interval = self._samples[index]
        annotation, cached = self._videos[video]
        clip, t = self._config.clip, self._config.clip.interval_seconds
        start = self._jittered_start(interval, cached.duration_seconds, rng)
        moments = self._config.clip_spec.moments_from(start)
        frames = torch.from_numpy(cached.frames[frame_indices(cached.times, moments)])
        picture = augment_clip(frames, clip.size, self._config.augment, rng)
        action = interval_label(annotation.segments, start, start + t)
        scene = NO_SCENE if annotation.scene is None else self._scene_index[annotation.scene]
        return picture, self._action_index[action], scene

    def _jittered_start(self, interval: int, duration_seconds: float, rng: np.random.Generator) -> float:
        t, jitter = self._config.clip.interval_seconds, self._config.augment.time_jitter
        start = (interval + rng.uniform(-jitter, jitter)) * t
        return float(min(max(start, 0.0), duration_seconds - t))
