"""Values exchanged between the stages: scores of intervals, segments, scenes, results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

BACKGROUND = "background"
"""Reserved name of the last action index of a softmax head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One action instance: `label` from `start_seconds` to `end_seconds` with confidence `score`.

    Raises:
        ValueError: a bound or the score is not finite, or the segment is empty or negative.
    """

    label: str
    start_seconds: float
    end_seconds: float
    score: float = 1.0

    def __post_init__(self) -> None:
        bounds = (self.start_seconds, self.end_seconds, self.score)
        if not math.isfinite(sum(bounds)):
            raise ValueError(f"segment {self.label!r} has a bound or score that is not finite: {bounds}")
        if not 0 <= self.start_seconds < self.end_seconds:
            raise ValueError(
                f"segment {self.label!r} must satisfy 0 <= start < end, got "
                f"[{self.start_seconds}, {self.end_seconds}]"
            )


def by_time(segments: Iterable[Segment]) -> list[Segment]:
    """Return segments in order of start and end."""
    return sorted(segments, key=lambda segment: (segment.start_seconds, segment.end_seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalScores:
    """Class probabilities of the classified intervals of one video, or of cells computed from them.

    Args:
        indices: (K,) int64, strictly increasing; cell k is [k*s, (k+1)*s) seconds, interval k is
            [k*s, k*s + t) seconds.
        action: (K, A) float32; a softmax head has the background last.
        scene: (K, S) float32, or None for a model without scene head.
        breaks: numbers k such that a gap in the video lies between k - 1 and k.
    """

    indices: npt.NDArray[np.int64]
    action: npt.NDArray[np.float32]
    scene: npt.NDArray[np.float32] | None = None
    breaks: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        count = len(self.indices)
        if self.action.ndim != 2 or len(self.action) != count:
            raise ValueError(f"action scores: expected ({count}, A), got {self.action.shape}")
        if self.scene is not None and (self.scene.ndim != 2 or len(self.scene) != count):
            raise ValueError(f"scene scores: expected ({count}, S), got {self.scene.shape}")
        if np.any(np.diff(self.indices) <= 0):
            raise ValueError("interval indices must be strictly increasing")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameScores:
    """Class probabilities of the frames of one video, and the other outputs of a temporal head.

    Args:
        indices: (F,) int64, strictly increasing; frame k covers [k*step, (k + 1)*step) seconds. Frames
            before and after a missing number are not joined.
        step_seconds: t/T, interval between frames.
        action: (F, A) float32; a softmax head has the background last.
        actionness: (F,) float32, probability that any action happens, or None.
        distances: (F, 2) float32, seconds from the middle of the frame to the start and to the end of its
            action, or None.
        breaks: numbers k such that a gap in the video lies between k - 1 and k.

    Raises:
        ValueError: the shapes do not fit, or the step is not above 0.
    """

    indices: npt.NDArray[np.int64]
    step_seconds: float
    action: npt.NDArray[np.float32]
    actionness: npt.NDArray[np.float32] | None = None
    distances: npt.NDArray[np.float32] | None = None
    breaks: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        count = len(self.indices)
        if not 0 < self.step_seconds < math.inf:
            raise ValueError(f"step {self.step_seconds:g}: expected seconds, more than 0")
        if self.action.ndim != 2 or len(self.action) != count:
            raise ValueError(f"action scores of frames: expected ({count}, A), got {self.action.shape}")
        if self.actionness is not None and self.actionness.shape != (count,):
            raise ValueError(f"actionness: expected ({count},), got {self.actionness.shape}")
        if self.distances is not None and self.distances.shape != (count, 2):
            raise ValueError(f"distances: expected ({count}, 2), got {self.distances.shape}")
        if np.any(np.diff(self.indices) <= 0):
            raise ValueError("frame indices must be strictly increasing")

    def __len__(self) -> int:
        """Return F."""
        return len(self.indices)

    @property
    def pieces(self) -> Iterator[slice]:
        """Yield the rows of each piece between gaps, in order of time."""
        broken = (np.diff(self.indices) != 1) | np.isin(self.indices[1:], sorted(self.breaks))
        borders = [0, *(np.flatnonzero(broken) + 1).tolist(), len(self.indices)]
        return (slice(start, stop) for start, stop in pairwise(borders) if stop > start)

    def rows(self, rows: slice) -> FrameScores:
        """Return consecutive frames of one piece, as views."""
        return FrameScores(
            indices=self.indices[rows],
            step_seconds=self.step_seconds,
            action=self.action[rows],
            actionness=None if self.actionness is None else self.actionness[rows],
            distances=None if self.distances is None else self.distances[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFeatures:
    """Pooled features of the frames of one video.

    Args:
        indices: (F,) int64, strictly increasing; frame k covers [k*step, (k + 1)*step) seconds.
        step_seconds: t/T, interval between frames.
        values: (F, D) float32.

    Raises:
        ValueError: the shapes do not fit.
    """

    indices: npt.NDArray[np.int64]
    step_seconds: float
    values: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or len(self.values) != len(self.indices):
            raise ValueError(f"features: expected ({len(self.indices)}, D), got {self.values.shape}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneScore:
    """Probability of one scene label for a whole video."""

    label: str
    score: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.score):
            raise ValueError(f"scene {self.label!r}: score {self.score} is not finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Segments and scenes of one video.

    Args:
        segments: actions in order of time.
        scenes: scene scores in any order; empty for a model without scene head.
        interval_seconds: t, the length of the classified intervals.
        num_intervals: number of classified intervals.
        duration_seconds: L, computed from the frames.
        complete: False if the video is truncated and only its first part was analysed; None: unknown, as for
            a file of another tool, where 0 as length, duration or number also means unknown.
        gaps: [start, end) in seconds of stretches longer than t without a frame.
        corrupt_frames: number of frames that the decoder marked as damaged.
        warnings: messages of one line each.
        discontinuities: seconds at which the clock of the video restarts; no segment crosses one.
        stride_seconds: distance between the starts of overlapping intervals; 0 if they do not overlap.
        scores: scores from which the segments were made, smoothed if smoothing is enabled: of intervals, or,
            if these overlap, of cells of `cell_seconds`, each the mean of the intervals that cover it.
            None if the segments were read from a file. Not written to files, ignored by `==`.
        frames: scores of the frames, if the segments were made from them. Not written, ignored by `==`.
        features: features of the frames, if the run keeps them. Not written, ignored by `==`.
        members: results of the members of an ensemble before fusion, None for a member without a result;
            empty for a single model. Not written, ignored by `==`.
    """

    video_id: str
    segments: tuple[Segment, ...]
    scenes: tuple[SceneScore, ...]
    interval_seconds: float
    num_intervals: int
    duration_seconds: float
    complete: bool | None
    gaps: tuple[tuple[float, float], ...]
    corrupt_frames: int
    warnings: tuple[str, ...]
    scores: IntervalScores | None = field(default=None, compare=False, repr=False)
    frames: FrameScores | None = field(default=None, compare=False, repr=False)
    features: FrameFeatures | None = field(default=None, compare=False, repr=False)
    members: tuple[Result | None, ...] = field(default=(), compare=False, repr=False)
    stride_seconds: float = 0.0
    discontinuities: tuple[float, ...] = ()

    @property
    def cell_seconds(self) -> float:
        """Length in seconds of the time that a row of `scores` covers."""
        return self.stride_seconds or self.interval_seconds


def all_complete(results: Iterable[Result]) -> bool | None:
    """Return whether all results with a known state are complete; None: no state is known."""
    known = [result.complete for result in results if result.complete is not None]
    return all(known) if known else None


def ranked_scenes(scenes: Iterable[SceneScore]) -> list[SceneScore]:
    """Return scenes by decreasing score, ties by name."""
    return sorted(scenes, key=lambda scene: (-scene.score, scene.label))
