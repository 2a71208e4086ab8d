"""Average recall at average number of proposals, as ActivityNet's proposal task defines it (AR@AN).

Labels are ignored. The same share of each video's proposals, those with the best scores, is kept, so that
videos with many proposals keep many; AN is the number kept, averaged over the videos with instances.
Recall is averaged over tIoU 0.5:0.05:0.95. The area under the curve from AN = 1 to 100, divided by 100, is
the score of the task. Source: eval_proposal.py of activitynet/ActivityNet, whose rounding is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.matching import blocks, checked_thresholds
from tsm_runtime.evaluation.modes import MatchRules
from tsm_runtime.evaluation.segment_table import (
    Floats,
    Ints,
    SegmentTable,
    listing_order,
    pairwise_tiou,
    to_table,
)
from tsm_runtime.results import Segment

REPORTED_NUMBERS = (1, 5, 10, 50, 100)
"""Average numbers of proposals that are reported, as usual in the field."""

_THRESHOLDS = tuple(float(value) for value in np.linspace(0.5, 0.95, 10))
_STEPS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRecall:
    """Curve of average recall over the average number of proposals, in 100 steps.

    Args:
        average_number: 100 average numbers of proposals per video.
        average_recall: 100 recalls, averaged over the thresholds, 0 to 1.
        area: area under the curve divided by the last average number, 0 to 1.
    """

    average_number: tuple[float, ...]
    average_recall: tuple[float, ...]
    area: float

    def at(self, number: float) -> float:
        """Return the recall at an average number of proposals, interpolated linearly from (0, 0)."""
        return float(np.interp(number, (0.0, *self.average_number), (0.0, *self.average_recall)))


def proposal_recall(
    truth: Mapping[str, Sequence[Segment]],
    proposals: Mapping[str, Sequence[Segment]],
    *,
    max_average_number: float = 100.0,
    tiou_thresholds: Sequence[float] = _THRESHOLDS,
    rules: MatchRules | None = None,
    num_elsewhere: int = 0,
    empty_truth: Sequence[str] = (),
) -> ProposalRecall:
    """Return the average recall at average number of proposals.

    Args:
        truth: instances per video id; videos without instances are not part of the averages.
        proposals: predictions per video id; their labels are ignored.
        max_average_number: last average number of the curve.
        tiou_thresholds: thresholds that recall is averaged over.
        rules: the order of equal scores, and the tolerance of tIoU.
        num_elsewhere: number of proposals in videos without truth; they lower the kept share of all videos,
            as in the official code.
        empty_truth: video of each instance of length zero, which no proposal finds.

    Raises:
        UsageError: no video has an instance, or a threshold is out of range.
    """
    chosen = rules or MatchRules()
    levels = checked_thresholds(tiou_thresholds)
    names = sorted({video for video, instances in truth.items() if instances} | set(empty_truth))
    if not names:
        raise UsageError("the ground truth holds no action instance: nothing to evaluate against")
    videos = {name: index for index, name in enumerate(names)}
    true = _unlabelled(truth, videos)
    true = true.take(np.argsort(true.video, kind="stable"))
    found = _unlabelled(proposals, videos)
    found = found.take(np.lexsort((*listing_order(found, chosen), -found.score, found.video)))
    count = np.bincount(found.video, minlength=len(names))
    total = len(found) + num_elsewhere
    ratio = max_average_number * len(names) / total if total else 0.0
    kept = np.minimum((count * ratio).astype(np.int64), count)
    share = np.arange(1, _STEPS + 1) / 100.0 * (max_average_number * len(names) / max(int(kept.sum()), 1))
    allowed = np.minimum((kept[:, np.newaxis] * share).astype(np.int64), kept[:, np.newaxis])
    rank = _first_rank(true, found, levels - chosen.tiou_tolerance)
    matched = np.array([(column[:, np.newaxis] <= allowed[true.video]).sum(axis=0) for column in rank.T])
    recall = matched.mean(axis=0) / (len(true) + len(empty_truth))
    number = (
        share * (float(kept.sum()) / len(names)) if kept.sum() else max_average_number * share / share[-1]
    )
    area = float(np.sum(np.diff(number) * (recall[1:] + recall[:-1]) / 2) / number[-1])
    return ProposalRecall(
        average_number=tuple(number.tolist()), average_recall=tuple(recall.tolist()), area=area
    )


def _unlabelled(segments: Mapping[str, Sequence[Segment]], videos: Mapping[str, int]) -> SegmentTable:
    labels = {s.label: 0 for listed in segments.values() for s in listed}
    return to_table(segments, labels, videos)


def _first_rank(true: SegmentTable, found: SegmentTable, least_tiou: Floats) -> Ints:
    """Return the rank in its video, from 1, of the first proposal that reaches each instance, (G, K)."""
    never = np.iinfo(np.int64).max
    rank = np.full((len(true), len(least_tiou)), never)
    first = np.searchsorted(found.video, true.video, side="left")
    count = np.searchsorted(found.video, true.video, side="right") - first
    for rows in blocks(count):
        counts = count[rows]
        begin = np.cumsum(counts) - counts
        within = np.arange(counts.sum()) - np.repeat(begin, counts)
        proposal = np.repeat(first[rows], counts) + within
        instance = np.repeat(rows, counts)
        overlap = pairwise_tiou(
            found.start[proposal], found.end[proposal], true.start[instance], true.end[instance]
        )
        for k, least in enumerate(least_tiou):
            rank[rows, k] = np.minimum.reduceat(np.where(overlap >= least, within + 1, never), begin)
    return rank
