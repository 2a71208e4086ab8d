"""Windows of whole videos, as a temporal head is trained on them: random place, random speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tsm_train.head.features import FrameSequence
from tsm_train.samples.clips import NO_FRAME

Numbers = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """A batch of windows of L frames.

    Args:
        features: (N, L, D) float32.
        mask: (N, L, 1), 0 where a video was shorter.
        action: (N, L) int64 with `NO_FRAME`, or (N, L, A) float32 with nan, where there is no frame.
        actionness: (N, L).
        distances: (N, L, 2) seconds, nan where there is no action.
    """

    features: Tensor
    mask: Tensor
    action: Tensor
    actionness: Tensor
    distances: Tensor


def draw_windows(
    sequences: Sequence[FrameSequence],
    num_windows: int,
    num_frames: int,
    speed: float,
    rng: np.random.Generator,
) -> Window:
    """Return random windows; long videos are drawn more often.

    A window may play up to `speed` times as fast or as slow: features are taken at the nearest frames, and
    distances shrink or grow with them.

    Args:
        sequences: of which windows are cut.
        num_windows: N.
        num_frames: L.
        speed: 1 or more; 1: as it is.
        rng: where chance comes from.
    """
    lengths = np.array([len(sequence.features) for sequence in sequences], np.float64)
    chosen = rng.choice(len(sequences), num_windows, p=lengths / lengths.sum())
    parts = [_cut(sequences[number], num_frames, speed, rng) for number in chosen]
    features, mask, action, actionness, distances = (np.stack(column) for column in zip(*parts, strict=True))
    return Window(*map(torch.from_numpy, (features, mask, action, actionness, distances)))


def _cut(
    sequence: FrameSequence, num_frames: int, speed: float, rng: np.random.Generator
) -> tuple[Numbers, Numbers, npt.NDArray[np.generic], Numbers, Numbers]:
    factor = float(np.exp(rng.uniform(-np.log(speed), np.log(speed))))
    length = len(sequence.features)
    span = num_frames * factor  # frames of the video in a window
    start = rng.uniform(0.0, max(0.0, length - span))
    places = np.floor(start + (np.arange(num_frames) + 0.5) * factor).astype(np.int64)
    places = places[places < length]
    count = len(places)
    targets = sequence.targets
    features = np.zeros((num_frames, sequence.features.shape[1]), np.float32)
    features[:count] = sequence.features[places]
    mask = np.zeros((num_frames, 1), np.float32)
    mask[:count] = 1.0
    if targets.action.ndim == 1:
        action: npt.NDArray[np.generic] = np.full(num_frames, NO_FRAME, np.int64)
    else:
        action = np.full((num_frames, targets.action.shape[1]), np.nan, np.float32)
    action[:count] = targets.action[places]
    actionness = np.full(num_frames, np.nan, np.float32)
    actionness[:count] = targets.actionness[places]
    distances = np.full((num_frames, 2), np.nan, np.float32)
    distances[:count] = targets.distances[places] / factor
    return features, mask, action, actionness, distances
