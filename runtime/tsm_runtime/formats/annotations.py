"""Reading of ground truth: ActivityNet JSON, VIA 3 JSON, CSV, and formats of other tools."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from tsm_runtime.errors import UsageError
from tsm_runtime.files import Faults, is_folder, noting, read_json, read_text
from tsm_runtime.formats.csv_table import csv_rows, without_apostrophe
from tsm_runtime.formats.ground_truth import (
    EmptySegments,
    GroundTruth,
    VideoAnnotation,
    is_mmaction2,
    read_ground_truth,
)
from tsm_runtime.formats.kaggle import is_kaggle
from tsm_runtime.formats.names import format_of
from tsm_runtime.formats.numbers import parse_seconds
from tsm_runtime.formats.options import ReadOptions
from tsm_runtime.formats.read_write import read_segments
from tsm_runtime.formats.text import segment_at
from tsm_runtime.formats.via import read_via
from tsm_runtime.results import BACKGROUND, Segment
from tsm_runtime.wording import counted

AnnotationFormat = Literal["activitynet", "csv", "via", "mmaction2", "segments"]
"""`segments`: any format that `read_write.read_segments` reads; scores are ignored."""

_FOLDER_FORMATS = frozenset({"json", "eaf", "vtt", "srt", "audacity"})
_SHOWN = 3

_CSV_COLUMNS = ("video", "label", "start", "end")
_SCENE_COLUMNS = ("video", "scene")

Segments = dict[str, list[Segment]]


def annotation_format(path: Path) -> AnnotationFormat:
    """Return the kind of annotations in a file, or in a folder of files.

    Raises:
        UsageError: the path cannot be read, or has none of these kinds.
    """
    if is_folder(path):
        return _folder_format(path)
    if format_of(path.name) == "csv":
        return "segments" if is_kaggle(read_text(path).split("\n", 1)[0]) else "csv"
    if format_of(path.name) not in (None, "json"):
        return "segments"
    try:
        content = read_json(path)
    except UsageError:
        if format_of(path.name) == "json":
            raise
        return "segments"  # whose reader looks at the content
    return _json_format(path, content)


def _folder_format(folder: Path) -> AnnotationFormat:
    """Return the kind of the first readable file of a folder."""
    for file in _files_in(folder):
        try:
            return annotation_format(file)
        except UsageError:
            continue
    return "via"


def _json_format(path: Path, content: object) -> AnnotationFormat:
    keys = content.keys() if isinstance(content, dict) else ()
    if "database" in keys:
        return "activitynet"
    if "metadata" in keys:
        return "via"
    if is_mmaction2(content):
        return "mmaction2"
    if "results" in keys:
        return "segments"
    raise UsageError(
        f'{path}: neither "database" (ActivityNet JSON) nor "metadata" (VIA 3 JSON) nor "results" in it;'
        f" a CSV of {','.join(_CSV_COLUMNS)} ends in .csv"
    )


def read_annotations(
    path: Path,
    format_: AnnotationFormat | None = None,
    *,
    empty_segments: EmptySegments = "refuse",
    faults: Faults = None,
    options: ReadOptions | None = None,
    repeated: list[str] | None = None,
) -> GroundTruth:
    """Read ground truth in any of the formats; only ActivityNet's has durations and scenes.

    Args:
        path: a file, or a folder of files of one video each, such as VIA, ELAN or subtitles.
        format_: format of the file; None: detected from the content.
        empty_segments: for ActivityNet JSON, see `ground_truth.read_ground_truth`.
        faults: collects the faults of entries, which are then left out; None: the first fault is raised.
        options: tiers to read, and the meaning of videos without entries.
        repeated: collects keys that occur twice in an object of ActivityNet's JSON; None: `faults` does.

    Raises:
        UsageError: an entry is wrong; the message names file and entry.
    """
    format_ = format_ or annotation_format(path)
    options = options or ReadOptions()
    if format_ in ("activitynet", "mmaction2"):
        return read_ground_truth(path, empty_segments=empty_segments, faults=faults, repeated=repeated)
    unannotated: list[str] | None = None if options.unannotated == "background" else []
    subsets: dict[str, str] = {}
    if format_ == "csv":
        found = _read_csv(path, faults, subsets)
    elif format_ == "via":
        found = _read_via_files(path, faults, unannotated)
    else:
        found = _read_segment_files(path, faults, options)
    return GroundTruth(
        videos=tuple(
            VideoAnnotation(
                video_id=video_id,
                subset=subsets.get(video_id, ""),
                duration_seconds=None,
                scene=None,
                segments=tuple(segments),
            )
            for video_id, segments in found.items()
        ),
        warnings=_unannotated_warning(path, unannotated or [], len(found)),
        unannotated=tuple(unannotated or ()),
    )


def _unannotated_warning(path: Path, names: Sequence[str], num_others: int) -> tuple[str, ...]:
    if not names:
        return ()
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    total = len(names) + num_others
    return (
        f"{path}: no entry for {len(names)} of {counted(total, 'video')}: not annotated, left out: {shown}",
    )


def _files_in(folder: Path) -> list[Path]:
    """Return the annotation files in a folder that are of the most frequent kind."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    by_kind: dict[str, list[Path]] = {}
    for path in files:
        if (kind := format_of(path.name)) in _FOLDER_FORMATS:
            by_kind.setdefault(str(kind), []).append(path)
    return max(by_kind.values(), key=len, default=[])


