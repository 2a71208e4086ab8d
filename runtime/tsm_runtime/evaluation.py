"""Evaluation by the ActivityNet protocol: mAP over temporal IoU thresholds, and scene accuracy.

Written once for training and runtime. Per class the predictions of all videos are visited by falling score.
Each one looks at the instances of its class in its video by falling tIoU; at every threshold it takes the
first that reaches the threshold and is still free, else it is a false positive. AP is the area under the
monotone envelope of precision over recall, with all points (VOC 2011 and later).

Ties: the official code leaves the order of equal scores to an unstable sort and to the order of the file, so
one set of detections has several official figures. Here equal scores are visited in the order of
(video id, start, end), and equal tIoUs in the order of (start, end): the result depends on nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tsm_runtime.errors import UsageError
from tsm_runtime.segments import Segment

__all__ = ["DEFAULT_TIOU_THRESHOLDS", "Evaluation", "evaluate", "pairwise_tiou", "scene_accuracy", "tiou"]

DEFAULT_TIOU_THRESHOLDS = (0.5, 0.75, 0.95)

_TIOU_TOLERANCE = 1e-9
"""A tIoU this far below a threshold still reaches it: bounds on a grid often give exactly 0.5 or 0.75."""

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Average precisions, all between 0 and 1.

    Args:
        tiou_thresholds: K thresholds.
        ap: per label of the truth (sorted) its K average precisions.
        map_per_tiou: K means over the labels.
        average_map: mean of `map_per_tiou`.
        num_truth: instances, zero-length ones included.
        num_predictions: predictions that were judged.
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
        """One line per kind of prediction that was ignored."""
        lines = []
        if self.ignored_labels:
            lines.append(_ignored_line("label", self.ignored_labels))
        if self.ignored_videos:
            lines.append(_ignored_line("video", self.ignored_videos))
        return tuple(lines)


def _ignored_line(kind: str, counts: Mapping[str, int]) -> str:
    names = sorted(counts)
    shown = ", ".join(repr(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")
    return (
        f"{sum(counts.values())} predictions ignored, {len(names)} {kind}(s) not in the ground truth: {shown}"
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """Segments as columns, each (N,)."""

    label: _Ints
    video: _Ints
    start: _Floats
    end: _Floats
    score: _Floats

    def take(self, rows: _Ints | slice) -> _Table:
        return _Table(self.label[rows], self.video[rows], self.start[rows], self.end[rows], self.score[rows])


def evaluate(
    truth: Mapping[str, Sequence[Segment]],
    predictions: Mapping[str, Sequence[Segment]],
    tiou_thresholds: Sequence[float] = DEFAULT_TIOU_THRESHOLDS,
    *,
    unknown_videos: Literal["ignore", "count"] = "ignore",
    empty_truth: Mapping[str, int] | None = None,
) -> Evaluation:
    """Mean average precision by the ActivityNet protocol (see the module's text for order and ties).

    Args:
        truth: instances per video id; a video without instances is given as an empty sequence, so that
            predictions in it are false positives.
        predictions: predicted segments per video id. Those with a label that the truth does not have are
            ignored; `Evaluation.ignored_labels` tells how many.
        tiou_thresholds: K numbers in (0, 1].
        unknown_videos: predictions in a video that the truth does not have are ignored
            (`Evaluation.ignored_videos` tells how many), or count as false positives, which is what the
            official code does with them.
        empty_truth: per label the number of further instances of length zero, which nothing can match but
            which count as missed, which again is what the official code does.

    Raises:
        UsageError: there is no instance in the truth, or a threshold is out of range.
    """
    thresholds = _checked_thresholds(tiou_thresholds)
    empty = dict(empty_truth or {})
    names = sorted({s.label for segments in truth.values() for s in segments} | set(empty))
    if not names:
        raise UsageError("the ground truth holds no action instance: nothing to evaluate against")
    labels = {name: index for index, name in enumerate(names)}
    judged = set(truth) | (set(predictions) if unknown_videos == "count" else set())
    videos = {name: index for index, name in enumerate(sorted(judged))}
    true = _truth_order(_to_table(truth, labels, videos))
    predicted = _visiting_order(_to_table(predictions, labels, videos))

    ap = {}
    for name, label in labels.items():
        mine = true.take(_rows_of_label(true, label))
        hits = _match(mine, predicted.take(_rows_of_label(predicted, label)), thresholds)
        ap[name] = tuple(_average_precision(hits, len(mine.label) + empty.get(name, 0)).tolist())
    map_per_tiou = np.array(list(ap.values())).mean(axis=0)
    return Evaluation(
        tiou_thresholds=tuple(thresholds.tolist()),
        ap=ap,
        map_per_tiou=tuple(map_per_tiou.tolist()),
        average_map=float(map_per_tiou.mean()),
        num_truth=len(true.label) + sum(empty.values()),
        num_predictions=len(predicted.label),
        ignored_labels=_count_unknown_labels(predictions, labels, videos),
        ignored_videos={v: len(s) for v, s in predictions.items() if v not in videos and len(s)},
    )


def _count_unknown_labels(
    predictions: Mapping[str, Sequence[Segment]], labels: Mapping[str, int], videos: Mapping[str, int]
) -> dict[str, int]:
    judged = (s.label for video, segments in predictions.items() if video in videos for s in segments)
    return dict(Counter(label for label in judged if label not in labels))


def scene_accuracy(truth: Mapping[str, str | None], predicted: Mapping[str, str]) -> float:
    """Share (0 to 1) of the videos with a true scene whose prediction equals it; without one it is wrong.

    Raises:
        UsageError: no video of the truth has a scene.
    """
    known = {video: scene for video, scene in truth.items() if scene is not None}
    if not known:
        raise UsageError('no video of the ground truth has a "scene": scene accuracy is undefined')
    return sum(predicted.get(video) == scene for video, scene in known.items()) / len(known)


def tiou(first: Segment, second: Segment) -> float:
    """Temporal intersection over union of two segments, whatever their labels; 0 when they do not overlap."""
    bounds = [np.array([x]) for s in (first, second) for x in (s.start_seconds, s.end_seconds)]
    return float(pairwise_tiou(*bounds)[0])


def pairwise_tiou(
    first_start: _Floats, first_end: _Floats, second_start: _Floats, second_end: _Floats
) -> _Floats:
    """Temporal intersection over union, elementwise; arrays broadcast, no segment may have length zero."""
    overlap = np.minimum(first_end, second_end) - np.maximum(first_start, second_start)
    intersection = np.maximum(overlap, 0.0)
    union = (first_end - first_start) + (second_end - second_start) - intersection
    return np.asarray(intersection / union, dtype=np.float64)


def _checked_thresholds(thresholds: Sequence[float]) -> _Floats:
    values = np.array([float(value) for value in thresholds])
    if values.size == 0 or not bool(np.all((values > 0) & (values <= 1))):
        raise UsageError(f"tIoU thresholds must be one or more numbers in (0, 1], got {list(thresholds)}")
    return values


def _to_table(
    segments: Mapping[str, Sequence[Segment]], labels: Mapping[str, int], videos: Mapping[str, int]
) -> _Table:
    """Columns of the segments whose label and video are known; videos are numbered in order of their ids."""
    known = [
        (labels[s.label], video, s.start_seconds, s.end_seconds, s.score)
        for video_id, video in videos.items()
        for s in segments.get(video_id, ())
        if s.label in labels
    ]
    columns = np.array(known, dtype=np.float64).reshape(-1, 5).T
    return _Table(
        columns[0].astype(np.int64), columns[1].astype(np.int64), columns[2], columns[3], columns[4]
    )


def _truth_order(table: _Table) -> _Table:
    return table.take(np.lexsort((table.end, table.start, table.video, table.label)))


def _visiting_order(table: _Table) -> _Table:
    return table.take(np.lexsort((table.end, table.start, table.video, -table.score, table.label)))


def _rows_of_label(table: _Table, label: int) -> slice:
    start, stop = np.searchsorted(table.label, [label, label + 1])
    return slice(int(start), int(stop))


def _match(true: _Table, predicted: _Table, thresholds: _Floats) -> _Bools:
    """Which predictions of one class are true positives: (P, K), rows in visiting order."""
    prediction, instance, overlap = _candidates(true, predicted, float(thresholds.min()))
    hits = np.zeros((len(predicted.label), len(thresholds)), dtype=np.bool_)
    for k, threshold in enumerate(thresholds):
        reached = overlap >= threshold - _TIOU_TOLERANCE
        matched = _take_free(prediction[reached].tolist(), instance[reached].tolist())
        hits[matched, k] = True
    return hits


def _take_free(prediction: Sequence[int], instance: Sequence[int]) -> list[int]:
    """Predictions that get an instance when, pair by pair, a free prediction takes a free instance."""
    matched = []
    last_matched = -1
    locked: set[int] = set()
    for p, i in zip(prediction, instance, strict=True):
        # The pairs of one prediction are neighbours: it is enough to remember the last that got an instance.
        if p != last_matched and i not in locked:
            locked.add(i)
            matched.append(p)
            last_matched = p
    return matched


def _candidates(true: _Table, predicted: _Table, least_tiou: float) -> tuple[_Ints, _Ints, _Floats]:
    """Pairs within one video that reach the lowest threshold, in the order of the protocol.

    Returns:
        Row of the prediction, row of the instance and their tIoU, each (pairs,): by prediction, then by
        falling tIoU, then by instance.
    """
    first = np.searchsorted(true.video, predicted.video, side="left")
    count = np.searchsorted(true.video, predicted.video, side="right") - first
    prediction = np.repeat(np.arange(len(count)), count)
    within = np.arange(len(prediction)) - np.repeat(np.cumsum(count) - count, count)
    instance = np.repeat(first, count) + within
    overlap = pairwise_tiou(
        predicted.start[prediction], predicted.end[prediction], true.start[instance], true.end[instance]
    )
    near = np.flatnonzero(overlap >= least_tiou - _TIOU_TOLERANCE)
    order = near[np.lexsort((instance[near], -overlap[near], prediction[near]))]
    return prediction[order], instance[order], overlap[order]


def _average_precision(hits: _Bools, num_truth: int) -> _Floats:
    """Area under the monotone envelope of precision over recall, per threshold.

    Args:
        hits: (P, K) in visiting order.
        num_truth: instances of the class.

    Returns:
        (K,). Recall grows by 1 / num_truth at every true positive, so the area is the mean over all instances
        of the envelope at the prediction that found it.
    """
    rank = np.arange(1, len(hits) + 1)[:, np.newaxis]
    precision = np.cumsum(hits, axis=0) / rank
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    return np.asarray((envelope * hits).sum(axis=0) / num_truth, dtype=np.float64)
