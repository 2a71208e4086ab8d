"""Input of `tsm-eval`: reads both files, checks them, prepares them by a mode, and warns of oddities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.modes import Mode
from tsm_runtime.evaluation.oddities import (
    Predictions,
    brief,
    check_case,
    check_videos,
    dropped_instances,
    dropped_predictions,
)
from tsm_runtime.evaluation.prepare import prepare_predictions, prepare_truth
from tsm_runtime.files import read_json_or_none
from tsm_runtime.formats.annotations import read_annotations
from tsm_runtime.formats.detection_json import read_detections, read_scene_scores
from tsm_runtime.formats.ground_truth import GroundTruth
from tsm_runtime.formats.options import ReadOptions
from tsm_runtime.formats.raw_segments import raw_segment
from tsm_runtime.formats.read_write import read_segments
from tsm_runtime.results import Segment

_DEFAULT_SUBSET = "validation"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationInput:
    """Truth and predictions, ready for matching.

    Args:
        truth: the videos of the subset, prepared by the mode.
        predictions: predicted segments per video id, in the order of the file.
        scenes: best scene per video id; empty if one of the files has none.
        subset: name of the subset; None if all videos are evaluated.
        warnings: ignored entries and oddities, one line each.
    """

    truth: GroundTruth
    predictions: Predictions
    scenes: dict[str, str]
    subset: str | None
    warnings: tuple[str, ...]

    @property
    def empty_truth(self) -> list[tuple[str, str | None]]:
        """Label and video of each instance of length zero."""
        return [(label, video.video_id) for video in self.truth.videos for label in video.empty_labels]


def read_evaluation_input(
    truth_path: Path,
    predictions_path: Path,
    mode: Mode,
    subset: str | None = None,
    options: ReadOptions | None = None,
) -> EvaluationInput:
    """Read both files; either may be gzipped.

    Args:
        truth_path: annotations, as `annotations.read_annotations` takes them.
        predictions_path: detections, as `read_write.read_segments` takes them.
        mode: rules for ignoring, dropping and refusing.
        subset: name of the subset; None: the only one, or "validation".
        options: options for reading files of other tools.

    Raises:
        UsageError: a file is not valid; the message names file, video and entry.
    """
    repeated: list[str] = []
    bounds: Literal["any", "count"] = "any" if mode.takes_any_bounds else "count"
    whole = read_annotations(truth_path, empty_segments=bounds, options=options, repeated=repeated)
    chosen, name, warnings = choose_subset(whole, subset, truth_path)
    warnings += brief(w for w in chosen.warnings if "zero-length" not in w or mode.empty_truth == "count")
    warnings += dropped_instances(chosen, mode, truth_path)
    truth = prepare_truth(chosen, mode)
    if not truth.action_labels:
        raise UsageError(
            f"{truth_path}: no action instance in the chosen videos: nothing to evaluate against"
        )
    content = read_json_or_none(predictions_path, repeated)
    read, dropped = read_predictions(predictions_path, content, mode, options)
    warnings += [*brief(repeated), *dropped]
    others = {video.video_id for video in whole.videos} - {video.video_id for video in chosen.videos}
    warnings += check_videos(read, truth, others, mode, predictions_path)
    warnings += check_case(truth.action_labels, truth_path)
    predictions, ignored = prepare_predictions(read, truth, mode, predictions_path, truth_path)
    return EvaluationInput(
        truth=truth,
        predictions=predictions,
        scenes=_best_scenes(predictions_path, content) if truth.scenes else {},
        subset=name,
        warnings=(*warnings, *ignored),
    )


def choose_subset(
    truth: GroundTruth, requested: str | None, path: Path
) -> tuple[GroundTruth, str | None, list[str]]:
    """Choose the videos to evaluate.

    Returns:
        The truth of the subset, its name (None for a single unnamed one) and warnings.

    Raises:
        UsageError: there is no such subset, or there are several and none is named "validation".
    """
    there = sorted({video.subset for video in truth.videos})
    if requested is not None:
        try:
            return truth.subset(requested), requested, []
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error
    if len(there) < 2:
        return truth, (there[0] or None) if there else None, []
    names = ", ".join(map(repr, there))
    if _DEFAULT_SUBSET in there:
        warning = f"{path}: subsets {names}: {_DEFAULT_SUBSET!r} is evaluated; --subset takes another"
        return truth.subset(_DEFAULT_SUBSET), _DEFAULT_SUBSET, [warning]
    raise UsageError(f"{path}: several subsets, {names}; choose one with --subset")


def read_predictions(
    path: Path, content: object, mode: Mode, options: ReadOptions | None = None
) -> tuple[Predictions, list[str]]:
    """Read detections in any format; those of ActivityNet's JSON may have invalid bounds.

    Args:
        path: the file.
        content: what it holds, if it is JSON; else None.
        mode: whether detections with invalid bounds count.
        options: options for reading files of other tools.

    Returns:
        The detections, and a warning for each kind that is left out.

    Raises:
        UsageError: names file and entry.
    """
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        return read_segments(path, options=options), []
    raw = read_detections(path, content, raw_segment)
    for segments in raw.values():
        for segment in segments:
            if not segment.label.strip():
                raise UsageError(f"{path}: a detection has an empty label")
    every: Predictions = {video: list(segments) for video, segments in raw.items()}
    if mode.takes_any_bounds:
        return every, []
    kept = {video: [s for s in found if _is_segment(s)] for video, found in every.items()}
    return kept, dropped_predictions(path, every)


def _is_segment(segment: Segment) -> bool:
    return 0 <= segment.start_seconds < segment.end_seconds


def _best_scenes(path: Path, content: object) -> dict[str, str]:
    if content is None:  # one of the other formats, which have no scenes
        return {}
    return {video: scenes[0].label for video, scenes in read_scene_scores(path, content).items() if scenes}
