"""Which labels an interval has, and the settings that turn scores into segments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.clips.spec import TIME_TOLERANCE_SECONDS
from tsm_runtime.results import BACKGROUND, Segment

_LONGEST_SECONDS = 1e6
"""Upper limit in seconds, about eleven days: no arithmetic on it overflows."""


class LabelRule:
    """Decides which labels an interval has.

    Args:
        labels: A action labels.
        thresholds: one per label of a sigmoid head: an interval has every label whose score reaches its
            threshold, compared in float32. Empty for a softmax head: an interval has the label with the
            highest score (the first of equal scores), unless that is `BACKGROUND`.

    Raises:
        ValueError: there are thresholds, but not one for each label.
    """

    def __init__(self, labels: Sequence[str], thresholds: Sequence[float] = ()) -> None:
        if len(thresholds) not in (0, len(labels)):
            raise ValueError(f"{len(thresholds)} thresholds for {len(labels)} labels")
        self._labels = tuple(labels)
        self._thresholds = np.array(thresholds, np.float32)

    def __call__(self, scores: npt.NDArray[np.float32]) -> list[int]:
        """Return the indices of the labels, increasing, of scores (A,)."""
        if len(self._thresholds):
            return [int(label) for label in np.flatnonzero(scores >= self._thresholds)]
        best = int(scores.argmax())
        return [] if self._labels[best] == BACKGROUND else [best]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRules:
    """How scores become segments.

    Args:
        thresholds: one per label of a sigmoid head; empty for a softmax head.
        smoothing_seconds: width of a centred moving average of the scores; 0: none.
        min_duration_seconds: shorter segments are dropped; 0: none.

    Raises:
        ValueError: a value is out of range.
    """

    thresholds: tuple[float, ...] = ()
    smoothing_seconds: float = 0.0
    min_duration_seconds: float = 0.0

    def __post_init__(self) -> None:
        for threshold in self.thresholds:
            if not 0 < threshold <= 1:
                raise ValueError(f"threshold {threshold:g}: expected more than 0, at most 1")
        for name in ("smoothing", "min_duration"):
            seconds: float = getattr(self, f"{name}_seconds")
            if not 0 <= seconds < math.inf:
                raise ValueError(f"{name.replace('_', '-')} {seconds:g}: expected seconds, 0 or more")
            if seconds > _LONGEST_SECONDS:
                raise ValueError(
                    f"{name.replace('_', '-')} {seconds:g}: expected {_LONGEST_SECONDS:g} at most"
                )

    def keeps(self, segment: Segment) -> bool:
        """Whether a segment is long enough."""
        seconds = segment.end_seconds - segment.start_seconds
        return seconds >= self.min_duration_seconds - TIME_TOLERANCE_SECONDS
