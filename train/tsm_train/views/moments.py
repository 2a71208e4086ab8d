"""Moments of captures: the intervals of a capture's time line, with the features of each view."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.results import Segment
from tsm_train.data.video import TrainingVideo
from tsm_train.head.features import FeatureCache, interval_means
from tsm_train.samples.clips import NO_SCENE, Labels, interval_targets

_log = logging.getLogger("tsm_runtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureMoments:
    """The moments of one capture.

    Args:
        capture: its name.
        segments: in seconds of its time line.
        scene: of the capture; None: unknown.
        indices: (K,) numbers of the intervals.
        features: (K, V, D) float32; zeros where a view is missing.
        present: (K, V) float32, 1 where a view is there.
    """

    capture: str
    segments: tuple[Segment, ...]
    scene: str | None
    indices: npt.NDArray[np.int64]
    features: npt.NDArray[np.float32]
    present: npt.NDArray[np.float32]

    def only(self, view: int) -> CaptureMoments | None:
        """Return the moments as if there were one view alone; None: it is never there."""
        rows = self.present[:, view] > 0
        if not rows.any():
            return None
        alone = (slice(None), slice(view, view + 1))
        return replace(
            self,
            indices=self.indices[rows],
            features=self.features[rows][alone],
            present=self.present[rows][alone],
        )


def read_moments(
    videos: Sequence[TrainingVideo], cache: FeatureCache, num_frames: int
) -> list[CaptureMoments]:
    """Return the moments of all captures that can be read, in order of their first video.

    Args:
        videos: of one or more captures; both eyes and windows of a panorama are views of their own.
        cache: computes the features.
        num_frames: T of a clip.
    """
    captures: dict[str, list[TrainingVideo]] = {}
    for video in videos:
        captures.setdefault(video.capture, []).append(video)
    looks = list(dict.fromkeys((video.view, video.crop) for video in videos))
    t = cache.frame_seconds * num_frames
    found = [_moments(name, of_it, looks, cache, num_frames, t) for name, of_it in captures.items()]
    return [moments for moments in found if moments is not None]


def _moments(
    capture: str,
    videos: Sequence[TrainingVideo],
    looks: Sequence[tuple[str, str]],
    cache: FeatureCache,
    num_frames: int,
    t: float,
) -> CaptureMoments | None:
    rows: dict[tuple[int, int], npt.NDArray[np.float32]] = {}
    for video in videos:
        try:
            indices, means = interval_means(cache.deployed(video), num_frames, t)
        except VideoError as error:
            _log.warning(f"the joint model does without this video: {error}")
            continue
        shift, look = round(video.offset_seconds / t), looks.index((video.view, video.crop))
        rows |= {(int(k) + shift, look): row for k, row in zip(indices, means, strict=True) if k + shift >= 0}
    if not rows:
        return None
    numbers = np.array(sorted({k for k, _ in rows}), np.int64)
    place = {int(k): row for row, k in enumerate(numbers)}
    features = np.zeros((len(numbers), len(looks), len(next(iter(rows.values())))), np.float32)
    present = np.zeros(features.shape[:2], np.float32)
    for (k, look), row in rows.items():
        features[place[k], look], present[place[k], look] = row, 1.0
    return CaptureMoments(
        capture=capture,
        segments=_segments(videos),
        scene=videos[0].scene,
        indices=numbers,
        features=features,
        present=present,
    )


def _segments(videos: Sequence[TrainingVideo]) -> tuple[Segment, ...]:
    """Return the annotations on the time line, from the longest video: those of the others are cut off."""
    longest = max(videos, key=lambda video: (video.duration_seconds or 0.0, -video.offset_seconds))
    begin = longest.offset_seconds
    return tuple(
        replace(s, start_seconds=s.start_seconds + begin, end_seconds=s.end_seconds + begin)
        for s in longest.segments
    )


@dataclass(frozen=True, slots=True)
class Moments:
    """All moments to learn from.

    Args:
        features: (K, V, D).
        present: (K, V).
        actions: (K,) indices or (K, A) zeros and ones, see `losses.action_loss`.
        scenes: (K,) indices, `NO_SCENE` where unknown.
    """

    features: Tensor
    present: Tensor
    actions: Tensor
    scenes: Tensor

    @classmethod
    def of(cls, captures: Sequence[CaptureMoments], labels: Labels, interval_seconds: float) -> Moments:
        """Join and label the moments of captures.

        Raises:
            UsageError: there is none, or no capture has several views.
        """
        if not captures:
            raise UsageError("[views]: no training video as long as one interval")
        present = np.concatenate([each.present for each in captures])
        if present.sum(axis=1).max() < 2:
            raise UsageError(
                "[views]: no moment has two views; name several in data.views, or set clip.projection"
            )
        scene_index = {label: number for number, label in enumerate(labels.scenes)}
        scenes = [scene_index.get(each.scene or "", NO_SCENE) for each in captures]
        targets = [
            interval_targets(
                each.segments,
                np.asarray((each.indices + 0.5) * interval_seconds, np.float64),
                interval_seconds,
                labels,
            )
            for each in captures
        ]
        return cls(
            torch.from_numpy(np.concatenate([each.features for each in captures])),
            torch.from_numpy(present),
            torch.cat(targets),
            torch.tensor(np.repeat(scenes, [len(each.indices) for each in captures])),
        )
