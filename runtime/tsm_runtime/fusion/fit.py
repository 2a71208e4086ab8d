"""Fits weights, tIoU threshold and minimum score of an ensemble on validation videos, and estimates the gain.

The search maximises the average mAP of `evaluation.evaluate`. It evaluates no files: candidates are gathered
once, and the clusters of merged candidates are cached for each (threshold, set of candidates).

The reported gain is not biased by the search: "cross-validated" fits on all folds but one, fuses the videos
of the remaining fold, and evaluates all videos fused this way together. Its difference to the best single
member and to equal weights comes with a 95 % interval of a paired bootstrap: both use the same resampled
videos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from tsm_runtime.errors import UsageError
from tsm_runtime.fusion.calibration import fit_temperature
from tsm_runtime.fusion.candidates import Fused, merge_clusters, unite, weighted_confidence
from tsm_runtime.fusion.fit_table import FitTable, MapGain, average_map, gain_over, judge, mean_ap
from tsm_runtime.fusion.fuse import fuse_candidates
from tsm_runtime.fusion.options import FusionOptions

IOUS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MIN_SCORES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
_RANDOM_WEIGHTS = 32
_FACTORS = (0.5, 0.8, 1.25, 2.0)
_ROUNDS = 3
_LEAST_WEIGHT = 0.01
_LEAST_GAIN = 1e-9

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Values chosen by the search; temperatures are 1 unless members are calibrated."""

    weights: tuple[float, ...]
    iou: float
    min_score: float
    temperatures: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Outcome of a fit; all mAPs are averages over the tIoU thresholds, 0 to 1.

    Args:
        setting: setting found on all videos.
        member_maps: mAP of each member alone, its file unchanged.
        equal: mAP of equal weights with the initial threshold and minimum score of the search.
        in_sample: mAP of `setting` on the videos it was chosen on; biased upwards.
        cross_validated: mAP of settings chosen without the videos they are evaluated on.
        over_best: cross_validated minus the best member (best on these same videos, which favours it).
        over_equal: cross_validated minus equal.
        num_videos, num_instances, num_folds: size of the validation set, and number of folds.
    """

    setting: Setting
    member_maps: tuple[float, ...]
    equal: float
    in_sample: float
    cross_validated: float
    over_best: MapGain
    over_equal: MapGain
    num_videos: int
    num_instances: int
    num_folds: int


# --- search ---------------------------------------------------------------------------------------


class Trials:
    """Average mAP of settings on one table; caches the work that settings share."""

    def __init__(self, table: FitTable, options: FusionOptions) -> None:
        self.table, self.options = table, options
        self._merged: dict[tuple[float, bytes], _Ints] = {}

    def value(self, setting: Setting) -> float:
        """Return the average mAP, 0 to 1."""
        if self.options.method != "paper":
            return mean_ap(self.table, fuse_at(self.table, setting, self.options))
        candidates = self.table.candidates
        weights = np.array(setting.weights)
        score = weighted_confidence(candidates, weights, self.options.denominator)
        strong = score >= setting.min_score
        kept, score = candidates.take(strong), score[strong]
        key = setting.iou, np.packbits(strong).tobytes()
        if key not in self._merged:
            self._merged[key] = merge_clusters(kept, setting.iou)
        return mean_ap(self.table, unite(kept, score, self._merged[key]))


def fuse_at(table: FitTable, setting: Setting, options: FusionOptions) -> Fused:
    """Fuse a table with already calibrated confidences by a setting."""
    chosen = replace(options, iou=setting.iou, min_score=setting.min_score)
    return fuse_candidates(table.candidates, np.array(setting.weights), chosen)


def search(
    table: FitTable,
    options: FusionOptions,
    *,
    seed: int = 0,
    ious: Sequence[float] = IOUS,
    min_scores: Sequence[float] = MIN_SCORES,
    calibrate: bool = False,
) -> tuple[Setting, FitTable]:
    """Find the setting with the highest average mAP, alternating threshold and minimum score with weights.

    The search starts from equal weights. It then tries weights in proportion to each member's own mAP (the
    paper's choice, with its public scores), weights dominated by one member, random weights, and small steps
    around the best. Ties keep the setting tried first, so that a value changes only for a gain.

    Args:
        table: V videos.
        options: method and denominator, and the initial threshold and minimum score.
        seed: seed of the random weights.
        ious: thresholds to try.
        min_scores: minimum scores to try.
        calibrate: fit a temperature for each member first.

    Returns:
        The setting, and the table at its temperatures.
    """
    temperatures = _temperatures(table) if calibrate else (1.0,) * table.hit.shape[1]
    table = table.at_temperatures(temperatures)
    trials = Trials(table, options)
    num_members = table.hit.shape[1]
    best = Setting(
        weights=_normal(np.ones(num_members)),
        iou=options.iou,
        min_score=options.min_score,
        temperatures=temperatures,
    )
    value = trials.value(best)
    weights = _first_weights(table, np.random.default_rng(seed))
    for _ in range(_ROUNDS):
        before = value
        grid = [replace(best, iou=iou, min_score=least) for iou in ious for least in min_scores]
        best, value = _best_of(trials, grid, best, value)
        best, value = _best_of(trials, [replace(best, weights=each) for each in weights], best, value)
        while True:
            step, higher = _best_of(trials, _around(best), best, value)
            if higher <= value:
                break
            best, value = step, higher
        if value <= before + _LEAST_GAIN:
            break
    return best, table


def _best_of(
    trials: Trials, settings: Iterable[Setting], best: Setting, value: float
) -> tuple[Setting, float]:
    for setting in settings:
        found = trials.value(setting)
        if found > value + _LEAST_GAIN:
            best, value = setting, found
    return best, value


def _first_weights(table: FitTable, rng: np.random.Generator) -> list[tuple[float, ...]]:
    num_members = table.hit.shape[1]
    maps = np.array([mean_ap(table, table.member(number)) for number in range(num_members)])
    foremost = [np.where(np.arange(num_members) == number, 4.0, 1.0) for number in range(num_members)]
    drawn = rng.dirichlet(np.ones(num_members), size=_RANDOM_WEIGHTS)
    return [_normal(weights) for weights in (np.ones(num_members), maps, *foremost, *drawn)]


def _around(setting: Setting) -> list[Setting]:
    around = []
    for number in range(len(setting.weights)):
        for factor in _FACTORS:
            weights = np.array(setting.weights)
            weights[number] *= factor
            around.append(replace(setting, weights=_normal(weights)))
    return around


def _normal(weights: _Floats) -> tuple[float, ...]:
    """Return the weights scaled to sum 1, with four decimals, none of them 0."""
    total = weights.sum()
    shares = weights / total if total > 0 else np.full(len(weights), 1 / len(weights))
    floored = np.maximum(shares, _LEAST_WEIGHT)
    return tuple(np.round(floored / floored.sum(), 4).tolist())


def _temperatures(table: FitTable) -> tuple[float, ...]:
    found = []
    for number in range(table.hit.shape[1]):
        rows = ~np.isnan(table.candidates.confidence[:, number])
        found.append(fit_temperature(table.candidates.confidence[rows, number], table.hit[rows, number]))
    return tuple(found)


# --- the whole fit --------------------------------------------------------------------------------


def fit_ensemble(
    table: FitTable,
    options: FusionOptions,
    *,
    folds: int = 5,
    seed: int = 0,
    ious: Sequence[float] = IOUS,
    min_scores: Sequence[float] = MIN_SCORES,
    calibrate: bool = False,
) -> Fit:
    """Search on all videos, and estimate the gain by cross-validation and bootstrap.

    Args:
        table: V videos, at least two.
        options: see `search`.
        folds: number of parts of the videos, of nearly equal size; at most V.
        seed: seed of the folds, the random weights and the bootstrap.
        ious: see `search`.
        min_scores: see `search`.
        calibrate: see `search`.

    Raises:
        UsageError: there are fewer than two videos, or folds.
    """
    if table.num_videos < 2:
        raise UsageError("one video only: weights fitted to it could not be checked; give at least two")
    if folds < 2:
        raise UsageError(f"folds {folds}: expected 2 or more")
    folds = min(folds, table.num_videos)
    rng = np.random.default_rng(seed)

    def searched(part: FitTable) -> tuple[Setting, FitTable]:
        return search(part, options, seed=seed, ious=ious, min_scores=min_scores, calibrate=calibrate)

    setting, calibrated_table = searched(table)
    crossed = judge(
        table, _held_out(table, np.array_split(rng.permutation(table.num_videos), folds), searched, options)
    )
    singles = [judge(table, table.member(number)) for number in range(table.hit.shape[1])]
    maps = [average_map(single) for single in singles]
    even = judge(table, fuse_candidates(table.candidates, np.ones(table.hit.shape[1]), options))
    over_best = gain_over(crossed, singles[int(np.argmax(maps))], rng)
    return Fit(
        setting=setting,
        member_maps=tuple(maps),
        equal=average_map(even),
        in_sample=mean_ap(calibrated_table, fuse_at(calibrated_table, setting, options)),
        cross_validated=max(maps) + over_best.value,
        over_best=over_best,
        over_equal=gain_over(crossed, even, rng),
        num_videos=table.num_videos,
        num_instances=len(table.truth),
        num_folds=folds,
    )


def _held_out(
    table: FitTable,
    folds: Sequence[npt.NDArray[np.int64]],
    searched: Callable[[FitTable], tuple[Setting, FitTable]],
    options: FusionOptions,
) -> Fused:
    """Fuse the videos of each fold with the setting found on the other folds."""
    parts = []
    for fold in folds:
        outside = np.isin(np.arange(table.num_videos), fold)
        chosen, _ = searched(table.take(~outside))
        parts.append(fuse_at(table.take(outside).at_temperatures(chosen.temperatures), chosen, options))
    return _concatenated(parts)


def _concatenated(parts: Sequence[Fused]) -> Fused:
    names = [field.name for field in fields(Fused)]
    return Fused(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
