"""The choice of a decoding for a temporal head, and what it is worth on videos that had no part in it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt

from tsm_runtime.evaluation.bootstrap import bootstrap_difference
from tsm_runtime.evaluation.matching import Matching, match_segments
from tsm_runtime.evaluation.protocol import score_matching
from tsm_runtime.fusion.calibration import calibration_error, fit_temperature
from tsm_runtime.results import FrameScores, Segment
from tsm_runtime.segments.decoding.decode import decode_frames
from tsm_runtime.segments.decoding.settings import Decoding, LengthPrior, SegmentScore
from tsm_runtime.segments.temperature import segment_at_temperature

TIOU_THRESHOLDS = (0.5, 0.75, 0.95)

Truth = Mapping[str, Sequence[Segment]]
Predictions = dict[str, list[Segment]]

_MOST_FOLDS = 6

_LEAST_STD_LOG = 0.2
"""Of a length prior: a few instances may happen to be of one length."""

_PRIOR_INSTANCES = 4.0
"""So many instances of all actions together stand beside those of each action."""

_SMOOTHING = (0.0, 0.3, 0.6)
_SWITCH_COSTS = (1.0, 2.0, 4.0, 8.0)
_LENGTH_WEIGHTS = (0.5, 1.0, 2.0)
_LENGTH_SWITCH_COSTS = (0.0, 2.0)
_REFINE_SECONDS = (0.0, 0.25, 0.5)
_SIGMAS = (0.3, 0.5, 0.8)
_SCORES: tuple[SegmentScore, ...] = ("max", "mean")
_REPLICATES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedDecoding:
    """A decoding that was chosen on annotated videos.

    Args:
        decoding: the best one on all of them.
        metrics: mAP of the plain merge of frame scores (`merge_map`), of the chosen decoding on the videos
            that chose it (`fitted_map`), and of cross-validation, where each video is decoded as the videos
            of the other folds choose (`cv_map`, `cv_map_0.5` and so on), with the 95 % interval of its gain
            over the merge (`cv_gain_low`, `cv_gain_high`), and the expected calibration error of its scores
            without and with the temperature. Of one video there is no `cv_` figure.
    """

    decoding: Decoding
    metrics: dict[str, float]


def length_priors(segments: Iterable[Segment]) -> tuple[LengthPrior, ...]:
    """Return a log-normal prior of the length of each label's segments.

    Mean and deviation of the logarithm are those of the label's instances and of four more that are as all
    instances together.
    """
    logs: defaultdict[str, list[float]] = defaultdict(list)
    for segment in segments:
        logs[segment.label].append(math.log(segment.end_seconds - segment.start_seconds))
    everything = [value for values in logs.values() for value in values]
    if not everything:
        return ()
    mean, variance = _moments(everything)
    found = []
    for label in sorted(logs):
        own_mean, own_variance = _moments(logs[label])
        share = len(logs[label]) / (len(logs[label]) + _PRIOR_INSTANCES)
        mixed = share * own_mean + (1 - share) * mean
        spread = share * (own_variance + (own_mean - mixed) ** 2) + (1 - share) * (
            variance + (mean - mixed) ** 2
        )
        found.append(LengthPrior(label=label, mean_log=mixed, std_log=max(_LEAST_STD_LOG, math.sqrt(spread))))
    return tuple(found)


def _moments(values: Sequence[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, sum((value - mean) ** 2 for value in values) / len(values)


def candidates(lengths: tuple[LengthPrior, ...], *, distances: bool = True) -> list[Decoding]:
    """Return the decodings to choose from, the simplest first.

    Args:
        lengths: priors for the method `durations`.
        distances: the frame scores have distances.
    """
    methods = [Decoding(smoothing_seconds=width) for width in _SMOOTHING]
    methods += [Decoding(method="viterbi", switch_cost=cost) for cost in _SWITCH_COSTS]
    methods += [
        Decoding(method="durations", lengths=lengths, length_weight=weight, switch_cost=cost)
        for weight, cost in product(_LENGTH_WEIGHTS, _LENGTH_SWITCH_COSTS)
    ]
    widths = _REFINE_SECONDS if distances else (0.0,)
    found = [
        replace(method, refine_seconds=width, score=score)
        for width, method, score in product(widths, methods, _SCORES)
    ]
    if distances:
        found += [
            Decoding(method="proposals", suppression_sigma=sigma, smoothing_seconds=width)
            for width, sigma in product(_SMOOTHING, _SIGMAS)
        ]
    return found


def fit_decoding(
    frames: Mapping[str, FrameScores],
    truth: Truth,
    labels: Sequence[str],
    lengths: tuple[LengthPrior, ...],
    thresholds: Sequence[float] = (),
) -> FittedDecoding:
    """Choose the decoding with the highest mean mAP at tIoU 0.5, 0.75 and 0.95.

    Args:
        frames: scores of the frames of each video that has any.
        truth: segments of each video, of one at least.
        labels: action labels.
        lengths: see `length_priors`; of training videos.
        thresholds: of a sigmoid head.
    """
    choices = candidates(lengths, distances=all(each.distances is not None for each in frames.values()))
    found = [
        {video: decode_frames(scores, labels, choice, thresholds) for video, scores in frames.items()}
        for choice in choices
    ]
    merged = match_segments(truth, found[0], TIOU_THRESHOLDS)
    best = _best(found, truth)
    temperature = _temperature(found[best], truth)
    metrics = {
        "merge_map": score_matching(merged, found[0]).average_map,
        "fitted_map": _average_map(found[best], truth),
    }
    if len(truth) > 1:
        metrics |= _cross_validated(found, truth, merged)
    return FittedDecoding(decoding=replace(choices[best], temperature=temperature), metrics=metrics)


def _cross_validated(found: Sequence[Predictions], truth: Truth, merged: Matching) -> dict[str, float]:
    predictions: Predictions = {}
    confident: Predictions = {}
    for fold in _folds(list(truth)):
        others = {video: segments for video, segments in truth.items() if video not in fold}
        chosen = found[_best(found, others)]
        own = {video: chosen.get(video, []) for video in fold}
        temperature = _temperature({video: chosen.get(video, []) for video in others}, others)
        predictions |= own
        confident |= {k: [segment_at_temperature(s, temperature) for s in v] for k, v in own.items()}
    matching = match_segments(truth, predictions, TIOU_THRESHOLDS)
    gain = bootstrap_difference(matching, merged, replicates=_REPLICATES).average
    found_maps = {f"cv_{name}": value for name, value in map_of(predictions, truth).items()}
    errors = [calibration_error(*_confidences(each, truth)) for each in (predictions, confident)]
    return {
        **found_maps,
        "cv_gain_low": gain.low,
        "cv_gain_high": gain.high,
        "cv_calibration_error_before": errors[0],
        "cv_calibration_error": errors[1],
    }


def _temperature(predictions: Predictions, truth: Truth) -> float:
    """Return the temperature at which scores are nearest to the share of hits at the lowest tIoU."""
    return fit_temperature(*_confidences(predictions, truth))


def _confidences(
    predictions: Predictions, truth: Truth
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return the score of each prediction, and whether it is a hit at the lowest tIoU."""
    matching = match_segments(truth, predictions, TIOU_THRESHOLDS)
    return np.clip(matching.predictions.score, 0.0, 1.0), matching.hits[:, 0]


def map_of(predictions: Predictions, truth: Truth) -> dict[str, float]:
    """Return `map`, the mean over the thresholds, and `map_0.5` and so on, 0 to 1."""
    evaluation = score_matching(match_segments(truth, predictions, TIOU_THRESHOLDS), predictions)
    each = zip(TIOU_THRESHOLDS, map(float, evaluation.map_per_tiou), strict=True)
    return {"map": evaluation.average_map, **{f"map_{threshold:g}": value for threshold, value in each}}


def _folds(videos: Sequence[str]) -> Iterator[frozenset[str]]:
    count = min(_MOST_FOLDS, len(videos))
    return (frozenset(videos[number::count]) for number in range(count))


def _best(found: Sequence[Predictions], truth: Truth) -> int:
    """Return the number of the best predictions; of equal ones the first."""
    scores = [round(_average_map(predictions, truth), 9) for predictions in found]
    return scores.index(max(scores))


def _average_map(predictions: Predictions, truth: Truth) -> float:
    own = {video: predictions.get(video, []) for video in truth}
    return score_matching(match_segments(truth, own, TIOU_THRESHOLDS), own).average_map
