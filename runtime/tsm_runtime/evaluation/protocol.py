"""Evaluation by the ActivityNet protocol: mAP over temporal IoU thresholds, and scene accuracy.

Training and runtime share this code. The rules are in these modules:

- matching of predictions with instances: `matching`
- average precision: `average_precision`
- equal scores, and differences of other evaluators: `modes`
- range of the result over the orders of equal scores: `tie_range`
- average recall of proposals: `recall`; confidence intervals: `bootstrap`; kinds of error: `diagnosis`

The official code leaves the order of equal scores to an unstable sort and to the order of the file, so one
set of detections has several official figures. `evaluate` visits equal scores in the order of (video id,
start, end), and equal tIoUs in the order of (start, end), so that its result is unique.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.average_precision import class_average_precision
from tsm_runtime.evaluation.matching import Matching, match_segments
from tsm_runtime.evaluation.modes import DEFAULT_TIOU_THRESHOLDS
from tsm_runtime.evaluation.segment_table import pairwise_tiou
from tsm_runtime.results import Segment
from tsm_runtime.wording import counted, first_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Average precisions, all between 0 and 1.

    Args:
        tiou_thresholds: K thresholds.
        ap: per label of the truth (sorted) its K average precisions.
        map_per_tiou: K means over the labels.
        average_map: mean of `map_per_tiou`.
        num_truth: instances, zero-length ones included.
        num_predictions: predictions that were evaluated.
        ignored_labels: number of predictions per label that the truth does not have.
        ignored_videos: number of predictions per video that the truth does not have.
    """

    tiou_thresholds: tuple[float, ...]
    ap: dict[str, tuple[float, ...]]
    map_per_tiou: tuple[float, ...]
    average_map: float
    num_truth: int
    num_predictions: int
    ignored_labels: dict[str, int]
    ignored_videos: dict[str, int]

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each kind of ignored prediction."""
        lines = []
        if self.ignored_labels:
            lines.append(_ignored_line("label", self.ignored_labels))
        if self.ignored_videos:
            lines.append(_ignored_line("video", self.ignored_videos))
        return tuple(lines)


def _ignored_line(kind: str, counts: Mapping[str, int]) -> str:
    return (
        f"{counted(sum(counts.values()), 'prediction')} ignored, {counted(len(counts), kind)}"
        f" not in the ground truth: {first_of(list(map(repr, sorted(counts))), 5)}"
    )


def evaluate(
    truth: Mapping[str, Sequence[Segment]],
    predictions: Mapping[str, Sequence[Segment]],
    tiou_thresholds: Sequence[float] = DEFAULT_TIOU_THRESHOLDS,
) -> Evaluation:
    """Return mean average precision by the ActivityNet protocol, with the rules of the mode "tsm".

    Args:
        truth: instances per video id; a video without instances is given as an empty sequence, so that
            predictions in it are false positives.
        predictions: predicted segments per video id. Those with a label or in a video that the truth does
            not have are ignored and counted in the result.
        tiou_thresholds: K numbers in (0, 1].

    Raises:
        UsageError: there is no instance in the truth, or a threshold is out of range.
    """
    return score_matching(match_segments(truth, predictions, tiou_thresholds), predictions)


def score_matching(matching: Matching, predictions: Mapping[str, Sequence[Segment]]) -> Evaluation:
    """Return the average precisions of a matching.

    Args:
        matching: from `matching.match_segments`.
        predictions: the matched predictions, used to count those left out.
    """
    ap = class_average_precision(matching)
    map_per_tiou = ap.mean(axis=0)
    return Evaluation(
        tiou_thresholds=tuple(matching.thresholds.tolist()),
        ap={label: tuple(values) for label, values in zip(matching.labels, ap.tolist(), strict=True)},
        map_per_tiou=tuple(map_per_tiou.tolist()),
        average_map=float(map_per_tiou.mean()),
        num_truth=int(matching.num_truth.sum()),
        num_predictions=len(matching.predictions),
        ignored_labels=_count_unknown_labels(predictions, set(matching.labels), set(matching.videos)),
        ignored_videos=_count_unknown_videos(predictions, set(matching.videos)),
    )


def _count_unknown_labels(
    predictions: Mapping[str, Sequence[Segment]], labels: AbstractSet[str], videos: AbstractSet[str]
) -> dict[str, int]:
    judged = (s.label for video, segments in predictions.items() if video in videos for s in segments)
    return dict(Counter(label for label in judged if label not in labels))


def _count_unknown_videos(
    predictions: Mapping[str, Sequence[Segment]], videos: AbstractSet[str]
) -> dict[str, int]:
    return {video: len(s) for video, s in predictions.items() if video not in videos and len(s)}


def scene_accuracy(truth: Mapping[str, str | None], predicted: Mapping[str, str]) -> float:
    """Return the share (0 to 1) of the videos with a true scene that are predicted right.

    A video without a predicted scene counts as wrong.

    Raises:
        UsageError: no video of the truth has a scene.
    """
    known = {video: scene for video, scene in truth.items() if scene is not None}
    if not known:
        raise UsageError('no video of the ground truth has a "scene": scene accuracy is undefined')
    return sum(predicted.get(video) == scene for video, scene in known.items()) / len(known)


def tiou(first: Segment, second: Segment) -> float:
    """Return the temporal intersection over union of two segments, 0 without overlap; labels are ignored."""
    bounds = [np.array([x]) for s in (first, second) for x in (s.start_seconds, s.end_seconds)]
    return float(pairwise_tiou(*bounds)[0])
