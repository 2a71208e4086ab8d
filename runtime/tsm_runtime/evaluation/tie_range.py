"""Range of average precision over the orders of equal scores.

Average precision is (1/N) sum over hits k of max over j >= k of j / r_j, with r_j the rank of the j-th hit.
It can only grow when hits come earlier or when there are more of them. So the order of one score that puts
hits first gives the highest value, and one that puts them last the lowest, as far as hits can be moved:

- A prediction that competes with none of the same score in its video is a hit or not, in any order.
- Of z + 1 equal predictions that all can only have one and the same instance, the first is a hit whatever
  the order, the other z are false. Lowest value: first all that are false anyway, then such groups by
  falling z, then the other hits; every prefix has the fewest possible hits, so this is exact.
- In other competitions the order decides which instances are left, also for later scores. There the number
  of hits after each score lies between a half of the largest matching of predictions with instances (any
  greedy matching is maximal) and all of it: the values are then proven bounds, which may not be reached.

`TieRange.exact` distinguishes the two cases. Orders of different classes are independent, so exact values per
class give an exact mAP; the mean over thresholds is a bound, as one order serves all thresholds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tsm_runtime.evaluation.average_precision import average_precision
from tsm_runtime.evaluation.matching import Matching
from tsm_runtime.evaluation.segment_table import Bools, Floats, Ints

_Cell = tuple[int, list[list[int]]]
"""A score's number, and the instances that each prediction of that score reaches, best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TieRange:
    """Lowest and highest mAP over all orders of equal scores.

    Args:
        tied_predictions: number of predictions whose score another prediction of their class also has.
        lowest: K values, one per threshold.
        highest: K values.
        exact: K flags; True: some orders reach both values; False: the values are bounds for all orders.
        lowest_average: mean of `lowest`; no order gives a lower average mAP.
        highest_average: mean of `highest`; no order gives a higher one.
    """

    tied_predictions: int
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    exact: tuple[bool, ...]
    lowest_average: float
    highest_average: float


def tie_range(matching: Matching) -> TieRange:
    """Return the range of mAP over tie orders, per threshold (see the module's docstring)."""
    lowest, highest, exact = class_tie_range(matching)
    low, high = lowest.mean(axis=0), highest.mean(axis=0)
    return TieRange(
        tied_predictions=_count_tied(matching),
        lowest=tuple(low.tolist()),
        highest=tuple(high.tolist()),
        exact=tuple(bool(flags.all()) for flags in exact.T),
        lowest_average=float(low.mean()),
        highest_average=float(high.mean()),
    )


def class_tie_range(matching: Matching) -> tuple[Floats, Floats, Bools]:
    """Return the lowest and highest average precision, and whether they are exact, (C, K) each."""
    shape = (len(matching.labels), len(matching.thresholds))
    lowest, highest, exact = np.zeros(shape), np.zeros(shape), np.ones(shape, dtype=np.bool_)
    for label, count in enumerate(matching.num_truth.tolist()):
        rows = matching.predictions.rows_of(label)
        score = matching.predictions.score[rows]
        low = high = matching.hits[rows]
        if bool(np.any(score[1:] == score[:-1])):
            group = np.cumsum(np.r_[False, score[1:] != score[:-1]])
            columns = [_extreme_hits(matching, rows, group, k) for k in range(shape[1])]
            low = np.stack([column[0] for column in columns], axis=1)
            high = np.stack([column[1] for column in columns], axis=1)
            exact[label] = [column[2] for column in columns]
        lowest[label] = average_precision(low, count)
        highest[label] = average_precision(high, count)
    return lowest, highest, exact


def _count_tied(matching: Matching) -> int:
    table = matching.predictions
    same = (table.score[1:] == table.score[:-1]) & (table.label[1:] == table.label[:-1])
    return int(np.sum(np.r_[False, same] | np.r_[same, False])) if len(table) else 0


class _Counts:
    """Known hits of each score of one class at one threshold."""

    def __init__(self, num_groups: int) -> None:
        self.hits = np.zeros(num_groups, dtype=np.int64)
        self.least_more = np.zeros(num_groups, dtype=np.int64)
        self.most_more = np.zeros(num_groups, dtype=np.int64)
        self.losers: defaultdict[int, list[int]] = defaultdict(list)
        self.exact = True


def _extreme_hits(matching: Matching, rows: slice, group: Ints, k: int) -> tuple[Bools, Bools, bool]:
    """Return hits of one class at threshold k in the orders of the lowest and highest average precision."""
    counts = _Counts(int(group[-1]) + 1)
    first, last = np.searchsorted(matching.pairs.prediction, [rows.start, rows.stop])
    reached = matching.reached(float(matching.thresholds[k]))[first:last]
    prediction = matching.pairs.prediction[first:last][reached] - rows.start
    instance = matching.pairs.instance[first:last][reached]
    video = matching.predictions.video[rows]
    open_videos = (
        _videos_with_competition(np.unique(prediction), group, video)
        if matching.rules.one_to_one
        else np.zeros(0, dtype=np.int64)
    )
    settled = matching.hits[rows, k] & ~np.isin(video, open_videos)
    counts.hits += np.bincount(group[settled], minlength=len(counts.hits))
    competing = np.isin(video[prediction], open_videos)
    for cells in _cells_by_video(prediction[competing], instance[competing], group, video):
        _follow_video(cells, counts)
    lowest, highest = _place_hits(counts, group)
    return lowest, highest, counts.exact


