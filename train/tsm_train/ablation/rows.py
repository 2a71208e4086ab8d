"""A row of the table: what a file of segments is worth, beside the first row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from tsm_runtime.evaluation.bootstrap import Interval, bootstrap_difference, bootstrap_map
from tsm_runtime.evaluation.matching import Matching, match_segments
from tsm_runtime.evaluation.protocol import Evaluation, scene_accuracy, score_matching
from tsm_runtime.files import read_text
from tsm_runtime.formats.detection_json import read_scene_scores
from tsm_runtime.formats.read_write import read_segments
from tsm_train.ablation.paper import PaperRow
from tsm_train.ablation.videos import truth_of
from tsm_train.data.video import TrainingVideo
from tsm_train.training.validation import TIOU_THRESHOLDS

REPLICATES = 2000
"""Of the bootstrap over videos."""

Kind = Literal["member", "ensemble", "post-processing"]


class Span(msgspec.Struct, frozen=True):
    """A 95 % interval."""

    low: float
    high: float

    @classmethod
    def of(cls, interval: Interval) -> Span:
        """Return an interval of the bootstrap."""
        return cls(interval.low, interval.high)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row; scores 0 to 1, None where there is none."""

    name: str
    kind: Kind
    segments: str
    """File, from the folder of the table."""
    map: float
    """Mean over the thresholds."""
    tiou: dict[str, float]
    """mAP by threshold, as "0.5"."""
    map_interval: Span | None = None
    """Over resampled videos; None with fewer than two."""
    difference: float | None = None
    """Of `map` to the first row's; None for that."""
    difference_interval: Span | None = None
    scene_top1: float | None = None
    task: str = ""
    backbone: str = ""
    interval_seconds: float | None = None
    shift: bool | None = None
    epochs: int | None = None
    best_epoch: int | None = None
    clips_per_epoch: int | None = None
    minutes: float | None = None
    """Of training, with validation and first decoding."""
    clips_per_second: float | None = None
    """Of training: clips learnt in these minutes."""
    run_clips_per_second: float | None = None
    """Of running on videos, decoding included, when that was done."""
    validation_map: float | None = None
    """What weights and settings are chosen by."""
    detail: dict[str, object] = {}
    """Weights of an ensemble, settings after the scores."""
    in_sample: bool = False
    """Whether more than the epoch was chosen on just these videos: the score is too high."""
    paper: PaperRow | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A file of segments, judged."""

    matching: Matching
    evaluation: Evaluation
    scene_top1: float | None

    @property
    def tiou(self) -> dict[str, float]:
        """Return mAP by threshold."""
        found = self.evaluation
        return {f"{t:g}": v for t, v in zip(found.tiou_thresholds, found.map_per_tiou, strict=True)}


def score_file(path: Path, videos: Sequence[TrainingVideo]) -> Scored:
    """Judge a file of segments as `tsm-eval` does.

    Raises:
        UsageError: the file cannot be read.
    """
    truth, predictions = truth_of(videos), read_segments(path)
    matching = match_segments(truth, predictions, TIOU_THRESHOLDS)
    return Scored(
        matching=matching,
        evaluation=score_matching(matching, predictions),
        scene_top1=_scene_top1(path, {v.video_id: v.scene for v in videos if v.scene is not None}),
    )


def _scene_top1(path: Path, scenes: Mapping[str, str]) -> float | None:
    found = read_scene_scores(path, json.loads(read_text(path)))
    best = {video: listed[0].label for video, listed in found.items() if listed}
    return scene_accuracy(scenes, best) if scenes and best else None


def compared(row: Row, scored: Scored, first: Scored) -> Row:
    """Return a row with its intervals and its difference to the first row; `first` may be its own."""
    if len(scored.matching.videos) >= 2:
        drawn = bootstrap_map(scored.matching, replicates=REPLICATES)
        row = msgspec.structs.replace(row, map_interval=Span.of(drawn.average))
    if scored is first:
        return row
    row = msgspec.structs.replace(row, difference=row.map - first.evaluation.average_map)
    if len(scored.matching.videos) < 2:
        return row
    drawn = bootstrap_difference(scored.matching, first.matching, replicates=REPLICATES)
    return msgspec.structs.replace(row, difference_interval=Span.of(drawn.average))
