"""Input of `tsm-eval`: reads both files, checks them, prepares them by a mode, and warns of oddities."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.modes import Mode
from tsm_runtime.files import read_json, read_text
from tsm_runtime.formats.annotations import read_annotations
from tsm_runtime.formats.detection_json import read_scene_scores
from tsm_runtime.formats.ground_truth import GroundTruth, VideoAnnotation
from tsm_runtime.formats.options import ReadOptions
from tsm_runtime.formats.raw_segments import read_raw_detections
from tsm_runtime.formats.read_write import read_segments
from tsm_runtime.results import Segment
from tsm_runtime.wording import counted

_DEFAULT_SUBSET = "validation"
_SHOWN = 5

Predictions = dict[str, list[Segment]]


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
    warnings += _brief(w for w in chosen.warnings if "zero-length" not in w or mode.empty_truth == "count")
    warnings += _dropped_instances(chosen, mode, truth_path)
    truth = prepare_truth(chosen, mode)
    if not truth.action_labels:
        raise UsageError(
            f"{truth_path}: no action instance in the chosen videos: nothing to evaluate against"
        )
    read, dropped = read_predictions(predictions_path, mode, repeated, options)
    warnings += [*_brief(repeated), *dropped]
    others = {video.video_id for video in whole.videos} - {video.video_id for video in chosen.videos}
    warnings += _check_videos(read, truth, others, mode, predictions_path)
    warnings += _check_case(truth.action_labels, truth_path)
    predictions, ignored = prepare_predictions(read, truth, mode, predictions_path, truth_path)
    return EvaluationInput(
        truth=truth,
        predictions=predictions,
        scenes=_best_scenes(predictions_path) if truth.scenes else {},
        subset=name,
        warnings=(*warnings, *ignored),
    )


# --- subset ---------------------------------------------------------------------------------------


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


# --- truth ----------------------------------------------------------------------------------------


def _dropped_instances(truth: GroundTruth, mode: Mode, path: Path) -> list[str]:
    """Return a warning about instances of length zero, if the default mode leaves them out."""
    empty = [(video.video_id, entry) for video in truth.videos for entry in video.empty_entries]
    if mode.takes_any_bounds or not empty:
        return []
    video, entry = empty[0]
    return [
        f"{path}: {counted(len(empty), 'instance')} of length zero left out, the first in video {video!r},"
        f" entry {entry}; --mode activitynet counts such as missed"
    ]


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


# --- predictions ----------------------------------------------------------------------------------


def read_predictions(
    path: Path, mode: Mode, repeated: list[str], options: ReadOptions | None = None
) -> tuple[Predictions, list[str]]:
    """Read detections in any format; those of ActivityNet's JSON may have invalid bounds.

    Args:
        path: the file.
        mode: whether detections with invalid bounds count.
        repeated: collects keys that occur twice in an object of the JSON.
        options: options for reading files of other tools.

    Returns:
        The detections, and a warning for each kind that is left out.

    Raises:
        UsageError: names file and entry.
    """
    content = _json_content(path, repeated)
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        return read_segments(path, options=options), []
    raw = read_raw_detections(path, content)
    for segments in raw.values():
        for segment in segments:
            if not segment.label.strip():
                raise UsageError(f"{path}: a detection has an empty label")
    every: Predictions = {video: list(segments) for video, segments in raw.items()}
    if mode.takes_any_bounds:
        return every, []
    kept = {video: [s for s in found if _is_segment(s)] for video, found in every.items()}
    return kept, _dropped_predictions(path, every)


def _json_content(path: Path, repeated: list[str]) -> object:
    try:
        return read_json(path, repeated)
    except UsageError:  # another format: its reader raises the right error
        return None


def _is_segment(segment: Segment) -> bool:
    return 0 <= segment.start_seconds < segment.end_seconds


def _dropped_predictions(path: Path, found: Predictions) -> list[str]:
    every = [
        (f"video {video!r}, entry {number}", segment)
        for video, segments in found.items()
        for number, segment in enumerate(segments, start=1)
    ]
    kinds = (
        ("start below 0", [where for where, s in every if s.start_seconds < 0]),
        (
            "have no length",
            [where for where, s in every if s.start_seconds >= 0 and s.end_seconds <= s.start_seconds],
        ),
    )
    return [
        f"{path}: {counted(len(places), 'prediction')} left out, which {kind}; the first: {places[0]}"
        for kind, places in kinds
        if places
    ]


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
    unknown = _unknown_labels(predictions, known, judged, path)
    if not unknown:
        return kept, []
    if mode.unknown_labels == "refuse":
        where, _ = next(iter(unknown.values()))
        raise UsageError(
            f"{where}\nthe code that mode {mode.name!r} follows stops here; --mode tsm ignores it"
        )
    warnings = _brief(
        f"{where}; {counted(count, 'such prediction')} ignored" for where, count in unknown.values()
    )
    if mode.unknown_labels == "collide":
        return _collide(kept, known, set(unknown), truth_path, warnings)
    return kept, warnings


def _unknown_labels(
    predictions: Mapping[str, Sequence[Segment]], known: set[str], judged: set[str], path: Path
) -> dict[str, tuple[str, int]]:
    """Return for each unknown label a description of its first prediction, and how many it has."""
    by_case = {_spelling(label): label for label in sorted(known)}
    found: dict[str, tuple[str, int]] = {}
    for video, segments in predictions.items():
        if video not in judged:
            continue
        for number, segment in enumerate(segments, start=1):
            label = segment.label
            if label in known:
                continue
            where, count = found.get(label, ("", 0))
            if not count:
                near = by_case.get(_spelling(label))
                hint = f" (probably {near!r} misspelt)" if near else ""
                where = f"{path}: video {video!r}, entry {number}: label {label!r} is not in the truth{hint}"
            found[label] = (where, count + 1)
    return found


def _check_videos(
    predictions: Mapping[str, Sequence[Segment]], truth: GroundTruth, others: set[str], mode: Mode, path: Path
) -> list[str]:
    """Return a warning about predictions in videos of other subsets, and one about unknown videos."""
    judged = {video.video_id for video in truth.videos}
    treated = "ignored" if mode.unknown_videos == "ignore" else "counted as false"
    lines = []
    for kind, names in (
        ("of another subset", [v for v in predictions if v in others and v not in judged]),
        ("that the truth does not have", [v for v in predictions if v not in others and v not in judged]),
    ):
        count = sum(len(predictions[name]) for name in names)
        if count:
            lines.append(
                f"{path}: {counted(count, 'prediction')} {treated}: in {counted(len(names), 'video')} {kind}:"
                f" {_listed(names)}"
            )
    if not judged & set(predictions):
        lines.append(f"{path}: no video is among those of the truth; are the ids spelt as there?")
    return lines


def _check_case(labels: Sequence[str], path: Path) -> list[str]:
    """Return warnings about true labels that differ only in case, spaces or Unicode composition."""
    first: dict[str, str] = {}
    pairs = [
        (first[_spelling(label)], label)
        for label in labels
        if first.setdefault(_spelling(label), label) != label
    ]
    return [
        f"{path}: labels {a!r} and {b!r} are two classes; is one of them misspelt?" for a, b in pairs[:_SHOWN]
    ]


def _spelling(label: str) -> str:
    """Return a key that is equal for labels that look alike."""
    return " ".join(unicodedata.normalize("NFKC", label).replace("_", " ").split()).casefold()


def _collide(
    predictions: Predictions, known: set[str], unknown: set[str], truth_path: Path, warnings: list[str]
) -> tuple[Predictions, list[str]]:
    """Assign predictions of a class without truth to the class whose position equals their class id.

    ActionFormer's evaluator behaves so: it replaces the ids of true classes by their positions among the
    sorted ids, and leaves other ids unchanged.
    """
    ids = {label: int(label) for label in unknown if label.isdecimal()} | _class_ids(truth_path)
    missing = sorted(label for label in known | unknown if label not in ids)
    if missing:
        why = f'{truth_path}: no "label_id" for {_listed(missing)}: collisions of ids are not imitated'
        return predictions, [*warnings, why]
    positions = sorted(known, key=lambda label: ids[label])
    new = {label: positions[ids[label]] for label in unknown if 0 <= ids[label] < len(positions)}
    moved = {
        video: [replace(s, label=new[s.label]) if s.label in new else s for s in segments]
        for video, segments in predictions.items()
    }
    pairs = ", ".join(f"{label!r} as {new[label]!r}" for label in sorted(new)[:_SHOWN])
    taken = [f"class ids collide, as in the evaluator that is imitated: {pairs}"] if new else []
    return moved, [*(line for line in warnings if new.keys() != unknown), *taken]


class _Labelled(msgspec.Struct):
    label: str
    label_id: int | str | None = None


def _class_ids(path: Path) -> dict[str, int]:
    """Return the class id of each label in all subsets' annotations; a whole number is its own id."""
    content = _json_content(path, [])
    database = content.get("database", {}) if isinstance(content, dict) else {}
    ids: dict[str, int] = {}
    for video_id, video in database.items():
        for number, raw in enumerate(video.get("annotations", ()), start=1):
            try:
                entry = msgspec.convert(raw, _Labelled)
            except msgspec.ValidationError as error:
                raise UsageError(f"{path}: video {video_id!r}, entry {number}: {error}") from error
            own = int(entry.label) if entry.label.isdecimal() else None
            where = f"{path}: video {video_id!r}, entry {number}"
            value = own if entry.label_id is None else _class_id(where, entry.label_id)
            if value is not None and ids.setdefault(entry.label, value) != value:
                raise UsageError(
                    f"{path}: video {video_id!r}, entry {number}: label {entry.label!r} has the class ids "
                    f"{ids[entry.label]} and {value}; give it one"
                )
    return ids


def _class_id(where: str, value: int | str) -> int:
    try:
        return int(value)
    except ValueError:
        raise UsageError(f"{where}: label_id is {value!r}; expected a whole number") from None


def _best_scenes(path: Path) -> dict[str, str]:
    try:
        content = json.loads(read_text(path))
    except ValueError:  # one of the other formats that `read_write.read_segments` takes: they have no scenes
        return {}
    return {video: scenes[0].label for video, scenes in read_scene_scores(path, content).items() if scenes}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, sorted(names)[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")


def _brief(lines: Iterable[str]) -> list[str]:
    """Return the first lines, and the number of further ones."""
    every = list(lines)
    more = len(every) - _SHOWN
    return every if more <= 0 else [*every[:_SHOWN], f"... and {more} more like the last"]
