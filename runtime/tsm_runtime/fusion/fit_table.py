"""Candidates and true instances of validation videos as one table, and the mAP of fusions of it.

The figures equal those of `evaluation.evaluate`, without files: pairs of fused segments and instances are
found once and reused in every trial in which only confidences change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.modes import DEFAULT_TIOU_THRESHOLDS
from tsm_runtime.evaluation.segment_table import pairwise_tiou
from tsm_runtime.fusion.calibration import calibrated
from tsm_runtime.fusion.candidates import MICROSECONDS, Candidates, Fused, gather_candidates
from tsm_runtime.results import Segment

_RESAMPLES = 1000
_BLOCK = 1 << 22  # numbers of a bootstrap that are in memory at a time
_TOLERANCE = 1e-9  # as in evaluation: a tIoU this far below a threshold still reaches it

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FitTable:
    """Candidates and true instances; groups are numbered by (video, label) and shared by both.

    Args:
        group_label: (G,) class number of each group, 0 to C - 1.
        group_video: (G,) video number of each group.
        candidates: K rows.
        hit: (K, M) whether the member's segment is a true positive at tIoU 0.5 in its own file.
        truth_group: (T,) sorted.
        truth_start: (T,) microseconds.
        truth_end: (T,) microseconds.
        num_videos: V, numbered 0 to V - 1, those without candidates and instances included.
    """

    group_label: _Ints
    group_video: _Ints
    candidates: Candidates
    hit: _Bools
    truth_group: _Ints
    truth_start: _Floats
    truth_end: _Floats
    num_videos: int

    def take(self, videos: _Bools) -> FitTable:
        """Return the table of the selected videos, (V,) flags; video numbers stay."""
        rows = videos[self.group_video[self.candidates.group]]
        true = videos[self.group_video[self.truth_group]]
        return replace(
            self,
            candidates=self.candidates.take(rows),
            hit=self.hit[rows],
            truth_group=self.truth_group[true],
            truth_start=self.truth_start[true],
            truth_end=self.truth_end[true],
        )

    def at_temperatures(self, temperatures: Sequence[float]) -> FitTable:
        """Return the table with calibrated confidences."""
        columns = zip(self.candidates.confidence.T, temperatures, strict=True)
        confidence = np.stack([calibrated(column, temperature) for column, temperature in columns], axis=1)
        return replace(self, candidates=replace(self.candidates, confidence=confidence))

    def member(self, number: int) -> Fused:
        """Return the segments of one member."""
        rows = ~np.isnan(self.candidates.confidence[:, number])
        mine = self.candidates.take(rows)
        return Fused(mine.group, mine.start, mine.end, mine.confidence[:, number])


def gather_fit_table(
    members: Sequence[Mapping[str, Sequence[Segment]]], truth: Mapping[str, Sequence[Segment]]
) -> FitTable:
    """Return the table of the videos in the truth and in at least one member, with the truth's labels there.

    Raises:
        UsageError: there is no such video, or no instance in these videos.
    """
    videos = sorted(video for video in truth if any(video in member for member in members))
    if not videos:
        raise UsageError("no video of the ground truth is in any member; are the ids spelt alike?")
    labels = sorted({segment.label for video in videos for segment in truth[video]})
    if not labels:
        raise UsageError("the ground truth holds no instance in the members' videos: nothing to fit to")
    known = [_only(member, set(videos), set(labels)) for member in members]
    names, candidates = gather_candidates(known)
    true = sorted(
        (video, s.label, s.start_seconds * MICROSECONDS, s.end_seconds * MICROSECONDS)
        for video in videos
        for s in truth[video]
    )
    groups = sorted(set(names) | {(video, label) for video, label, _, _ in true})
    number = {group: index for index, group in enumerate(groups)}
    video_number = {video: index for index, video in enumerate(videos)}
    renumbered = np.array([number[name] for name in names], dtype=np.int64)
    table = FitTable(
        group_label=np.array([labels.index(label) for _, label in groups], dtype=np.int64),
        group_video=np.array([video_number[video] for video, _ in groups], dtype=np.int64),
        candidates=replace(candidates, group=renumbered[candidates.group]),
        hit=np.zeros(candidates.confidence.shape, dtype=np.bool_),
        truth_group=np.array([number[video, label] for video, label, _, _ in true], dtype=np.int64),
        truth_start=np.array([start for _, _, start, _ in true], dtype=np.float64),
        truth_end=np.array([end for _, _, _, end in true], dtype=np.float64),
        num_videos=len(videos),
    )
    for column in range(len(members)):
        rows = ~np.isnan(candidates.confidence[:, column])
        mine = table.member(column)
        table.hit[rows, column] = _hits(table, mine, find_pairs(table, mine))[0][:, 0]
    return table


def _only(
    member: Mapping[str, Sequence[Segment]], videos: set[str], labels: set[str]
) -> dict[str, list[Segment]]:
    return {
        video: [segment for segment in found if segment.label in labels]
        for video, found in member.items()
        if video in videos
    }


# --- mAP of a table -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FitPairs:
    """Fused segments and instances of one group that reach the lowest threshold, each (N,)."""

    segment: _Ints
    instance: _Ints
    tiou: _Floats


def find_pairs(table: FitTable, fused: Fused) -> FitPairs:
    """Return the pairs of a fused segment and an instance of its class and video."""
    first = np.searchsorted(table.truth_group, fused.group, side="left")
    count = np.searchsorted(table.truth_group, fused.group, side="right") - first
    segment = np.repeat(np.arange(len(count)), count)
    instance = np.repeat(first, count) + np.arange(len(segment)) - np.repeat(np.cumsum(count) - count, count)
    overlap = pairwise_tiou(
        fused.start[segment], fused.end[segment], table.truth_start[instance], table.truth_end[instance]
    )
    near = overlap >= min(DEFAULT_TIOU_THRESHOLDS) - _TOLERANCE
    return FitPairs(segment[near], instance[near], overlap[near])


def _hits(table: FitTable, fused: Fused, pairs: FitPairs) -> tuple[_Bools, _Ints]:
    """Return the true positives (F, thresholds), and the order in which `evaluation` visits segments (F,)."""
    video, label = table.group_video[fused.group], table.group_label[fused.group]
    order = np.lexsort((fused.end, fused.start, video, -fused.score, label))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    by_visit = np.lexsort((pairs.instance, -pairs.tiou, rank[pairs.segment]))
    hits = np.zeros((len(order), len(DEFAULT_TIOU_THRESHOLDS)), dtype=np.bool_)
    for k, threshold in enumerate(DEFAULT_TIOU_THRESHOLDS):
        reached = by_visit[pairs.tiou[by_visit] >= threshold - _TOLERANCE]
        served: set[int] = set()
        locked: set[int] = set()
        for s, i in zip(pairs.segment[reached].tolist(), pairs.instance[reached].tolist(), strict=True):
            if s not in served and i not in locked:
                served.add(s)
                locked.add(i)
        hits[list(served), k] = True
    return hits, order


@dataclass(frozen=True, slots=True)
class Judged:
    """Segments in visiting order: class and video of each, (F,), and whether it is true, (F, thresholds)."""

    label: _Ints
    video: _Ints
    hit: _Bools


def judge(table: FitTable, fused: Fused, pairs: FitPairs | None = None) -> Judged:
    """Match fused segments with instances; `pairs` from `find_pairs` may be passed to save time."""
    hits, order = _hits(table, fused, pairs or find_pairs(table, fused))
    group = fused.group[order]
    return Judged(table.group_label[group], table.group_video[group], hits[order])


def mean_ap(table: FitTable, fused: Fused) -> float:
    """Return the average mAP of fused segments, as `evaluation.evaluate` defines it."""
    return float(resampled_maps(table, judge(table, fused), np.ones((table.num_videos, 1)))[0])


def resampled_maps(table: FitTable, judged: Judged, copies: _Floats) -> _Floats:
    """Return the average mAP of B resamples, (B,); nan where a resample has no instance.

    Args:
        table: the truth.
        judged: F segments.
        copies: (V, B) how often each video is in a resample. The copies of a segment are adjacent and all
            true or all false, so precision is taken at the last of them.
    """
    labels, videos = table.group_label[table.truth_group], table.group_video[table.truth_group]
    total = np.zeros(copies.shape[1])
    num_classes = np.zeros(copies.shape[1])
    for label in np.unique(labels).tolist():
        begin, stop = np.searchsorted(judged.label, [label, label + 1])
        weight = copies[judged.video[begin:stop]]
        num_true = copies[videos[labels == label]].sum(axis=0)
        there = num_true > 0
        num_classes += there
        rank = np.maximum(np.cumsum(weight, axis=0), 1)
        for hit in judged.hit[begin:stop].T:
            true = weight * hit[:, np.newaxis]
            precision = np.cumsum(true, axis=0) / rank
            envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
            total[there] += ((envelope * true).sum(axis=0)[there] / num_true[there]) / judged.hit.shape[1]
    mean = np.full(len(total), np.nan)
    np.divide(total, num_classes, out=mean, where=num_classes > 0)
    return mean


@dataclass(frozen=True, slots=True, kw_only=True)
class MapGain:
    """Difference of two average mAPs over the same videos, with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def gain_over(table: FitTable, first: Judged, second: Judged, rng: np.random.Generator) -> MapGain:
    """Return first minus second, with the interval of a paired bootstrap over videos."""
    num_videos = table.num_videos
    drawn = rng.multinomial(num_videos, np.full(num_videos, 1 / num_videos), size=_RESAMPLES).T.astype(
        np.float64
    )
    step = max(1, _BLOCK // max(len(first.label), len(second.label), 1))
    parts = [drawn[:, begin : begin + step] for begin in range(0, _RESAMPLES, step)]
    differences = np.concatenate(
        [resampled_maps(table, first, part) - resampled_maps(table, second, part) for part in parts]
    )
    low, high = np.nanquantile(differences, [0.025, 0.975]).tolist()
    ones = np.ones((num_videos, 1))
    value = float((resampled_maps(table, first, ones) - resampled_maps(table, second, ones))[0])
    return MapGain(value=value, low=low, high=high)
