"""Ground truth from the files people have: ActivityNet JSON, VIA 3 JSON, CSV."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from tsm_runtime.errors import UsageError
from tsm_runtime.files import Faults, is_folder, noting, read_json, read_text
from tsm_runtime.formats.csv_table import csv_rows, without_apostrophe
from tsm_runtime.formats.ground_truth import GroundTruth, VideoAnnotation, read_ground_truth
from tsm_runtime.formats.text import segment_at
from tsm_runtime.formats.via import read_via
from tsm_runtime.results import BACKGROUND, Segment

AnnotationFormat = Literal["activitynet", "csv", "via"]

_CSV_COLUMNS = ("video", "label", "start", "end")
_SCENE_COLUMNS = ("video", "scene")

Segments = dict[str, list[Segment]]


def annotation_format(path: Path) -> AnnotationFormat:
    """Tell what kind of annotations a file, or a folder of VIA files, holds.

    Raises:
        UsageError: it cannot be read, or is none of these.
    """
    if is_folder(path):
        return "via"
    if path.suffix.lower() == ".csv":
        return "csv"
    content = read_json(path)
    if isinstance(content, dict) and "database" in content:
        return "activitynet"
    if isinstance(content, dict) and "metadata" in content:
        return "via"
    raise UsageError(
        f'{path}: neither "database" (ActivityNet JSON) nor "metadata" (VIA 3 JSON) in it;'
        f" a CSV of {','.join(_CSV_COLUMNS)} ends in .csv"
    )


def read_annotations(
    path: Path,
    format_: AnnotationFormat | None = None,
    *,
    empty_segments: Literal["refuse", "count"] = "refuse",
    faults: Faults = None,
) -> GroundTruth:
    """Read ground truth in any of the formats; only ActivityNet's tells subsets, durations and scenes.

    Args:
        path: a file; of VIA also a folder, whose `*.json` are read.
        format_: None: by what the file holds.
        empty_segments: of ActivityNet JSON, see `annotations.read_ground_truth`.
        faults: gets the faults of entries, which are then left out; without it the first is raised.

    Raises:
        UsageError: names file and entry.
    """
    format_ = format_ or annotation_format(path)
    if format_ == "activitynet":
        return read_ground_truth(path, empty_segments=empty_segments, faults=faults)
    found = _read_csv(path, faults) if format_ == "csv" else _read_via_files(path, faults)
    return GroundTruth(
        videos=tuple(
            VideoAnnotation(
                video_id=video_id, subset="", duration_seconds=None, scene=None, segments=tuple(segments)
            )
            for video_id, segments in found.items()
        )
    )


def read_scenes(path: Path, *, faults: Faults = None) -> dict[str, str]:
    """Scene by video id from a CSV `video,scene`; other columns are ignored.

    Raises:
        UsageError: names file and line.
    """
    scenes: dict[str, str] = {}
    for where, cells in csv_rows(path, read_text(path), _SCENE_COLUMNS, faults):
        video_id, scene = (without_apostrophe(cells[name]) for name in _SCENE_COLUMNS)
        with noting(faults):
            if not video_id.strip() or not scene.strip():
                raise UsageError(f"{where}: empty {'scene' if video_id.strip() else 'video'}")
            if scenes.get(video_id, scene) != scene:
                raise UsageError(f"{where}: video {video_id!r} has the scene {scenes[video_id]!r} already")
            scenes[video_id] = scene
    return scenes


def read_via_file(path: Path, *, faults: Faults = None, notes: list[str] | None = None) -> Segments:
    """Segments per video of a VIA 3 JSON in either spelling.

    Args:
        path: the file.
        faults: gets the faults of entries, which are then left out.
        notes: gets a word on text that is not UTF-8, which is then read with replacement characters.

    Raises:
        UsageError: the file cannot be read; without `faults` also for its first faulty entry, without
            `notes` also for text that is not UTF-8.
    """
    content = read_json(path, faults) if notes is None else _read_json_replacing(path, faults, notes)
    if not isinstance(content, dict) or "metadata" not in content:
        raise UsageError(f'{path}: no "metadata" object; expected JSON of the annotator VIA 3')
    found = read_via(path, content, faults)
    return {video: check_labels(str(path), segments, faults) for video, segments in found.items()}


def check_labels(where: str, segments: Iterable[Segment], faults: Faults) -> list[Segment]:
    """Return the segments without those of the reserved label.

    Raises:
        UsageError: there is one, and `faults` does not collect.
    """
    kept = []
    for segment in segments:
        with noting(faults):
            if segment.label == BACKGROUND:
                span = f"[{segment.start_seconds:g}, {segment.end_seconds:g}]"
                raise UsageError(
                    f"{where}: segment {span}: label {BACKGROUND!r} is reserved; leave background unannotated"
                )
            kept.append(segment)
    return kept


def _read_csv(path: Path, faults: Faults) -> Segments:
    """Segments per video. A row with a video and nothing else stands for a video without actions."""
    found: Segments = {}
    for where, cells in csv_rows(path, read_text(path), _CSV_COLUMNS, faults):
        video_id = without_apostrophe(cells["video"])
        with noting(faults):
            if not video_id.strip():
                raise UsageError(f"{where}: empty video")
            segments = found.setdefault(video_id, [])
            if any(cells[name].strip() for name in _CSV_COLUMNS[1:]):
                segment = _csv_segment(f"{where} (video {video_id!r})", cells)
                segments += check_labels(where, [segment], None)
    return found


def _csv_segment(where: str, cells: Mapping[str, str]) -> Segment:
    bounds = []
    for name in ("start", "end"):
        try:
            bounds.append(float(cells[name]))
        except ValueError:
            raise UsageError(f"{where}: {name} is {cells[name]!r}; expected seconds") from None
    return segment_at(where, without_apostrophe(cells["label"]), bounds[0], bounds[1])


def _read_via_files(path: Path, faults: Faults) -> Segments:
    files: Sequence[Path] = sorted(path.glob("*.json")) if is_folder(path) else [path]
    if not files:
        raise UsageError(f"{path}: no *.json in this folder; export each project from VIA into it")
    found: Segments = {}
    source: dict[str, Path] = {}
    for file in files:
        with noting(faults):
            for video_id, segments in read_via_file(file, faults=faults).items():
                with noting(faults):
                    if (other := source.setdefault(video_id, file)) != file:
                        raise UsageError(f"{file}: video {video_id!r} is annotated in {other.name} too")
                    found[video_id] = segments
    return found


def _read_json_replacing(path: Path, faults: Faults, notes: list[str]) -> object:
    try:
        return read_json(path, faults)
    except UsageError as error:
        try:
            text = path.read_bytes().decode("utf-8-sig", "replace")
            content: object = json.loads(text)
        except (OSError, ValueError, RecursionError):
            raise error from None
    notes.append(f"{path}: not UTF-8; the bytes in question were read as \N{REPLACEMENT CHARACTER}")
    return content
