"""Diagnosis of a detector: the kinds of its errors, and the instances that it misses.

After Alwassel et al., Diagnosing Error in Temporal Action Detectors (DETAD, ECCV 2018), and its defaults:

- The kind of a false positive depends on the instance of any class with the highest tIoU in the video (on a
  tie one of the prediction's own class). If that tIoU reaches the threshold: double detection if the class is
  right, else wrong label. If it is at least 0.1: localisation if the class is right, else confusion.
  Otherwise: background.
- Only the best 10 G predictions of a class are analysed, where G is its number of instances.
- Average precision is normalised (see `average_precision`); N is the mean number of instances per class.
- An instance that is found at a normalised precision of 0.05 or less also counts as missed.

Two things differ from DETAD's code: a prediction is left out of a bin only at the thresholds at which it
found an instance of another bin, not at all thresholds; and a second false positive in a video without
instances counts as background too. Instances of length zero are left out, as in DETAD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.average_precision import average_precision, precision_at_ranks
from tsm_runtime.evaluation.instance_traits import DEFAULT_NUM_BINS, Trait
from tsm_runtime.evaluation.matching import Matching, blocks
from tsm_runtime.evaluation.segment_table import Bools, Floats, Ints, pairwise_tiou

KINDS = (
    "true positive",
    "double detection",
    "wrong label",
    "localisation",
    "confusion",
    "background",
)

_FACTOR = 10
_BACKGROUND_TIOU = 0.1
_LEAST_PRECISION = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorProfile:
    """Shares of the kinds of prediction.

    Args:
        kinds: names of the kinds.
        shares: one row per slice of the ranking: the best G predictions of each class, the next G, and so on;
            a row holds the share of each kind, averaged over the thresholds.
        predictions: number of predictions in each slice.
    """

    kinds: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]
    predictions: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """Increase of average mAP and normalised average mAP when one kind of error is removed."""

    kind: str
    average_map: float
    normalised_map: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TraitBin:
    """Instances of one bin of a characteristic.

    Args:
        name: name of the bin.
        instances: number of instances.
        normalised_map: average normalised mAP when only these instances count.
        missed: share of the instances that is not found, averaged over the thresholds.
    """

    name: str
    instances: int
    normalised_map: float
    missed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TraitBins:
    """The bins of one characteristic."""

    name: str
    bins: tuple[TraitBin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Result of a diagnosis.

    Args:
        profile: kinds of prediction by rank.
        gains: gain of removing each kind of error, over the best 10 G predictions of each class.
        normalised_map: average normalised mAP of all predictions.
        missed: share of the instances that is not found.
        traits: bins of each characteristic.
    """

    profile: ErrorProfile
    gains: tuple[Gain, ...]
    normalised_map: float
    missed: float
    traits: tuple[TraitBins, ...]


def diagnose(
    matching: Matching, traits: Sequence[Trait] = (), *, num_bins: int = DEFAULT_NUM_BINS
) -> Diagnosis:
    """Diagnose the errors of a matching (see the module's docstring).

    Args:
        matching: made by one-to-one rules that do not change bounds.
        traits: characteristics of instances.
        num_bins: quantile bins of a characteristic without borders.

    Raises:
        UsageError: the matching has other rules, or all instances have length zero.
    """
    if not matching.rules.one_to_one or matching.rules.cut is not None:
        raise UsageError("the diagnosis needs a mode in which an instance is found once; use --mode tsm")
    if not len(matching.truth):
        raise UsageError("the ground truth holds no instance longer than 0: nothing to diagnose")
    every = np.arange(len(matching.truth))
    found = _found_at_precision(matching)
    return Diagnosis(
        profile=_profile(matching, kind := classify_predictions(matching)),
        gains=_gains(matching, kind),
        normalised_map=_normalised_map(matching, every),
        missed=float(1 - found.mean()),
        traits=tuple(
            TraitBins(
                name=trait.name,
                bins=tuple(
                    TraitBin(
                        name=name,
                        instances=len(rows),
                        normalised_map=_normalised_map(matching, rows),
                        missed=float(1 - found[rows].mean()),
                    )
                    for name, rows in trait.bins(matching, num_bins)
                ),
            )
            for trait in traits
        ),
    )


def classify_predictions(matching: Matching) -> npt.NDArray[np.int8]:
    """Return the kind of every prediction at every threshold, (P, K) positions in `KINDS`."""
    best, own = _best_tiou(matching)
    right = own >= best
    tolerance = matching.rules.tiou_tolerance
    kind = np.full(matching.instance.shape, KINDS.index("background"), dtype=np.int8)
    near = best >= _BACKGROUND_TIOU - tolerance
    kind[near & right] = KINDS.index("localisation")
    kind[near & ~right] = KINDS.index("confusion")
    for k, threshold in enumerate(matching.thresholds):
        reached = best >= threshold - tolerance
        kind[reached & right, k] = KINDS.index("double detection")
        kind[reached & ~right, k] = KINDS.index("wrong label")
    kind[matching.hits] = KINDS.index("true positive")
    return kind


