"""A grid of settings, judged on scores that are there already, and the choice among them.

The best of many settings on a few videos is in part luck. So `choose_without` measures what a choice is worth
on a video that had no part in it: each video is cut into segments with the setting that the others choose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.evaluation.matching import Matching, match_segments
from tsm_runtime.evaluation.protocol import Evaluation, score_matching
from tsm_runtime.results import IntervalScores, Segment
from tsm_runtime.segments.find import find_segments
from tsm_runtime.segments.rules import SegmentRules
from tsm_train.ablation.stored_scores import CellScores

TIOU_THRESHOLDS = (0.5, 0.75, 0.95)

Truth = Mapping[str, Sequence[Segment]]
Predictions = dict[str, list[Segment]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One point of the grid."""

    spec: ClipSpec
    rules: SegmentRules

    @property
    def effort(self) -> tuple[int, float, float, float]:
        """What a setting does beyond the plain merge; of equally good ones the least is chosen."""
        spec, rules = self.spec, self.rules
        return spec.num_overlapping, spec.window_seconds, rules.smoothing_seconds, rules.min_duration_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a setting finds on videos, and how good that is."""

    setting: Setting
    predictions: Predictions
    matching: Matching
    evaluation: Evaluation


def settings_of(
    specs: Iterable[ClipSpec],
    smoothing: Iterable[float],
    min_duration: Iterable[float],
    thresholds: tuple[float, ...] = (),
) -> list[Setting]:
    """Return the grid of all that is given."""
    return [
        Setting(
            spec=spec,
            rules=SegmentRules(thresholds=thresholds, smoothing_seconds=width, min_duration_seconds=shortest),
        )
        for spec, width, shortest in product(specs, smoothing, min_duration)
    ]


def judge(
    setting: Setting, scores: CellScores, labels: tuple[str, ...], truth: Truth, min_score: float = 0.0
) -> Judged:
    """Make segments of the truth's videos with a setting and evaluate them at `TIOU_THRESHOLDS`."""
    kept = scores[setting.spec]
    predictions = {
        video: _segments(setting, kept[video], labels, min_score) for video in truth if video in kept
    }
    matching = match_segments(truth, predictions, TIOU_THRESHOLDS)
    return Judged(
        setting=setting,
        predictions=predictions,
        matching=matching,
        evaluation=score_matching(matching, predictions),
    )


def _segments(
    setting: Setting, cells: IntervalScores, labels: tuple[str, ...], min_score: float
) -> list[Segment]:
    # The scores are of cells already, which follow one another.
    cell = ClipSpec(interval_seconds=setting.spec.stride_seconds)
    segments, _ = find_segments(cells, labels, cell, setting.rules)
    return [segment for segment in segments if segment.score >= min_score]


def choose(judged: Sequence[Judged]) -> Judged:
    """Return the setting with the highest mean mAP; of equal ones the one that does least."""
    return max(
        judged, key=lambda one: (round(one.evaluation.average_map, 9), [-x for x in one.setting.effort])
    )


def choose_without(judged: Sequence[Judged], truth: Truth) -> tuple[dict[str, Setting], Matching]:
    """Give each video the setting that is best on all other videos.

    Args:
        judged: every setting on every video.
        truth: of two or more videos.

    Returns:
        The setting of each video, and the matching of the segments that they make together.
    """
    chosen: dict[str, Setting] = {}
    predictions: Predictions = {}
    for video in truth:
        others = {other: segments for other, segments in truth.items() if other != video}
        best = max(
            judged,
            key=lambda one: (round(_average_map(one, others), 9), [-x for x in one.setting.effort]),
        )
        chosen[video] = best.setting
        predictions[video] = best.predictions.get(video, [])
    return chosen, match_segments(truth, predictions, TIOU_THRESHOLDS)


def _average_map(judged: Judged, truth: Truth) -> float:
    matching = match_segments(truth, judged.predictions, TIOU_THRESHOLDS)
    return score_matching(matching, judged.predictions).average_map
