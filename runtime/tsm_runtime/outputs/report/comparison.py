"""Two sets of predictions for the same truth, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tsm_runtime.evaluation.protocol import Evaluation
from tsm_runtime.outputs.report.content import MemberSegments, VideoReport
from tsm_runtime.results import Segment

_MOST_CLASSES = 10
"""Number of listed classes, those with the largest difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherRun:
    """Predictions to compare with.

    Args:
        name, own_name: names of these and of the page's own predictions.
        predictions: predictions per video id.
        evaluation: their evaluation, at the same thresholds.
    """

    name: str
    own_name: str
    predictions: Mapping[str, Sequence[Segment]]
    evaluation: Evaluation


def beside(
    videos: Sequence[VideoReport], other: OtherRun, *, max_segments: int = 200
) -> tuple[VideoReport, ...]:
    """Return the videos with the other predictions of highest score in a separate lane."""
    shown = []
    for video in videos:
        best = sorted(other.predictions.get(video.result.video_id, ()), key=lambda s: -s.score)[:max_segments]
        ordered = tuple(sorted(best, key=lambda s: (s.start_seconds, s.end_seconds, s.label)))
        lane = MemberSegments(name=other.name, segments=ordered)
        shown.append(replace(video, name=other.own_name, members=(*video.members, lane)))
    return tuple(shown)


def differences(own: Evaluation, other: OtherRun) -> tuple[str, ...]:
    """Return a line for the mean and for each of the classes that differ most, in percent."""
    first, second = other.own_name, other.name
    lines = [
        f"{first} against {second}: average mAP {100 * own.average_map:.1f} % against"
        f" {100 * other.evaluation.average_map:.1f} %"
    ]
    means = {label: (_mean(ap), _mean(other.evaluation.ap[label])) for label, ap in own.ap.items()}
    ranked = sorted(means.items(), key=lambda item: -abs(item[1][0] - item[1][1]))
    for label, (one, two) in ranked[:_MOST_CLASSES]:
        if round(1000 * one) != round(1000 * two):
            lines.append(f"{label}: {100 * one:.1f} % against {100 * two:.1f} %")
    return tuple(lines)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
