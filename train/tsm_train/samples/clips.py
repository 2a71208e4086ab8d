"""Training samples: one clip per interval of the annotated videos, with its action and its scene."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tsm_runtime.clips.spec import TIME_TOLERANCE_SECONDS, count_intervals
from tsm_runtime.errors import UsageError
from tsm_runtime.results import BACKGROUND, Segment
from tsm_train.config import Config
from tsm_train.data.interval_labels import interval_coverage, interval_label
from tsm_train.data.video import TrainingVideo
from tsm_train.samples.augment import augment_clip
from tsm_train.samples.stored_video import StoredVideo
from tsm_train.sections.network import ModelConfig
from tsm_train.sections.training import AugmentConfig

NO_SCENE = -1
"""Target of a video without scene: left out of the scene loss."""

NO_FRAME = -100
"""Target of a frame too near to the start or end of an action: left out of the per-frame loss."""

_TOLERANCE_SECONDS = 1e-9

Sample = tuple[Tensor, int | Tensor, int] | tuple[Tensor, int | Tensor, int, Tensor]


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

    @classmethod
    def of(cls, actions: Iterable[str], scenes: Iterable[str], model: ModelConfig) -> Labels:
        """Return the outputs of a model for these labels: background last, no scenes where it has no head."""
        background = (BACKGROUND,) if model.head == "softmax" else ()
        return cls((*actions, *background), tuple(scenes) if model.scene_head else ())

    @property
    def head(self) -> Literal["softmax", "sigmoid"]:
        """Kind of the action head that has these outputs."""
        return "softmax" if self.actions[-1] == BACKGROUND else "sigmoid"


def covering_labels(segments: Iterable[Segment], start_seconds: float, end_seconds: float) -> frozenset[str]:
    """Return what a sigmoid head is to learn for [start, end): all labels that cover at least half of it."""
    least = (end_seconds - start_seconds) / 2 - _TOLERANCE_SECONDS
    coverage = interval_coverage(segments, start_seconds, end_seconds)
    return frozenset(label for label, seconds in coverage.items() if seconds >= least)


def interval_targets(
    segments: Sequence[Segment],
    middles: npt.NDArray[np.float64],
    interval_seconds: float,
    labels: Labels,
) -> Tensor:
    """Return the action targets of intervals by their middles: (N,) indices, or (N, A) zeros and ones."""
    index = {label: number for number, label in enumerate(labels.actions)}
    half = interval_seconds / 2
    bounds = [(middle - half, middle + half) for middle in middles.tolist()]
    if labels.head == "softmax":
        return torch.tensor([index[interval_label(segments, *bound)] for bound in bounds])
    target = torch.zeros(len(bounds), len(index))
    for row, bound in enumerate(bounds):
        for label in covering_labels(segments, *bound):
            if label in index:
                target[row, index[label]] = 1.0
    return target


class ClipDataset(Dataset[Sample]):
    """Clips of intervals: item (epoch, index) -> (T, size, size, 3) uint8, action target, scene index.

    Of models of sound alone a clip is (T, F, M, C). The action target is an index for a softmax head, (A,)
    float32 of zeros and ones for a sigmoid head. With `train.frame_loss` a sample also has the targets of its
    T frames, see `losses.frame_loss`.

    Args:
        videos: annotations and stored frames of each video, in the same order.
        labels: names of the outputs.
        config: the run.

    Raises:
        UsageError: no video is as long as one interval, or a label to be flipped is none of the run's.
    """

    def __init__(
        self, videos: Sequence[tuple[TrainingVideo, StoredVideo]], labels: Labels, config: Config
    ) -> None:
        self._videos = list(videos)
        self._action_index = {label: i for i, label in enumerate(labels.actions)}
        self._scene_index = {label: i for i, label in enumerate(labels.scenes)}
        self._is_softmax = labels.head == "softmax"
        self._config = config
        self._mirrored = _mirrored_labels(config.augment, labels)
        t, slack = config.clip.interval_seconds, TIME_TOLERANCE_SECONDS
        self._samples = [
            (v, k)
            for v, (_, stored) in enumerate(self._videos)
            for k in range(count_intervals(stored.duration_seconds, t))
            if not any(k * t + slack < cut < (k + 1) * t - slack for cut in stored.cuts)
        ]
        if not self._samples:
            raise UsageError(f"no training video is as long as one interval of {t:g} s")

    def __len__(self) -> int:
        return len(self._samples)

    def classes(self) -> list[str]:
        """Class of each sample, as its interval is labelled without jitter; see `sampling.EpochSampler`.

        Of several actions the one that is rarest in all samples.
        """
        t = self._config.clip.interval_seconds
        found = [self._labels_at(v, k * t) for v, k in self._samples]
        count = Counter(label for labels in found for label in labels)
        return [min(labels, key=lambda x: (count[x], x)) if labels else BACKGROUND for labels in found]

    def __getitem__(self, item: tuple[int, int]) -> Sample:
        epoch, index = item
        rng = np.random.default_rng((self._config.train.seed, epoch, index))
        v, interval = self._samples[index]
        video, stored = self._videos[v]
        start = self._jittered_start(interval, stored, rng)
        middle = start + self._config.clip.interval_seconds / 2
        frames = torch.from_numpy(stored.read(stored.frames_at(self._moments(start, rng), middle)))
        labels = self._labels_at(v, start)
        frame_labels = self._frame_labels_at(v, start) if self._config.train.frame_loss else []
        seen = labels.union(*(each for each in frame_labels if each is not None))
        may_flip = all(self._mirrored.get(label, label) is not None for label in seen)
        picture, flipped = augment_clip(
            frames, self._config.clip_spec.size, self._config.augment, rng, may_flip=may_flip
        )
        if flipped:
            labels = self._mirror(labels)
            frame_labels = [None if each is None else self._mirror(each) for each in frame_labels]
        scene = self._scene_index.get(video.scene, NO_SCENE) if video.scene is not None else NO_SCENE
        if not frame_labels:
            return picture, self._target(labels), scene
        targets = torch.stack([self._frame_target(each) for each in frame_labels])
        return picture, self._target(labels), scene, targets

    def _jittered_start(self, interval: int, stored: StoredVideo, rng: np.random.Generator) -> float:
        t, jitter = self._config.clip.interval_seconds, self._config.augment.time_jitter
        start = (interval + rng.uniform(-jitter, jitter)) * t
        begin, end = stored.piece_at((interval + 0.5) * t)
        return float(min(max(start, begin), end - t))

    def _moments(self, start: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Return the (T,) times of the frames of the interval that begins at `start`, in seconds."""
        spec, jitter = self._config.clip_spec, self._config.augment.frame_jitter
        moments = spec.moments_from(start)
        if jitter:
            reach = jitter / 2 * spec.window_seconds / spec.num_frames
            moments += rng.uniform(-reach, reach, spec.num_frames)
        return moments

    def _labels_at(self, v: int, start: float) -> frozenset[str]:
        """Return the labels of the interval that begins at `start`; of a softmax head one label."""
        return self._labels_between(v, start, start + self._config.clip.interval_seconds)

    def _labels_between(self, v: int, start: float, end: float) -> frozenset[str]:
        segments = self._videos[v][0].segments
        if self._is_softmax:
            return frozenset([interval_label(segments, start, end)])
        return covering_labels(segments, start, end)

    def _frame_labels_at(self, v: int, start: float) -> list[frozenset[str] | None]:
        """Return the labels of the T slices of the window at `start`; None: a bound is too near."""
        spec, tolerance = self._config.clip_spec, self._config.train.frame_tolerance_seconds
        half = spec.window_seconds / spec.num_frames / 2
        segments = self._videos[v][0].segments
        bounds = [x for s in segments for x in (s.start_seconds, s.end_seconds)]
        return [
            None
            if any(abs(moment - bound) < tolerance for bound in bounds)
            else self._labels_between(v, moment - half, moment + half)
            for moment in spec.moments_from(start).tolist()
        ]

    def _mirror(self, labels: frozenset[str]) -> frozenset[str]:
        return frozenset(self._mirrored.get(label) or label for label in labels)

    def _frame_target(self, labels: frozenset[str] | None) -> Tensor:
        if labels is None:
            return (
                torch.tensor(NO_FRAME)
                if self._is_softmax
                else torch.full((len(self._action_index),), math.nan)
            )
        return torch.as_tensor(self._target(labels))

    def _target(self, labels: frozenset[str]) -> int | Tensor:
        if self._is_softmax:
            return self._action_index[next(iter(labels))]
        target = torch.zeros(len(self._action_index))
        target[[self._action_index[label] for label in labels]] = 1.0
        return target


def _mirrored_labels(config: AugmentConfig, labels: Labels) -> dict[str, str | None]:
    """Return what labels become in a mirrored clip; None: they have no meaning there."""
    named = [*config.never_flip, *(label for pair in config.flip_pairs for label in pair)]
    for label in named:
        if label not in labels.actions or label == BACKGROUND:
            near = difflib.get_close_matches(label, labels.actions, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(labels.actions)}"
            raise UsageError(f"augment.flip_pairs / never_flip: no action {label!r} in the data; {hint}")
    swapped = {a: b for pair in config.flip_pairs for a, b in (pair, pair[::-1])}
    return {**swapped, **dict.fromkeys(config.never_flip)}
