"""Scores of intervals to segments: argmax, merge equal neighbours, drop the background."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["BACKGROUND", "IntervalScores", "Segment", "merge_intervals"]

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
    """Class probabilities of the classified intervals of one video.

    Args:
        indices: (K,) int64, strictly increasing; interval k is [k*t, (k+1)*t) seconds.
        action: (K, A) float32, background last.
        scene: (K, S) float32, or None for a model without scene head.
        breaks: interval numbers k such that a gap in the video lies across k*t.
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


def merge_intervals(scores: IntervalScores, labels: Sequence[str], interval_seconds: float) -> list[Segment]:
    """Merge consecutive intervals of one label into segments; confidence is the maximum (paper, 3.2).

    Args:
        scores: probabilities per interval.
        labels: A action labels, `BACKGROUND` last; background gives no segment.
        interval_seconds: t.

    Returns:
        Segments in order of time. A missing interval or a break ends a segment.

    Raises:
        ValueError: the number of labels is not the number of action scores.
    """
    if scores.action.shape[1] != len(labels):
        raise ValueError(f"{scores.action.shape[1]} action scores for {len(labels)} labels")
    best = scores.action.argmax(axis=1)
    segments: list[Segment] = []
    run_start = 0
    for i in range(1, len(best) + 1):
        joined = (
            i < len(best)
            and best[i] == best[run_start]
            and scores.indices[i] == scores.indices[i - 1] + 1
            and int(scores.indices[i]) not in scores.breaks
        )
        if joined:
            continue
        label = labels[best[run_start]]
        if label != BACKGROUND:
            segments.append(
                Segment(
                    label=label,
                    start_seconds=float(scores.indices[run_start] * interval_seconds),
                    end_seconds=float((scores.indices[i - 1] + 1) * interval_seconds),
                    score=float(scores.action[run_start:i, best[run_start]].max()),
                )
            )
        run_start = i
    return segments
