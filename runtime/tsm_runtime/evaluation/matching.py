"""Matching of predicted segments with true ones by the ActivityNet protocol.

The predictions of a class in all videos are visited by falling score. Each prediction visits the instances of
its class in its video by falling tIoU; at every threshold it takes the first free instance that reaches the
threshold, else it is a false positive. So a duplicate is false, and a prediction whose best instance is taken
falls through to the next one (unlike VOC). Source: eval_detection.py of activitynet/ActivityNet.

`modes.MatchRules` holds what the protocol leaves open (equal scores, equal tIoUs) and what evaluators change.
Average precision, its range over tie orders, bootstrap and diagnosis all start from one `Matching`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.modes import MatchRules
from tsm_runtime.evaluation.segment_table import (
    Bools,
    Floats,
    Ints,
    SegmentTable,
    cut_predictions,
    cut_truth,
    pairwise_tiou,
    to_table,
    truth_order,
    visiting_order,
)
from tsm_runtime.results import Segment

_BLOCK_PAIRS = 1 << 20
"""Pairs of prediction and instance compared at a time, which bounds the memory."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of one class and video that reach the lowest threshold, each column (M,).

    Pairs are in the order of the protocol: by prediction, then by falling tIoU.
    """

    prediction: Ints
    instance: Ints
    tiou: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """Assignment of predictions to instances.

    Args:
        labels: C classes of the truth, sorted.
        videos: V evaluated videos, sorted.
        thresholds: (K,) tIoU thresholds.
        truth: T instances by label and video.
        predictions: P predictions by label, then in the order in which they are visited.
        pairs: see `Pairs`.
        instance: (P, K) row of the instance that a prediction found, -1 for a false positive.
        empty_label: (E,) label of each instance of length zero, which no prediction can find.
        empty_video: (E,) its video, -1 if unknown.
        rules: the rules of matching.
    """

    labels: tuple[str, ...]
    videos: tuple[str, ...]
    thresholds: Floats
    truth: SegmentTable
    predictions: SegmentTable
    pairs: Pairs
    instance: npt.NDArray[np.int32]
    empty_label: Ints
    empty_video: Ints
    rules: MatchRules

    @property
    def hits(self) -> Bools:
        """Flags of the true positives, (P, K)."""
        return self.instance >= 0

    @property
    def num_truth(self) -> Ints:
        """Instances per class, (C,), zero-length ones included: the denominators of recall."""
        count = len(self.labels)
        return np.asarray(
            np.bincount(self.truth.label, minlength=count) + np.bincount(self.empty_label, minlength=count)
        )

    def reached(self, threshold: float) -> Bools:
        """Return the flags of the pairs that reach a threshold, (M,)."""
        return np.asarray(self.pairs.tiou >= threshold - self.rules.tiou_tolerance)


def match_segments(
    truth: Mapping[str, Sequence[Segment]],
    predictions: Mapping[str, Sequence[Segment]],
    thresholds: Sequence[float],
    rules: MatchRules | None = None,
    *,
    unknown_videos: bool = False,
    empty_truth: Sequence[tuple[str, str | None]] = (),
) -> Matching:
    """Match predictions with instances at each threshold.

    Args:
        truth: instances per video id; a video without instances is given as an empty sequence, so that
            predictions in it are false positives.
        predictions: predicted segments per video id; those with a label that the truth does not have are
            left out.
        thresholds: K numbers in (0, 1].
        rules: by default those of the mode "tsm".
        unknown_videos: evaluate predictions in videos that the truth does not have; else they are left out.
        empty_truth: (label, video id or None) of each instance of length zero.

    Raises:
        UsageError: there is no instance in the truth, or a threshold is out of range.
    """
    chosen = rules or MatchRules()
    levels = checked_thresholds(thresholds)
    names = sorted({s.label for segments in truth.values() for s in segments} | {x for x, _ in empty_truth})
    if not names:
        raise UsageError("the ground truth holds no action instance: nothing to evaluate against")
    labels = {name: index for index, name in enumerate(names)}
    judged = sorted(set(truth) | (set(predictions) if unknown_videos else set()))
    videos = {name: index for index, name in enumerate(judged)}
    true = truth_order(to_table(truth, labels, videos), chosen)
    predicted = visiting_order(to_table(predictions, labels, videos), chosen)
    if chosen.cut is not None:
        true, predicted = cut_truth(true, chosen.cut, judged), cut_predictions(predicted, chosen.cut)
    matching = match_tables(true, predicted, levels, chosen, labels=names, videos=judged)
    return replace(
        matching,
        empty_label=np.array([labels[label] for label, _ in empty_truth], dtype=np.int64),
        empty_video=np.array([videos.get(v, -1) if v else -1 for _, v in empty_truth], dtype=np.int64),
    )


def match_tables(
    true: SegmentTable,
    predicted: SegmentTable,
    thresholds: Floats,
    rules: MatchRules,
    *,
    labels: Sequence[str],
    videos: Sequence[str],
) -> Matching:
    """Match predictions with instances, none of length zero, at each threshold.

    Args:
        true: instances in `truth_order`.
        predicted: predictions in `visiting_order`.
        thresholds: (K,) in (0, 1].
        rules: the rules of matching; a cut is applied before.
        labels: C classes.
        videos: V videos.
    """
    pairs = _find_pairs(true, predicted, float(thresholds.min()) - rules.tiou_tolerance, rules)
    none = np.zeros(0, dtype=np.int64)
    return Matching(
        labels=tuple(labels),
        videos=tuple(videos),
        thresholds=thresholds,
        truth=true,
        predictions=predicted,
        pairs=pairs,
        instance=_match(pairs, len(predicted), len(true), thresholds, rules),
        empty_label=none,
        empty_video=none,
        rules=rules,
    )


def checked_thresholds(thresholds: Sequence[float]) -> Floats:
    """Return the thresholds as (K,).

    Raises:
        UsageError: there is none, or one is not in (0, 1].
    """
    values = np.array([float(value) for value in thresholds])
    if values.size == 0 or not bool(np.all((values > 0) & (values <= 1))):
        raise UsageError(f"tIoU thresholds must be one or more numbers in (0, 1], got {list(thresholds)}")
    return values


# --- matching -------------------------------------------------------------------------------------


def _find_pairs(true: SegmentTable, predicted: SegmentTable, least_tiou: float, rules: MatchRules) -> Pairs:
    num_videos = 1 + max(true.video.max(initial=0), predicted.video.max(initial=0))
    true_key = true.label * num_videos + true.video
    key = predicted.label * num_videos + predicted.video
    first = np.searchsorted(true_key, key, side="left")
    count = np.searchsorted(true_key, key, side="right") - first
    found = [_pairs_of(true, predicted, first, count, rows, least_tiou, rules) for rows in blocks(count)]
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return Pairs(none, none, np.zeros(0))
    return Pairs(*(np.concatenate(column) for column in zip(*found, strict=True)))


def blocks(count: Ints) -> Iterator[Ints]:
    """Yield the rows with a count, in blocks whose counts sum to about `_BLOCK_PAIRS`."""
    rows = np.flatnonzero(count)
    total = np.cumsum(count[rows])
    start = 0
    while start < len(rows):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + _BLOCK_PAIRS, side="right")))
        yield rows[start:stop]
        start = stop


def _pairs_of(
    true: SegmentTable,
    predicted: SegmentTable,
    first: Ints,
    count: Ints,
    rows: Ints,
    least_tiou: float,
    rules: MatchRules,
) -> tuple[Ints, Ints, Floats]:
    """Return pairs of some predictions; `first`, `count`: instances of each prediction's class and video."""
    counts = count[rows]
    prediction = np.repeat(rows, counts)
    within = np.arange(len(prediction)) - np.repeat(np.cumsum(counts) - counts, counts)
    instance = np.repeat(first[rows], counts) + within
    overlap = pairwise_tiou(
        predicted.start[prediction], predicted.end[prediction], true.start[instance], true.end[instance]
    )
    if rules.single_precision:
        overlap = overlap.astype(np.float32).astype(np.float64)
    near = np.flatnonzero(overlap >= least_tiou)
    order = near[np.lexsort((instance[near], -overlap[near], prediction[near]))]
    return prediction[order], instance[order], overlap[order]


