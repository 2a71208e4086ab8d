"""The rules of a mode, applied to truth and predictions before they are matched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.class_ids import collide
from tsm_runtime.evaluation.modes import Mode
from tsm_runtime.evaluation.oddities import Predictions, brief, unknown_labels
from tsm_runtime.formats.ground_truth import GroundTruth, VideoAnnotation
from tsm_runtime.results import Segment
from tsm_runtime.wording import counted


def prepare_truth(truth: GroundTruth, mode: Mode) -> GroundTruth:
    """Apply a mode's rules on zero length, duplicates, short instances and video ids."""
    videos: dict[str, VideoAnnotation] = {}
    for video in truth.videos:
        kept = _drop_instances(video, mode)
        name = video.video_id[mode.strip_truth_ids :]
        earlier = videos.get(name)
        videos[name] = replace(
            video,
            video_id=name,
            segments=(*(earlier.segments if earlier else ()), *kept),
            empty_labels=()
            if mode.empty_truth == "drop"
            else (*(earlier.empty_labels if earlier else ()), *video.empty_labels),
        )
    return GroundTruth(videos=tuple(videos.values()), warnings=truth.warnings)


def _drop_instances(video: VideoAnnotation, mode: Mode) -> list[Segment]:
    near = mode.duplicate_seconds
    kept: list[Segment] = []
    for segment in video.segments:
        if segment.end_seconds - segment.start_seconds < mode.min_truth_seconds:
            continue
        if near is not None and any(_equal(segment, other, near) for other in kept):
            continue
        kept.append(segment)
    return kept


def _equal(first: Segment, second: Segment, tolerance: float) -> bool:
    return (
        first.label == second.label
        and abs(first.start_seconds - second.start_seconds) <= tolerance
        and abs(first.end_seconds - second.end_seconds) <= tolerance
    )


def prepare_predictions(
    predictions: Mapping[str, Sequence[Segment]],
    truth: GroundTruth,
    mode: Mode,
    path: Path,
    truth_path: Path,
) -> tuple[Predictions, list[str]]:
    """Apply a mode's rules on short predictions and on labels that the truth does not have.

    Returns:
        The predictions to match, and warnings.

    Raises:
        UsageError: a label is unknown, and the mode refuses unknown labels.
    """
    least = mode.min_prediction_seconds or -math.inf
    kept = {
        video: [s for s in segments if s.end_seconds - s.start_seconds > least]
        for video, segments in predictions.items()
    }
    known = set(truth.action_labels)
    judged = set(kept) if mode.unknown_videos == "count" else {video.video_id for video in truth.videos}
    unknown = unknown_labels(predictions, known, judged, path)
    if not unknown:
        return kept, []
    if mode.unknown_labels == "refuse":
        where, _ = next(iter(unknown.values()))
        raise UsageError(
            f"{where}\nthe code that mode {mode.name!r} follows stops here; --mode tsm ignores it"
        )
    warnings = brief(
        f"{where}; {counted(count, 'such prediction')} ignored" for where, count in unknown.values()
    )
    if mode.unknown_labels == "collide":
        return collide(kept, known, set(unknown), truth_path, warnings)
    return kept, warnings
