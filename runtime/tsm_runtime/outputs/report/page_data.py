"""A report as the JSON value that the page's script, assets/main.js, reads."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tsm_runtime.formats.ground_truth import VideoAnnotation
from tsm_runtime.formats.text import lanes, rounded
from tsm_runtime.outputs.class_colors import color_slots
from tsm_runtime.outputs.report.content import Confusion, EvaluationCharts, Report, ScoreStrip, VideoReport
from tsm_runtime.results import BACKGROUND, Segment, ranked_scenes

_MAX_LANES = 4
"""Maximum number of lanes for overlapping segments of one class; further segments share the last lane."""


def page_data(
    report: Report,
    media: Sequence[Mapping[str, str] | None],
    thumbnails: Sequence[str | None] | None = None,
    waveforms: Sequence[str | None] | None = None,
) -> dict[str, Any]:
    """Return the JSON value of a page.

    Args:
        report: content of the page.
        media: address and display name per video, {"src": ..., "name": ...}, of sound without pictures also
            {"kind": "audio"}, or None.
        thumbnails: data address of a picture per video, or None.
        waveforms: see `waveform`, per video, or None.

    Returns:
        Labels are numbers into "labels"; a segment is [label, start, end, score, lane]; times in seconds.
    """
    labels = _all_labels(report)
    number = {label: i for i, label in enumerate(labels)}
    slots = color_slots(_shown_labels(report), (label for label in labels if label != BACKGROUND))
    return {
        "title": report.title,
        "labels": labels,
        "colors": [slots.get(label, -1) for label in labels],
        "about": [[name, text] for name, text in report.about.items()],
        "caveats": list(report.caveats),
        "waveforms": list(waveforms or [None] * len(report.videos)),
        "thumbnails": list(thumbnails or [None] * len(report.videos)),
        "videos": [_video(video, source, number) for video, source in zip(report.videos, media, strict=True)],
        "evaluation": None if report.evaluation is None else _evaluation(report.evaluation),
    }


def _shown_labels(report: Report) -> set[str]:
    """Return the labels of all segments: only they are drawn in colour."""
    found: set[str] = set()
    for video in report.videos:
        members = [segment for member in video.members for segment in member.segments]
        true = video.truth.segments if video.truth else ()
        found.update(s.label for s in (*video.result.segments, *members, *true))
    return found


def _all_labels(report: Report) -> list[str]:
    named = {label for video in report.videos if video.strip for label in video.strip.labels}
    return sorted(_shown_labels(report) | named, key=lambda label: (label == BACKGROUND, label))


# --- a video --------------------------------------------------------------------------------------


def _video(video: VideoReport, media: Mapping[str, str] | None, number: Mapping[str, int]) -> dict[str, Any]:
    result = video.result
    main = video.name or ("fused" if video.members else "found")
    found = [(main, result.segments), *((member.name, member.segments) for member in video.members)]
    return {
        "id": result.video_id,
        "media": dict(media) if media else None,
        "duration": rounded(drawn_seconds(video)),
        "facts": _facts(video) if video.has_facts else None,
        "warnings": list(result.warnings),
        "gaps": [[rounded(start), rounded(end)] for start, end in result.gaps],
        "scenes": [[scene.label, rounded(scene.score)] for scene in ranked_scenes(result.scenes)],
        "members": [{"name": name, "segments": _segments(listed, number)} for name, listed in found],
        "truth": None if video.truth is None else _truth(video.truth, number),
        "strip": None if video.strip is None else _strip(video.strip, number),
    }


def drawn_seconds(video: VideoReport) -> float:
    """Return the length of the timeline: that of the video, or up to the last drawn item."""
    members = [segment for member in video.members for segment in member.segments]
    true = video.truth.segments if video.truth else ()
    ends = [s.end_seconds for s in (*video.result.segments, *members, *true)]
    return max([video.result.duration_seconds, *ends])


def _facts(video: VideoReport) -> dict[str, Any]:
    result = video.result
    return {
        "duration": rounded(result.duration_seconds),
        "interval": rounded(result.interval_seconds),
        "intervals": result.num_intervals,
        "stride": rounded(result.stride_seconds),
        "complete": result.complete,
        "corrupt": result.corrupt_frames,
    }


def _truth(truth: VideoAnnotation, number: Mapping[str, int]) -> dict[str, Any]:
    return {"scene": truth.scene, "segments": _segments(truth.segments, number)}


def _segments(segments: Sequence[Segment], number: Mapping[str, int]) -> list[list[float]]:
    """Return the segments by time, each with its lane within the row of its class."""
    ordered = sorted(segments, key=lambda s: (s.start_seconds, s.end_seconds, s.label))
    lane_of: dict[int, int] = {}
    for label in {s.label for s in ordered}:
        rows = [i for i, s in enumerate(ordered) if s.label == label]
        chosen = lanes([(ordered[i].start_seconds, ordered[i].end_seconds) for i in rows])
        lane_of.update(zip(rows, chosen, strict=True))
    return [
        [
            number[s.label],
            rounded(s.start_seconds),
            rounded(s.end_seconds),
            rounded(s.score),
            min(lane_of[i], _MAX_LANES - 1),
        ]
        for i, s in enumerate(ordered)
    ]


def _strip(strip: ScoreStrip, number: Mapping[str, int]) -> dict[str, Any]:
    """Return scores as bytes 0 ... 255 in base64, by label; interval numbers as runs [first, count]."""
    scores = np.clip(np.rint(strip.scores.action.T * 255), 0, 255).astype(np.uint8)
    indices = strip.scores.indices
    borders = np.flatnonzero(np.diff(indices) != 1) + 1
    runs = [part for part in np.split(indices, borders) if len(part)]
    return {
        "labels": [number[label] for label in strip.labels],
        "interval": strip.interval_seconds,
        "runs": [[int(run[0]), len(run)] for run in runs],
        "data": base64.b64encode(scores.tobytes()).decode("ascii"),
    }


# --- an evaluation --------------------------------------------------------------------------------


def _evaluation(report: EvaluationCharts) -> dict[str, Any]:
    evaluation = report.evaluation
    labels = list(evaluation.ap)
    return {
        "mode": report.mode,
        "tiou": list(evaluation.tiou_thresholds),
        "map": [rounded(value) for value in evaluation.map_per_tiou],
        "average": rounded(evaluation.average_map),
        "labels": labels,
        "ap": [[rounded(value) for value in evaluation.ap[label]] for label in labels],
        "videos": report.num_videos,
        "truth": evaluation.num_truth,
        "predictions": evaluation.num_predictions,
        "scene": report.scene_accuracy,
        "bootstrap": _bootstrap(report),
        "curves": [
            {"label": c.label, "tiou": c.tiou, "points": _thinned(c.recall, c.precision)}
            for c in report.curves
        ],
        "confusion": None if report.confusion is None else _confusion(report.confusion),
        "diagnosis": [
            {"title": title, "bars": [[bar, list(parts.items())] for bar, parts in bars.items()]}
            for title, bars in report.diagnosis.items()
        ],
        "notes": list(report.notes),
    }


def _bootstrap(report: EvaluationCharts) -> dict[str, Any] | None:
    drawn = report.bootstrap
    if drawn is None:
        return None
    return {
        "replicates": drawn.replicates,
        "confidence": drawn.confidence,
        "average": [rounded(drawn.average.low), rounded(drawn.average.high)],
        "tiou": [[rounded(each.low), rounded(each.high)] for each in drawn.tiou],
    }


def _confusion(confusion: Confusion) -> dict[str, Any]:
    return {
        "labels": list(confusion.labels),
        "counts": [list(row) for row in confusion.counts],
        "tiou": confusion.tiou,
    }


def _thinned(recall: Sequence[float], precision: Sequence[float]) -> list[list[float]]:
    """Return steps [recall, precision] in thousandths of the chart; equal ones are joined."""
    points: list[list[float]] = []
    for x, y in zip(recall, precision, strict=True):
        point = [round(x, 3), round(y, 3)]
        if points and points[-1][1] == point[1]:
            points[-1] = point
        else:
            points.append(point)
    return points