def _best_tiou(matching: Matching) -> tuple[Floats, Floats]:
    """Return the highest tIoU of each prediction in its video, with any class and with its own, (P,) each."""
    true = matching.truth.take(np.argsort(matching.truth.video, kind="stable"))
    predicted = matching.predictions
    best, own = np.zeros(len(predicted)), np.zeros(len(predicted))
    first = np.searchsorted(true.video, predicted.video, side="left")
    count = np.searchsorted(true.video, predicted.video, side="right") - first
    for rows in blocks(count):
        counts = count[rows]
        begin = np.cumsum(counts) - counts
        instance = np.repeat(first[rows] - begin, counts) + np.arange(counts.sum())
        prediction = np.repeat(rows, counts)
        overlap = pairwise_tiou(
            predicted.start[prediction], predicted.end[prediction], true.start[instance], true.end[instance]
        )
        same = true.label[instance] == predicted.label[prediction]
        best[rows] = np.maximum.reduceat(overlap, begin)
        own[rows] = np.maximum.reduceat(np.where(same, overlap, 0.0), begin)
    return best, own


def _classes(matching: Matching) -> list[tuple[slice, int]]:
    """Return predictions and number of instances of each class that has an instance longer than 0."""
    count = np.bincount(matching.truth.label, minlength=len(matching.labels))
    return [(matching.predictions.rows_of(label), int(n)) for label, n in enumerate(count) if n]


def _normal_number(matching: Matching) -> float:
    return len(matching.truth) / len(_classes(matching))


def _profile(matching: Matching, kind: npt.NDArray[np.int8]) -> ErrorProfile:
    counts = np.zeros((_FACTOR, len(KINDS)), dtype=np.int64)
    for rows, number in _classes(matching):
        for part in range(_FACTOR):
            mine = kind[rows][part * number : (part + 1) * number]
            counts[part] += np.bincount(mine.ravel(), minlength=len(KINDS))
    sizes = counts.sum(axis=1)
    shares = counts[sizes > 0] / sizes[sizes > 0, np.newaxis]
    return ErrorProfile(
        kinds=KINDS,
        shares=tuple(tuple(row) for row in shares.tolist()),
        predictions=tuple((sizes[sizes > 0] // len(matching.thresholds)).tolist()),
    )


def _gains(matching: Matching, kind: npt.NDArray[np.int8]) -> tuple[Gain, ...]:
    base = _maps_without(matching, kind, "")
    gains = []
    for name in KINDS[1:]:
        plain, normalised = _maps_without(matching, kind, name)
        gains.append(Gain(kind=name, average_map=plain - base[0], normalised_map=normalised - base[1]))
    return tuple(gains)


def _maps_without(matching: Matching, kind: npt.NDArray[np.int8], removed: str) -> tuple[float, float]:
    """Return average mAP, plain and normalised, of the best predictions without those of one kind."""
    code = KINDS.index(removed) if removed else -1
    normal = _normal_number(matching)
    plain, normalised = [], []
    for rows, number in _classes(matching):
        mine = kind[rows][: _FACTOR * number]
        for column in mine.T:
            hits = column[column != code, np.newaxis] == 0
            plain.append(average_precision(hits, number))
            normalised.append(average_precision(hits, number, normal_num_truth=normal))
    return float(np.mean(plain)), float(np.mean(normalised))


def _normalised_map(matching: Matching, instances: Ints) -> float:
    """Return average normalised mAP on some instances; predictions that found others are left out."""
    wanted = np.zeros(len(matching.truth) + 1, dtype=np.bool_)
    wanted[instances] = True
    wanted[-1] = True  # the place of -1, a false positive
    count = np.bincount(matching.truth.label[instances], minlength=len(matching.labels))
    normal = _normal_number(matching)
    values = []
    for label in np.flatnonzero(count):
        found = matching.instance[matching.predictions.rows_of(int(label))]
        for column in found.T:
            hits = column[wanted[column], np.newaxis] >= 0
            values.append(average_precision(hits, int(count[label]), normal_num_truth=normal))
    return float(np.mean(values))


def _found_at_precision(matching: Matching) -> Bools:
    """Return (T, K) flags of the instances found at a normalised precision above `_LEAST_PRECISION`."""
    found = np.zeros((len(matching.truth), len(matching.thresholds)), dtype=np.bool_)
    normal = _normal_number(matching)
    for rows, number in _classes(matching):
        instance = matching.instance[rows]
        hits = instance >= 0
        precision = precision_at_ranks(hits, number, normal_num_truth=normal)
        for k, column in enumerate((hits & (precision > _LEAST_PRECISION)).T):
            found[instance[column, k], k] = True
    return found
