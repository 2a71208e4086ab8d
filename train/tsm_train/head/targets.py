"""What a temporal head learns of each frame: its class, whether there is an action, and the bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.results import BACKGROUND, Segment
from tsm_train.data.interval_labels import interval_label
from tsm_train.samples.clips import Labels, covering_labels


@dataclass(frozen=True, slots=True)
class FrameTargets:
    """Targets of L frames.

    Args:
        action: of a softmax head (L,) int64; of a sigmoid head (L, A) float32 of zeros and ones.
        actionness: (L,) float32, 1 where an action covers at least half of the frame.
        distances: (L, 2) float32, seconds from the frame's middle to the bounds of its action: of several the
            shortest. nan where there is none.
    """

    action: npt.NDArray[np.int64] | npt.NDArray[np.float32]
    actionness: npt.NDArray[np.float32]
    distances: npt.NDArray[np.float32]


def frame_targets(
    segments: Sequence[Segment],
    num_frames: int,
    frame_seconds: float,
    labels: Labels,
    *,
    offset_seconds: float = 0.0,
) -> FrameTargets:
    """Return the targets of frames of equal length, the first of which begins at `offset_seconds`."""
    index = {label: i for i, label in enumerate(labels.actions)}
    is_softmax = labels.head == "softmax"
    action = np.full(num_frames, index.get(BACKGROUND, 0), np.int64)
    several = np.zeros((num_frames, len(index)), np.float32)
    actionness = np.zeros(num_frames, np.float32)
    distances = np.full((num_frames, 2), math.nan, np.float32)
    for k, touching in _touching(segments, num_frames, frame_seconds, offset_seconds).items():
        start = offset_seconds + k * frame_seconds
        present = _labels_of(touching, start, start + frame_seconds, is_softmax=is_softmax)
        if not present:
            continue
        actionness[k] = 1.0
        distances[k] = _distances(touching, present, start + frame_seconds / 2)
        action[k] = index[min(present)]
        several[k, [index[label] for label in present]] = 1.0
    return FrameTargets(action if is_softmax else several, actionness, distances)


def _touching(
    segments: Sequence[Segment], num_frames: int, frame_seconds: float, offset: float
) -> dict[int, list[Segment]]:
    """Return for each frame, if there are any, the segments that reach into it."""
    found: dict[int, list[Segment]] = {}
    for segment in segments:
        first = max(0, math.floor((segment.start_seconds - offset) / frame_seconds))
        last = min(num_frames, math.ceil((segment.end_seconds - offset) / frame_seconds))
        for k in range(first, last):
            found.setdefault(k, []).append(segment)
    return found


def _labels_of(segments: Sequence[Segment], start: float, end: float, *, is_softmax: bool) -> frozenset[str]:
    if is_softmax:
        return frozenset([interval_label(segments, start, end)]) - {BACKGROUND}
    return covering_labels(segments, start, end)


def _distances(segments: Sequence[Segment], labels: frozenset[str], middle: float) -> tuple[float, float]:
    """Return the seconds to the bounds of the shortest segment with one of the labels."""
    own = [segment for segment in segments if segment.label in labels]
    shortest = min(own, key=lambda s: (s.end_seconds - s.start_seconds, s.start_seconds))
    return max(0.0, middle - shortest.start_seconds), max(0.0, shortest.end_seconds - middle)
