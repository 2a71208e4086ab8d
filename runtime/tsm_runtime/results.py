"""The values that travel between the stages: scores of intervals, segments, scenes, results."""

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
        if not all(math.isfinite(value) for value in bounds):
            raise ValueError(f"segment {self.label!r} has a bound or score that is not finite: {bounds}")
        if not 0 <= self.start_seconds < self.end_seconds:
            raise ValueError(
                f"segment {self.label!r} must satisfy 0 <= start < end, got "
                f"[{self.start_seconds}, {self.end_seconds}]"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalScores:
    """Class probabilities of the classified intervals of one video, or of cells that they were made into.

    Args:
        indices: (K,) int64, strictly increasing; cell k is [k*s, (k+1)*s) seconds, and so is interval k where
            intervals do not overlap; else it is [k*s, k*s + t).
        action: (K, A) float32; of a softmax head the background is last.
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
    """Class probabilities of the frames of one video, with what a temporal head adds to them.

    Args:
        indices: (F,) int64, strictly increasing; frame k stands for [k*step, (k + 1)*step) seconds. Frames
            before and after a missing number are not joined.
        step_seconds: t/T, from one frame to the next.
        action: (F, A) float32; of a softmax head the background is last.
        actionness: (F,) float32, probability that any action happens, or None.
        distances: (F, 2) float32, seconds from the middle of the frame back to the start and on to the end of
            its action, or None.
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
        """The rows between gaps, in order of time."""
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
class SceneScore:
    """Probability of one scene label for a whole video."""

    label: str
    score: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.score):
            raise ValueError(f"scene {self.label!r}: score {self.score} is not finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was found in one video.

    Args:
        segments: actions in order of time.
        scenes: scene scores in any order; empty for a model without scene head.
        interval_seconds: t, the length of the classified intervals.
        num_intervals: intervals that were classified.
        duration_seconds: L, from the frames.
        complete: False when the video broke off and only its first part was analysed; None: unknown, as of a
            file that another tool wrote. There a length, a duration and a number of 0 are unknown too.
        gaps: [start, end) in seconds where the video has no frame for longer than t.
        corrupt_frames: frames that the decoder marked as damaged.
        warnings: one line each, for a person.
        discontinuities: seconds at which the video's clock begins anew; no segment crosses one.
        stride_seconds: from the begin of one interval to that of the next, where they overlap; else 0.
        scores: what the segments were made from: smoothed if smoothing was asked for, and of intervals, or
            where these overlap of cells `cell_seconds` long, each the mean of the intervals that cover it.
            None where segments were read back from a file. Not written to files, and not part of what makes
            two results equal.
        frames: scores of the frames, where the segments were made from them. Kept as `scores` are.
        members: of an ensemble, what each member found, before fusion; None for one without a result. Kept as
            `scores` are; empty for a single model.
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
    members: tuple[Result | None, ...] = field(default=(), compare=False, repr=False)
    stride_seconds: float = 0.0
    discontinuities: tuple[float, ...] = ()

    @property
    def cell_seconds(self) -> float:
        """How long a time each row of `scores` stands for."""
        return self.stride_seconds or self.interval_seconds


def all_complete(results: Iterable[Result]) -> bool | None:
    """Return whether all results are complete, of those of which it is known; None: of none."""
    known = [result.complete for result in results if result.complete is not None]
    return all(known) if known else None


def ranked_scenes(scenes: Iterable[SceneScore]) -> list[SceneScore]:
    """Return scenes by falling score, equal ones by name."""
    return sorted(scenes, key=lambda scene: (-scene.score, scene.label))
