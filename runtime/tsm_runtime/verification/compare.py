"""Comparison of two models: their scores of the same clips, and their segments of one video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.evaluation.segment_table import pairwise_tiou
from tsm_runtime.results import Segment

RELATIVE_FLOOR = 0.01
"""Lower bound of the probability in a relative error: a class with less than one percent in both models
decides nothing, but 1e-9 instead of 1e-8 would be an error of 90 %."""

_LEAST_TIOU = 0.5
_TOLERANCE = 1e-9  # bounds are products k * t: half and half must not come out as just over one half


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadDifference:
    """Difference of the probabilities of one head, over all clips and classes.

    Args:
        max_abs_error: largest difference of a probability.
        max_rel_error: largest difference divided by the larger of the two probabilities, or by
            `RELATIVE_FLOOR` if that is larger.
        top1_agreement: share of clips with the same most probable class, 0 to 1.
    """

    max_abs_error: float
    max_rel_error: float
    top1_agreement: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentAgreement:
    """Number of segments that two models share.

    Args:
        num_first, num_second: number of segments of each model.
        num_shared: pairs of a segment of each with the same label whose tIoU exceeds 0.5.
    """

    num_first: int
    num_second: int
    num_shared: int

    @property
    def share(self) -> float:
        """Share of both models' segments that have a partner, 0 to 1; 1 if neither has any."""
        both = self.num_first + self.num_second
        return 2 * self.num_shared / both if both else 1.0


def compare_head(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> HeadDifference:
    """Compare two models' probabilities of one head; the comparison is symmetric.

    Args:
        first: (N, C) finite probabilities, N and C at least 1.
        second: the other model's for the same N clips.

    Raises:
        ValueError: the shapes differ or hold nothing.
    """
    if first.ndim != 2 or first.shape != second.shape or not first.size:
        raise ValueError(f"expected two equal shapes (N, C), got {first.shape} and {second.shape}")
    one, other = first.astype(np.float64), second.astype(np.float64)
    error = np.abs(one - other)
    larger = np.maximum(np.maximum(np.abs(one), np.abs(other)), RELATIVE_FLOOR)
    return HeadDifference(
        max_abs_error=float(error.max()),
        max_rel_error=float((error / larger).max()),
        top1_agreement=float((one.argmax(axis=1) == other.argmax(axis=1)).mean()),
    )


def compare_segments(first: Sequence[Segment], second: Sequence[Segment]) -> SegmentAgreement:
    """Count the segments that two models share: same label, tIoU over 0.5, each at most once.

    Segments of one model and label do not overlap. A segment with a tIoU over 0.5 with another therefore has
    no second such partner, and the pairs are one-to-one.

    Args:
        first: segments of one video as `post_processing.find_segments` gives them.
        second: the other model's of the same video.
    """
    shared = 0
    if first and second:
        starts, ends = ([_bounds(segments, i) for segments in (first, second)] for i in (0, 1))
        overlap = pairwise_tiou(starts[0][:, None], ends[0][:, None], starts[1], ends[1])
        labels = [np.array([segment.label for segment in segments]) for segments in (first, second)]
        same = labels[0][:, None] == labels[1]
        shared = int(np.count_nonzero(same & (overlap > _LEAST_TIOU + _TOLERANCE)))
    return SegmentAgreement(num_first=len(first), num_second=len(second), num_shared=shared)


def _bounds(segments: Sequence[Segment], which: int) -> npt.NDArray[np.float64]:
    return np.array([(segment.start_seconds, segment.end_seconds)[which] for segment in segments])