def _match(
    pairs: Pairs, num_predictions: int, num_instances: int, thresholds: Floats, rules: MatchRules
) -> npt.NDArray[np.int32]:
    found = np.full((num_predictions, len(thresholds)), -1, dtype=np.int32)
    take = _take_free if rules.one_to_one else _take_best
    for k, threshold in enumerate(thresholds):
        reached = pairs.tiou >= threshold - rules.tiou_tolerance
        prediction, instance = take(pairs.prediction[reached], pairs.instance[reached], num_instances)
        found[prediction, k] = instance
    return found


def _take_free(prediction: Ints, instance: Ints, num_instances: int) -> tuple[list[int], list[int]]:
    """Assign, pair by pair, free instances to predictions that have none."""
    matched: list[int] = []
    taken: list[int] = []
    last_matched = -1
    locked = bytearray(num_instances)
    for p, i in zip(prediction.tolist(), instance.tolist(), strict=True):
        # The pairs of a prediction are adjacent, so only the last prediction with an instance is remembered.
        if p != last_matched and not locked[i]:
            locked[i] = 1
            matched.append(p)
            taken.append(i)
            last_matched = p
    return matched, taken


def _take_best(prediction: Ints, instance: Ints, num_instances: int) -> tuple[Ints, Ints]:
    """Assign to every prediction its best instance, free or not."""
    matched, first = np.unique(prediction, return_index=True)
    return matched, instance[first]