def _read_segment_files(path: Path, faults: Faults, options: ReadOptions) -> Segments:
    files: Sequence[Path] = _files_in(path) if is_folder(path) else [path]
    found: Segments = {}
    for file in files:
        with noting(faults):
            for video_id, segments in read_segments(file, options=options).items():
                if video_id in found:
                    raise UsageError(f"{file}: video {video_id!r} is annotated in another file too")
                found[video_id] = check_labels(str(file), segments, faults)
    return found


def read_scenes(path: Path, *, faults: Faults = None) -> dict[str, str]:
    """Return the scene by video id from a CSV `video,scene`; other columns are ignored.

    Raises:
        UsageError: a line is wrong; the message names file and line.
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


def read_via_file(
    path: Path,
    *,
    faults: Faults = None,
    notes: list[str] | None = None,
    unannotated: list[str] | None = None,
) -> Segments:
    """Return the segments per video of a VIA 3 JSON in either spelling.

    Args:
        path: the file.
        faults: collects the faults of entries, which are then left out.
        notes: collects a note on text that is not UTF-8, which is then read with replacement characters.
        unannotated: see `via.read_via`.

    Raises:
        UsageError: the file cannot be read; without `faults` also for its first faulty entry, without
            `notes` also for text that is not UTF-8.
    """
    content = read_json(path, faults) if notes is None else _read_json_replacing(path, faults, notes)
    if not isinstance(content, dict) or "metadata" not in content:
        raise UsageError(f'{path}: no "metadata" object; expected JSON of the annotator VIA 3')
    found = read_via(path, content, faults, unannotated)
    return {video: check_labels(str(path), segments, faults) for video, segments in found.items()}


def check_labels(where: str, segments: Iterable[Segment], faults: Faults) -> list[Segment]:
    """Return the segments without those of the reserved label.

    Raises:
        UsageError: a segment has the reserved label, and `faults` is None.
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


def _read_csv(path: Path, faults: Faults, subsets: dict[str, str]) -> Segments:
    """Return the segments per video; a row with only a video stands for a video without actions.

    Args:
        path: the file.
        faults: collects the faults of rows.
        subsets: filled with the subset of each video, if there is such a column.
    """
    found: Segments = {}
    for where, cells in csv_rows(path, read_text(path), _CSV_COLUMNS, faults):
        video_id = without_apostrophe(cells["video"])
        with noting(faults):
            if not video_id.strip():
                raise UsageError(f"{where}: empty video")
            segments = found.setdefault(video_id, [])
            _note_subset(where, video_id, cells.get("subset", "").strip(), subsets)
            if any(cells[name].strip() for name in _CSV_COLUMNS[1:]):
                segment = _csv_segment(f"{where} (video {video_id!r})", cells)
                segments += check_labels(where, [segment], None)
    return found


def _note_subset(where: str, video_id: str, subset: str, subsets: dict[str, str]) -> None:
    if subset and subsets.setdefault(video_id, subset) != subset:
        raise UsageError(f"{where}: video {video_id!r} is in subset {subset!r} and in {subsets[video_id]!r}")


def _csv_segment(where: str, cells: Mapping[str, str]) -> Segment:
    bounds = []
    for name in ("start", "end"):
        try:
            bounds.append(parse_seconds(cells[name], decimal_comma=True))
        except ValueError:
            raise UsageError(f"{where}: {name} is {cells[name]!r}; expected seconds") from None
    return segment_at(where, without_apostrophe(cells["label"]), bounds[0], bounds[1])


def _read_via_files(path: Path, faults: Faults, unannotated: list[str] | None) -> Segments:
    files: Sequence[Path] = sorted(path.glob("*.json")) if is_folder(path) else [path]
    if not files:
        raise UsageError(f"{path}: no *.json in this folder; export each project from VIA into it")
    found: Segments = {}
    source: dict[str, Path] = {}
    for file in files:
        with noting(faults):
            for video_id, segments in read_via_file(file, faults=faults, unannotated=unannotated).items():
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
