"""Content of a report page, as small validated values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tsm_runtime.evaluation.bootstrap import BootstrapIntervals
from tsm_runtime.evaluation.protocol import Evaluation
from tsm_runtime.formats.ground_truth import VideoAnnotation
from tsm_runtime.results import IntervalScores, Result, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSegments:
    """Segments of one member of an ensemble, before fusion."""

    name: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreStrip:
    """Class probabilities per interval, drawn under the segments; per cell where intervals overlap.

    Args:
        scores: K intervals or cells; the k-th is [k*t, (k+1)*t) seconds.
        labels: A action labels in the order of `scores.action`, background last where there is one.
        interval_seconds: t, the length of one.

    Raises:
        ValueError: the number of labels is not the number of action scores, or t is not positive.
    """

    scores: IntervalScores
    labels: tuple[str, ...]
    interval_seconds: float

    def __post_init__(self) -> None:
        count = self.scores.action.shape[1]
        if count != len(self.labels):
            raise ValueError(f"score strip: {count} action scores for {len(self.labels)} labels")
        if not (math.isfinite(self.interval_seconds) and self.interval_seconds > 0):
            raise ValueError(f"score strip: an interval of {self.interval_seconds} s; expected more than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoReport:
    """One video of a report.

    Args:
        result: result of the video.
        video: the file to play, or None: the timeline is shown without a picture.
        members: segments of each member, shown beside the result of their fusion.
        truth: true segments, or None.
        strip: probabilities per interval, or None.
        has_facts: False if `result` holds segments read from a file, so that intervals, gaps and corrupt
            frames are unknown and not shown.
        name: name of `result` on the timeline; empty: "found", or "fused" if there are members.
    """

    result: Result
    video: Path | None = None
    members: tuple[MemberSegments, ...] = ()
    truth: VideoAnnotation | None = None
    strip: ScoreStrip | None = None
    has_facts: bool = True
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionRecall:
    """The monotone envelope of precision over recall of one class at one threshold, as steps.

    Between recall[i-1] (0 before the first) and recall[i] the precision is precision[i], and 0 beyond the
    last: the area under the steps is the average precision.

    Args:
        recall: rising, 0 to 1.
        precision: falling, 0 to 1.
    """

    label: str
    tiou: float
    recall: tuple[float, ...]
    precision: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.recall) != len(self.precision):
            raise ValueError(f"{len(self.recall)} recalls for {len(self.precision)} precisions")

    @property
    def area(self) -> float:
        """Return the area under the steps."""
        widths = np.diff(self.recall, prepend=0.0)
        return float(np.dot(widths, self.precision))


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Confusion matrix of predicted and true labels.

    Args:
        labels: C classes of the truth.
        counts: (C + 1) rows of C + 1: row = true label, last "nothing is there"; column = predicted label,
            last "missed". The last cell is 0, as true negatives cannot be counted.
        tiou: threshold from which a prediction and an instance are matched.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    tiou: float

    def __post_init__(self) -> None:
        size = len(self.labels) + 1
        if len(self.counts) != size or any(len(row) != size for row in self.counts):
            raise ValueError(f"confusion matrix of {size - 1} labels: expected {size} rows of {size} counts")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationCharts:
    """An evaluation, ready to be drawn; `evaluation_charts.chart_evaluation` makes it.

    Args:
        evaluation: average precision per class and threshold.
        curves: precision over recall per class and threshold; may be empty.
        confusion: predicted label against true label, or None.
        bootstrap: confidence intervals of mAP, or None.
        diagnosis: charts by title; each maps its bars to the parts they are stacked from, as
            {"False positives": {"1 x truth": {"background": 0.2, "double": 0.1}}}. A bar of a single part is
            a plain bar.
        scene_accuracy: share of videos whose scene was right, or None.
        num_videos: number of evaluated videos.
        mode: name of the rules of evaluation.
        notes: lines on ignored entries and on content left out of the page.

    Raises:
        ValueError: a value of the diagnosis is negative or not finite.
    """

    evaluation: Evaluation
    curves: tuple[PrecisionRecall, ...] = ()
    confusion: Confusion | None = None
    bootstrap: BootstrapIntervals | None = None
    diagnosis: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    scene_accuracy: float | None = None
    num_videos: int = 0
    mode: str = "tsm"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for title, bars in self.diagnosis.items():
            for bar, parts in bars.items():
                for part, value in parts.items():
                    if not (math.isfinite(value) and value >= 0):
                        raise ValueError(
                            f"diagnosis {title!r}, bar {bar!r}, part {part!r}: {value}; expected 0 or more"
                        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything on one page: videos, an evaluation, or both.

    Args:
        about: how the content was made, by name: models, options, versions, date.
        caveats: lines that a reader must know first.

    Raises:
        ValueError: there is neither, or two videos have the same id.
    """

    title: str
    videos: tuple[VideoReport, ...] = ()
    evaluation: EvaluationCharts | None = None
    about: Mapping[str, str] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.videos and self.evaluation is None:
            raise ValueError("a report needs a video or an evaluation")
        ids = [video.result.video_id for video in self.videos]
        if len(set(ids)) < len(ids):
            twice = next(name for name in ids if ids.count(name) > 1)
            raise ValueError(f"two videos of the report have the id {twice!r}")
