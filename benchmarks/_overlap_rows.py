"""Rows of `overlaps.py`: ways from scores to segments, chosen on validation videos, judged on test videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.evaluation.bootstrap import bootstrap_difference
from tsm_runtime.evaluation.diagnosis import diagnose
from tsm_runtime.evaluation.instance_traits import InstanceKey, Trait
from tsm_runtime.evaluation.matching import match_segments
from tsm_runtime.results import BACKGROUND, IntervalScores, Segment
from tsm_runtime.segments.rules import SegmentRules
from tsm_runtime.segments.smoothing import cell_scores, smooth_scores
from tsm_train.ablation.settings_grid import Judged, Setting, choose, judge
from tsm_train.ablation.stored_scores import CellScores
from tsm_train.data.interval_labels import interval_coverage, interval_label
from tsm_train.data.video import TrainingVideo
from tsm_train.samples.clips import covering_labels
from tsm_train.synthetic.plan import FRAMES_PER_SECOND, SHORT_FRAMES
from tsm_train.training.thresholds import UNKNOWN_THRESHOLD, thresholds_of_scores

REPLICATES = 2000
SHORT_SECONDS = SHORT_FRAMES[1] / FRAMES_PER_SECOND
_TOLERANCE_SECONDS = 1e-6

Videos = Sequence[TrainingVideo]
Truth = Mapping[str, Sequence[Segment]]
Head = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class Grid:
    """What is tried after the scores: seconds, but strides as parts of the interval."""

    strides: Sequence[int]
    smoothing: Sequence[float]
    min_duration: Sequence[float]


@dataclass(frozen=True)
class Source:
    """Where scores come from.

    Args:
        name: of a network, or of what needs none.
        labels: of the scores; those of a softmax head end with the background.
        specs: grids of intervals, the one without overlap first.
        validation, test: scores of cells, not smoothed, by spec and video id.
    """

    name: str
    labels: tuple[str, ...]
    specs: Sequence[ClipSpec]
    validation: CellScores
    test: CellScores

    @property
    def is_softmax(self) -> bool:
        """Whether an interval has one label at most."""
        return self.labels[-1] == BACKGROUND


@dataclass(frozen=True)
class Row:
    """Segments of the test videos, made in the way that was best on the validation videos."""

    source: str
    way: str
    judged: Judged
    validation_map: float

    def described(self, truth: Truth, first: Row) -> dict[str, Any]:
        """Return the row for JSON, in percent; `difference`: 95 % interval of mAP above the first row."""
        setting, found = self.judged.setting, self.judged.evaluation
        scores = zip(found.tiou_thresholds, found.map_per_tiou, strict=True)
        row = {
            "source": self.source,
            "way": self.way,
            "stride": round(setting.spec.stride_seconds, 6),
            "smoothing": setting.rules.smoothing_seconds,
            "min_duration": setting.rules.min_duration_seconds,
            "thresholds": [round(value, 3) for value in setting.rules.thresholds],
            **{f"map_{t:g}": percent(value) for t, value in scores},
            "map": percent(found.average_map),
            "validation_map": percent(self.validation_map),
            "bins": bins_of(self.judged, truth),
        }
        if self is not first:
            drawn = bootstrap_difference(
                self.judged.matching, first.judged.matching, replicates=REPLICATES
            ).average
            row["difference"] = [percent(drawn.low), percent(drawn.high)]
        return row


def percent(share: float) -> float:
    """Return a share in percent."""
    return round(100 * share, 1)


# --- scores ---------------------------------------------------------------------------------------


def specs_of(base: ClipSpec, strides: Sequence[int]) -> list[ClipSpec]:
    """Return the grids of intervals, the one without overlap first."""
    t = base.interval_seconds
    return [replace(base, stride_seconds=t / parts) for parts in dict.fromkeys((1, *strides))]


def perfect_scores(videos: Videos, labels: tuple[str, ...], specs: Sequence[ClipSpec]) -> CellScores:
    """Return the scores of a classifier that gives each interval exactly what it would be taught."""
    return {spec: {video.video_id: _perfect_cells(video, labels, spec) for video in videos} for spec in specs}


def _perfect_cells(video: TrainingVideo, labels: tuple[str, ...], spec: ClipSpec) -> IntervalScores:
    count = spec.num_intervals(video.duration_seconds or 0.0)
    action = np.zeros((count, len(labels)), np.float32)
    for k in range(count):
        start = k * spec.stride_seconds
        taught = taught_labels(video.segments, start, start + spec.interval_seconds, labels)
        action[k, [labels.index(label) for label in taught]] = 1.0
    return cell_scores(IntervalScores(indices=np.arange(count), action=action), spec.num_overlapping)


def taught_labels(
    segments: Sequence[Segment], start: float, end: float, labels: tuple[str, ...]
) -> frozenset[str]:
    """Return what training teaches of [start, end): of a softmax head one label, else any number."""
    if labels[-1] == BACKGROUND:
        return frozenset([interval_label(segments, start, end)])
    return covering_labels(segments, start, end)


# --- settings -------------------------------------------------------------------------------------


def ways_of(source: Source, videos: Videos, grid: Grid) -> dict[str, list[Setting]]:
    """Return the ways to make segments, each with the settings that the validation videos choose from.

    Plain, each stride alone, smoothing alone and shortest duration alone (which may turn out to be best off),
    and all of it. Of a sigmoid head plain has the thresholds that `tsm-train` would choose; in the other ways
    the validation videos choose between such and equal ones.
    """
    plain, equal = source.specs[0], _equal_thresholds(source)
    settings = [setting for spec in source.specs for setting in _settings(source, spec, videos, grid)]
    alone = {setting: _options_on(setting) for setting in settings}
    ways = {"plain": [_plain(plain, _thresholds(source, plain, 0.0, videos))]}
    if not source.is_softmax:
        ways[f"plain, thresholds {UNKNOWN_THRESHOLD:g}"] = [_plain(plain, equal)]
    for spec in source.specs[1:]:
        mine = [one for one, on in alone.items() if on == {"stride"} and one.spec == spec]
        ways[f"stride t/{spec.num_overlapping}"] = mine
    for option in ("smoothing", "shortest duration"):
        ways[option] = [one for one, on in alone.items() if on <= {option}]
    return {**ways, "all, chosen": settings}


def _plain(spec: ClipSpec, thresholds: tuple[float, ...]) -> Setting:
    return Setting(spec=spec, rules=SegmentRules(thresholds=thresholds))


def _settings(source: Source, spec: ClipSpec, videos: Videos, grid: Grid) -> list[Setting]:
    """Return the settings of a grid of intervals.

    Scores that are averaged over time need thresholds of their own; `tsm-train` chooses them so too, where
    the configuration has a stride or smoothing.
    """
    return [
        Setting(
            spec=spec,
            rules=SegmentRules(thresholds=thresholds, smoothing_seconds=width, min_duration_seconds=shortest),
        )
        for width in dict.fromkeys((0.0, *grid.smoothing))
        for thresholds in dict.fromkeys((_thresholds(source, spec, width, videos), _equal_thresholds(source)))
        for shortest in dict.fromkeys((0.0, *grid.min_duration))
    ]


def _equal_thresholds(source: Source) -> tuple[float, ...]:
    return () if source.is_softmax else (UNKNOWN_THRESHOLD,) * len(source.labels)


def _thresholds(
    source: Source, spec: ClipSpec, smoothing_seconds: float, videos: Videos
) -> tuple[float, ...]:
    """Choose the thresholds of a sigmoid head on the validation videos; a softmax head has none."""
    if source.is_softmax:
        return ()
    cells = {
        video_id: smooth_scores(scores, spec.stride_seconds, smoothing_seconds)
        for video_id, scores in source.validation[spec].items()
    }
    return thresholds_of_scores(videos, cells, source.labels, spec.stride_seconds)


def _options_on(setting: Setting) -> frozenset[str]:
    on = {
        "stride": setting.spec.num_overlapping > 1,
        "smoothing": setting.rules.smoothing_seconds > 0,
        "shortest duration": setting.rules.min_duration_seconds > 0,
    }
    return frozenset(name for name, is_on in on.items() if is_on)


def rows_of(source: Source, validation: Videos, test: Videos, grid: Grid) -> list[Row]:
    """Return a row for each way, its setting chosen on the validation videos."""
    known, unknown = ({v.video_id: v.segments for v in videos} for videos in (validation, test))
    judged: dict[Setting, Judged] = {}
    rows = []
    for way, settings in ways_of(source, validation, grid).items():
        for setting in settings:
            if setting not in judged:
                judged[setting] = judge(setting, source.validation, source.labels, known)
        best = choose([judged[setting] for setting in settings])
        on_test = judge(best.setting, source.test, source.labels, unknown)
        rows.append(Row(source.name, way, on_test, best.evaluation.average_map))
    return rows


# --- by length and overlap ------------------------------------------------------------------------


def traits_of(truth: Truth) -> list[Trait]:
    """Return length, overlap, and both of each instance, as names."""
    length: dict[InstanceKey, float | str] = {}
    overlap: dict[InstanceKey, float | str] = {}
    for video_id, segments in truth.items():
        for segment in segments:
            key = (video_id, segment.label, segment.start_seconds, segment.end_seconds)
            seconds = segment.end_seconds - segment.start_seconds
            length[key] = "short" if seconds <= SHORT_SECONDS + _TOLERANCE_SECONDS else "long"
            overlap[key] = overlap_name(segment, segments)
    both: dict[InstanceKey, float | str] = {key: f"{length[key]}, {overlap[key]}" for key in length}
    return [
        Trait(name=name, values=values)
        for name, values in (("length", length), ("overlap", overlap), ("length, overlap", both))
    ]


def overlap_name(segment: Segment, segments: Sequence[Segment]) -> str:
    """Return how much of an instance the union of other labels' instances covers."""
    start, end = segment.start_seconds, segment.end_seconds
    others = [replace(other, label="") for other in segments if other.label != segment.label]
    covered = interval_coverage(others, start, end).get("", 0.0)
    if covered < _TOLERANCE_SECONDS:
        return "alone"
    return "half or more" if covered >= (end - start) / 2 - _TOLERANCE_SECONDS else "less than half"


def bins_of(judged: Judged, truth: Truth) -> dict[str, dict[str, dict[str, float]]]:
    """Return for each bin of each trait: instances; found at tIoU 0.5 and normalised mAP, in percent."""
    traits = traits_of(truth)
    whole = diagnose(judged.matching, traits)
    half = diagnose(match_segments(truth, judged.predictions, (0.5,)), traits)
    return {
        ours.name: {
            one.name: {
                "instances": one.instances,
                "found": percent(1 - at_half.missed),
                "normalised_map": percent(one.normalised_map),
            }
            for one, at_half in zip(ours.bins, theirs.bins, strict=True)
        }
        for ours, theirs in zip(whole.traits, half.traits, strict=True)
    }
