"""Numbers behind the charts of an evaluation page: precision over recall, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.bootstrap import BootstrapIntervals
from tsm_runtime.evaluation.matching import Matching
from tsm_runtime.evaluation.protocol import score_matching
from tsm_runtime.evaluation.segment_table import Bools, Floats, Ints, pairwise_tiou
from tsm_runtime.formats.ground_truth import VideoAnnotation
from tsm_runtime.outputs.report.content import Confusion, EvaluationCharts, PrecisionRecall, VideoReport
from tsm_runtime.results import Result, Segment


def precision_recall(matching: Matching) -> tuple[PrecisionRecall, ...]:
    """Return the curve of every class at every threshold, by class and then threshold.

    Neighbouring steps of equal height are joined, which does not change the area.
    """
    curves = []
    hits = matching.hits
    for number, label in enumerate(matching.labels):
        rows = hits[matching.predictions.rows_of(number)]
        num_truth = int(matching.num_truth[number])
        for k, tiou in enumerate(matching.thresholds.tolist()):
            recall, precision = _steps(rows[:, k], num_truth)
            curves.append(PrecisionRecall(label=label, tiou=tiou, recall=recall, precision=precision))
    return tuple(curves)


def _steps(hits: Bools, num_truth: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1][hits]
    recall = np.arange(1, len(envelope) + 1) / num_truth
    last_of_step = np.append(envelope[1:] < envelope[:-1], True)[: len(envelope)]
    return tuple(recall[last_of_step].tolist()), tuple(envelope[last_of_step].tolist())


def confusion_matrix(matching: Matching, tiou: float = 0.5) -> Confusion:
    """Count predicted labels against true ones at one threshold.

    The matches of the evaluation form the diagonal, its true positives. Then each remaining prediction, by
    falling score, takes the free instance of another label in its video with the highest tIoU that reaches
    the threshold. Remaining predictions count as "nothing is there", remaining instances as "missed".

    Args:
        matching: made with `tiou` among its thresholds.
        tiou: the threshold.

    Raises:
        UsageError: `tiou` is not among the thresholds.
    """
    column = np.flatnonzero(np.isclose(matching.thresholds, tiou))
    if not column.size:
        there = ", ".join(f"{value:g}" for value in matching.thresholds)
        raise UsageError(f"confusion matrix at tIoU {tiou:g}: the evaluation was done at {there}")
    true, predicted = matching.truth, matching.predictions
    instance = matching.instance[:, column[0]].astype(np.int64)
    free = np.ones(len(true), dtype=np.bool_)
    free[instance[instance >= 0]] = False
    wrong = np.flatnonzero(instance < 0)
    wrong = wrong[np.argsort(-predicted.score[wrong], kind="stable")]
    taken = _take_other_labels(matching, wrong, free, tiou)
    free[taken[taken >= 0]] = False
    nothing = len(matching.labels)  # the last row and column
    right = predicted.label[instance >= 0]
    missed = np.concatenate([true.label[free], matching.empty_label])
    confused = taken >= 0
    counts = _count_pairs(
        [right, true.label[taken[confused]], np.full(int(np.sum(~confused)), nothing), missed],
        [
            right,
            predicted.label[wrong[confused]],
            predicted.label[wrong[~confused]],
            np.full(len(missed), nothing),
        ],
        nothing + 1,
    )
    return Confusion(labels=matching.labels, counts=counts, tiou=tiou)


def _count_pairs(rows: Sequence[Ints], columns: Sequence[Ints], size: int) -> tuple[tuple[int, ...], ...]:
    """Count each (row, column) pair; returns size x size counts."""
    flat = np.concatenate(rows) * size + np.concatenate(columns)
    counts = np.bincount(flat, minlength=size * size).reshape(size, size)
    return tuple(tuple(row) for row in counts.tolist())


def _take_other_labels(matching: Matching, predictions: Ints, free: Bools, tiou: float) -> Ints:
    """Return the row of the instance that each prediction takes, in the given order, or -1."""
    truth, predicted = matching.truth, matching.predictions
    open_ = free.copy()
    by_video = _rows_by_video(truth.video)
    taken = np.full(len(predictions), -1, dtype=np.int64)
    for n, p in enumerate(predictions.tolist()):
        rows = by_video.get(int(predicted.video[p]))
        if rows is None:
            continue
        rows = rows[open_[rows] & (truth.label[rows] != predicted.label[p])]
        overlap = _overlap(predicted.start[p], predicted.end[p], truth.start[rows], truth.end[rows])
        if len(rows) and overlap.max() >= tiou - matching.rules.tiou_tolerance:
            taken[n] = rows[int(overlap.argmax())]
            open_[taken[n]] = False
    return taken


def _overlap(start: float, end: float, starts: Floats, ends: Floats) -> Floats:
    return pairwise_tiou(np.asarray(start), np.asarray(end), starts, ends)


def _rows_by_video(video: Ints) -> dict[int, Ints]:
    order = np.argsort(video, kind="stable")
    numbers, first = np.unique(video[order], return_index=True)
    return dict(zip(numbers.tolist(), np.split(order, first[1:]), strict=True)) if len(order) else {}


def chart_evaluation(
    matching: Matching,
    predictions: Mapping[str, Sequence[Segment]],
    *,
    bootstrap: BootstrapIntervals | None = None,
    diagnosis: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
    scene_accuracy: float | None = None,
    mode: str = "tsm",
    notes: Sequence[str] = (),
) -> EvaluationCharts:
    """Return the charts of an evaluation page, from one matching.

    The confusion matrix is made at tIoU 0.5 if that is among the thresholds, else at the lowest threshold.

    Args:
        matching: from `matching.match_segments`.
        predictions: the matched predictions, used to count those left out.
        bootstrap: confidence intervals of the same matching.
        diagnosis: see `EvaluationCharts`; `diagnosis_charts` makes it.
        scene_accuracy: share of videos whose scene was right.
        mode: name of the rules of evaluation.
        notes: lines for display, such as `Evaluation.warnings`.
    """
    evaluation = score_matching(matching, predictions)
    at_half = np.isclose(matching.thresholds, 0.5).any()
    confusion_tiou = 0.5 if at_half else float(matching.thresholds.min())
    # Rules that are not one-to-one give recalls above 1, which no curve can show.
    one_to_one = matching.rules.one_to_one
    return EvaluationCharts(
        evaluation=evaluation,
        curves=precision_recall(matching) if one_to_one else (),
        confusion=confusion_matrix(matching, confusion_tiou) if one_to_one else None,
        bootstrap=bootstrap,
        diagnosis=diagnosis or {},
        scene_accuracy=scene_accuracy,
        num_videos=len(matching.videos),
        mode=mode,
        notes=tuple(notes),
    )


def prediction_videos(
    videos: Sequence[VideoAnnotation],
    predictions: Mapping[str, Sequence[Segment]],
    *,
    max_videos: int = 200,
    max_segments: int = 200,
) -> tuple[tuple[VideoReport, ...], tuple[str, ...]]:
    """Return timelines of an evaluation: true and predicted segments of the first videos.

    Args:
        videos: videos in the order of display.
        predictions: predictions per video id.
        max_videos: maximum number of videos on the page.
        max_segments: maximum number of predictions of a video, those with the highest scores.

    Returns:
        The videos, and a line for each kind of content left out.
    """
    shown = []
    num_cut = 0
    for video in videos[:max_videos]:
        found = sorted(predictions.get(video.video_id, ()), key=lambda s: -s.score)
        num_cut += max(0, len(found) - max_segments)
        result = _as_result(video, found[:max_segments])
        shown.append(VideoReport(result=result, truth=video, has_facts=False))
    notes = []
    if len(videos) > max_videos:
        notes.append(f"timelines of the first {max_videos} of {len(videos)} videos")
    if num_cut:
        notes.append(f"timelines show the {max_segments} best predictions of a video; {num_cut} are left out")
    return tuple(shown), tuple(notes)


def _as_result(video: VideoAnnotation, segments: Sequence[Segment]) -> Result:
    ends = [s.end_seconds for s in (*segments, *video.segments)]
    return Result(
        video_id=video.video_id,
        segments=tuple(sorted(segments, key=lambda s: (s.start_seconds, s.end_seconds, s.label))),
        scenes=(),
        interval_seconds=1.0,
        num_intervals=0,
        duration_seconds=max([video.duration_seconds or 0.0, *ends]),
        complete=True,
        gaps=(),
        corrupt_frames=0,
        warnings=(),
    )
