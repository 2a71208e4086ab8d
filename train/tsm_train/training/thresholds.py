"""Thresholds of a sigmoid head: for each action the one with the best F1 on the validation intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tsm_runtime.results import IntervalScores, Result
from tsm_runtime.segments.find import merge_intervals
from tsm_runtime.segments.rules import SegmentRules
from tsm_train.data.video import TrainingVideo
from tsm_train.samples.clips import covering_labels

UNKNOWN_THRESHOLD = 0.5
"""Of an action that no validation interval has."""

_LEAST = 1e-6  # a threshold of 0 would find the action everywhere


def choose_thresholds(
    videos: Iterable[TrainingVideo],
    results: Mapping[str, Result],
    labels: Sequence[str],
    cell_seconds: float,
) -> tuple[float, ...]:
    """Choose the thresholds of all actions.

    They are chosen on the same videos that score the epoch, so its mAP is a little better than on others.

    Args:
        videos: annotated; one without a result is left out.
        results: by video id, with the scores of the intervals.
        labels: A actions in the order of the scores.
        cell_seconds: length of what the scores are of: intervals or cells that do not overlap.
    """
    scores = {video_id: result.scores for video_id, result in results.items() if result.scores is not None}
    return thresholds_of_scores(videos, scores, labels, cell_seconds)


def thresholds_of_scores(
    videos: Iterable[TrainingVideo],
    scores_of: Mapping[str, IntervalScores],
    labels: Sequence[str],
    cell_seconds: float,
) -> tuple[float, ...]:
    """Choose as `choose_thresholds`, from the scores of each video's cells by video id."""
    scores, truth = [np.empty((0, len(labels)), np.float32)], [np.empty((0, len(labels)), bool)]
    for video in videos:
        cells = scores_of.get(video.video_id)
        if cells is None:
            continue
        numbers, s = cells.indices.tolist(), cell_seconds
        covering = [covering_labels(video.segments, k * s, (k + 1) * s) for k in numbers]
        scores.append(cells.action)
        truth.append(np.array([[label in there for label in labels] for there in covering]))
    all_scores, all_truth = np.concatenate(scores), np.concatenate(truth)
    return tuple(best_threshold(all_scores[:, i], all_truth[:, i]) for i in range(len(labels)))


def best_threshold(scores: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_]) -> float:
    """Return the threshold of one action with the highest F1; of equal ones the highest.

    It lies in the middle between the lowest score that is found and the next one below.

    Args:
        scores: (K,) of intervals.
        truth: (K,) whether an interval has the action.
    """
    if not truth.any():
        return UNKNOWN_THRESHOLD
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order].astype(np.float64)
    found = np.arange(1, len(ordered) + 1)
    # F1 = 2 TP / (found + true); equal scores can only be found together.
    f1 = 2 * np.cumsum(truth[order]) / (found + truth.sum())
    f1[:-1][ordered[:-1] == ordered[1:]] = -1
    last = int(f1.argmax())
    below = ordered[last + 1] if last + 1 < len(ordered) else 0.0
    return float(np.clip((ordered[last] + below) / 2, _LEAST, 1.0))


def apply_rules(result: Result, labels: Sequence[str], rules: SegmentRules, cell_seconds: float) -> Result:
    """Return a result with the segments that thresholds and shortest duration make of its scores.

    The scores of a result are smoothed already, and are not smoothed again.
    """
    if result.scores is None:
        raise ValueError(f"{result.video_id}: a result without scores")
    segments = merge_intervals(result.scores, labels, cell_seconds, rules.thresholds)
    return replace(result, segments=tuple(segment for segment in segments if rules.keeps(segment)))
