"""Candidates and true instances of validation videos as one table, and the mAP of fusions of it.

The figures equal those of `evaluation.evaluate`, without files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.bootstrap import map_of_replicates
from tsm_runtime.evaluation.matching import Matching, match_tables
from tsm_runtime.evaluation.modes import DEFAULT_TIOU_THRESHOLDS, MatchRules
from tsm_runtime.evaluation.segment_table import (
    Bools,
    Ints,
    SegmentTable,
    to_table,
    truth_order,
    visiting_rows,
)
from tsm_runtime.fusion.calibration import calibrated
from tsm_runtime.fusion.candidates import MICROSECONDS, Candidates, Fused, gather_candidates
from tsm_runtime.results import Segment

_RESAMPLES = 1000
_RESAMPLES_AT_ONCE = 128
_RULES = MatchRules()


@dataclass(frozen=True, slots=True)
class FitTable:
    """Candidates and true instances.

    Args:
        labels: C classes of the truth.
        group_label: (G,) class number of each group of candidates, 0 to C - 1.
        group_video: (G,) video number of each group.
        candidates: K rows.
        hit: (K, M) whether the member's segment is a true positive at tIoU 0.5 in its own file.
        truth: T instances by class and video, in microseconds.
        num_videos: V, numbered 0 to V - 1, those without candidates and instances included.
    """

    labels: tuple[str, ...]
    group_label: Ints
    group_video: Ints
    candidates: Candidates
    hit: Bools
    truth: SegmentTable
    num_videos: int

    def take(self, videos: Bools) -> FitTable:
        """Return the table of the selected videos, (V,) flags; video numbers stay."""
        rows = videos[self.group_video[self.candidates.group]]
        true = self.truth.take(np.flatnonzero(videos[self.truth.video]))
        return replace(self, candidates=self.candidates.take(rows), hit=self.hit[rows], truth=true)

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
    names, candidates = gather_candidates([_only(member, set(videos), set(labels)) for member in members])
    label_number = {label: number for number, label in enumerate(labels)}
    video_number = {video: number for number, video in enumerate(videos)}
    true = truth_order(to_table(truth, label_number, video_number), _RULES)
    table = FitTable(
        labels=tuple(labels),
        group_label=np.array([label_number[label] for _, label in names], dtype=np.int64),
        group_video=np.array([video_number[video] for video, _ in names], dtype=np.int64),
        candidates=candidates,
        hit=np.zeros(candidates.confidence.shape, dtype=np.bool_),
        truth=replace(true, start=true.start * MICROSECONDS, end=true.end * MICROSECONDS),
        num_videos=len(videos),
    )
    for column in range(len(members)):
        rows = np.flatnonzero(~np.isnan(candidates.confidence[:, column]))
        found = _columns(table, table.member(column))
        order = visiting_rows(found, _RULES)
        table.hit[rows[order], column] = _matched(table, found.take(order)).hits[:, 0]
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


def _columns(table: FitTable, fused: Fused) -> SegmentTable:
    label, video = table.group_label[fused.group], table.group_video[fused.group]
    return SegmentTable(label, video, fused.start, fused.end, fused.score)


def _matched(table: FitTable, visited: SegmentTable) -> Matching:
    videos = [str(number) for number in range(table.num_videos)]
    thresholds = np.array(DEFAULT_TIOU_THRESHOLDS)
    return match_tables(table.truth, visited, thresholds, _RULES, labels=table.labels, videos=videos)


def judge(table: FitTable, fused: Fused) -> Matching:
    """Match fused segments with the instances."""
    found = _columns(table, fused)
    return _matched(table, found.take(visiting_rows(found, _RULES)))


def average_map(matching: Matching) -> float:
    """Return the average mAP of a matching, as `evaluation.evaluate` defines it."""
    return float(map_of_replicates(matching, np.ones((len(matching.videos), 1), dtype=np.int64)).mean())


def mean_ap(table: FitTable, fused: Fused) -> float:
    """Return the average mAP of fused segments."""
    return average_map(judge(table, fused))


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


def gain_over(first: Matching, second: Matching, rng: np.random.Generator) -> MapGain:
    """Return first minus second, with the interval of a paired bootstrap over videos.

    Resamples without an instance are left out.
    """
    num_videos = len(first.videos)
    drawn = rng.multinomial(num_videos, np.full(num_videos, 1 / num_videos), size=_RESAMPLES).T
    drawn = drawn[:, drawn[np.unique(first.truth.video)].any(axis=0)]
    parts = np.split(drawn, range(_RESAMPLES_AT_ONCE, drawn.shape[1], _RESAMPLES_AT_ONCE), axis=1)
    differences = [
        (map_of_replicates(first, part) - map_of_replicates(second, part)).mean(axis=1) for part in parts
    ]
    low, high = np.quantile(np.concatenate(differences), [0.025, 0.975]).tolist()
    return MapGain(value=average_map(first) - average_map(second), low=low, high=high)