def _videos_with_competition(prediction: Ints, group: Ints, video: Ints) -> Ints:
    """Return the videos in which two predictions with equal scores reach some instance."""
    num_groups = int(group[-1]) + 1
    cells, count = np.unique(video[prediction] * num_groups + group[prediction], return_counts=True)
    return np.unique(cells[count > 1] // num_groups)


def _cells_by_video(prediction: Ints, instance: Ints, group: Ints, video: Ints) -> Iterable[list[_Cell]]:
    """Yield for each video its scores from high to low, each with the instances its predictions reach."""
    reach: dict[int, dict[int, dict[int, list[int]]]] = {}
    for p, i, v, g in zip(
        prediction.tolist(),
        instance.tolist(),
        video[prediction].tolist(),
        group[prediction].tolist(),
        strict=True,
    ):
        reach.setdefault(v, {}).setdefault(g, {}).setdefault(p, []).append(i)
    for groups in reach.values():
        yield [(g, list(groups[g].values())) for g in sorted(groups)]


def _follow_video(cells: Sequence[_Cell], counts: _Counts) -> None:
    """Count hits by falling score, as long as tie orders cannot change which instances are taken."""
    locked: set[int] = set()
    for position, (group, members) in enumerate(cells):
        favourites: defaultdict[int, list[list[int]]] = defaultdict(list)
        for reached in members:
            free = [i for i in reached if i not in locked]
            if free:
                favourites[free[0]].append(free)
        rivals = [fans for fans in favourites.values() if len(fans) > 1]
        if any(len(free) > 1 for fans in rivals for free in fans):
            _bound_video(cells[position:], locked, counts)
            return
        locked.update(favourites)
        counts.hits[group] += len(favourites) - len(rivals)
        counts.losers[group] += [len(fans) - 1 for fans in rivals]


def _bound_video(cells: Sequence[_Cell], locked: set[int], counts: _Counts) -> None:
    """Bound the hits after each score by the largest matching with the remaining instances."""
    counts.exact = False
    owner: dict[int, int] = {}
    reach: list[list[int]] = []
    for group, members in cells:
        before = len(owner)
        for reached in members:
            reach.append([i for i in reached if i not in locked])
            _augment(len(reach) - 1, reach, owner)
        counts.most_more[group] += len(owner) - before
        counts.least_more[group] += (len(owner) + 1) // 2 - (before + 1) // 2


def _augment(start: int, reach: Sequence[Sequence[int]], owner: dict[int, int]) -> None:
    """Give prediction `start` an instance, moving others to their alternatives, if that is possible."""
    seeker: dict[int, int] = {}
    held: dict[int, int] = {}
    waiting = [start]
    for prediction in waiting:  # grows
        for instance in reach[prediction]:
            if instance in seeker:
                continue
            seeker[instance] = prediction
            if instance not in owner:
                _hand_over(instance, start, seeker, held, owner)
                return
            held[owner[instance]] = instance
            waiting.append(owner[instance])


def _hand_over(
    instance: int, start: int, seeker: dict[int, int], held: dict[int, int], owner: dict[int, int]
) -> None:
    while True:
        prediction = seeker[instance]
        owner[instance] = prediction
        if prediction == start:
            return
        instance = held[prediction]


def _place_hits(counts: _Counts, group: Ints) -> tuple[Bools, Bools]:
    """Return the hits placed as late and as early as possible."""
    size = np.bincount(group)
    offset = np.arange(len(group)) - np.repeat(np.cumsum(size) - size, size)
    contested = np.zeros(len(size), dtype=np.int64)
    for g, losers in counts.losers.items():
        contested[g] = len(losers)
    highest = offset < (counts.hits + contested + counts.most_more)[group]
    late = counts.hits + counts.least_more
    lowest = offset >= (size - late)[group]
    start = np.cumsum(size) - size
    for g, losers in counts.losers.items():
        if losers:
            lowest[start[g] : start[g] + size[g]] = _latest(int(size[g]), int(late[g]), losers)
    return lowest, highest


def _latest(size: int, hits: int, losers: Sequence[int]) -> Bools:
    """Place hits of one score as late as possible; each of `losers` counts the misses after a certain hit."""
    contested = [flag for z in sorted(losers, reverse=True) for flag in (True, *[False] * z)]
    false = size - hits - len(contested)
    return np.array([False] * false + contested + [True] * hits, dtype=np.bool_)
