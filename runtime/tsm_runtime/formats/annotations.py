"""Reading of ground truth in any format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tsm_runtime.errors import UsageError
from tsm_runtime.files import Faults, is_folder, noting, read_json, read_text
from tsm_runtime.formats.csv_truth import CSV_TRUTH_COLUMNS, read_csv_truth
from tsm_runtime.formats.frame_labels import MAPPING
from tsm_runtime.formats.ground_truth import (
    EmptySegments,
    GroundTruth,
    VideoAnnotation,
    check_labels,
    is_mmaction2,
    read_ground_truth,
)
from tsm_runtime.formats.names import format_of
from tsm_runtime.formats.options import ReadOptions
from tsm_runtime.formats.read_write import read_source
from tsm_runtime.formats.recognise import json_format, recognise_format
from tsm_runtime.formats.via import read_via
from tsm_runtime.results import Segment
from tsm_runtime.wording import counted, first_of

AnnotationFormat = Literal["activitynet", "csv", "via", "mmaction2", "segments"]
"""`segments`: any other format that `read_write.read_segments` reads; scores are ignored."""

_FOLDER_FORMATS = frozenset({"json", "eaf", "vtt", "srt", "audacity", "csv", "boris", "xml"})
_SHOWN = 3

Segments = dict[str, list[Segment]]


def annotation_format(path: Path) -> AnnotationFormat:
    """Return the kind of annotations in a file, or in a folder of files.

    Raises:
        UsageError: the path cannot be read, or has none of these kinds.
    """
    if is_folder(path):
        return _folder_format(path)
    if format_of(path.name) == "csv":
        return "csv" if recognise_format(path.name, read_text(path)) == "csv" else "segments"
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
    if "results" in keys or json_format(content) != "json":
        return "segments"
    raise UsageError(
        f'{path}: neither "database" (ActivityNet JSON) nor "metadata" (VIA 3 JSON) nor "results" in it,'
        f" nor the JSON of BORIS, Label Studio or VIA 2; a CSV of {','.join(CSV_TRUTH_COLUMNS)} ends in .csv"
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
        options: options of the formats, and the meaning of videos without entries.
        repeated: collects keys that occur twice in an object of ActivityNet's JSON; None: `faults` does.

    Raises:
        UsageError: an entry is wrong; the message names file and entry.
    """
    options = options or ReadOptions()
    format_ = "segments" if options.columns else format_ or annotation_format(path)
    if format_ in ("activitynet", "mmaction2"):
        return read_ground_truth(path, empty_segments=empty_segments, faults=faults, repeated=repeated)
    unannotated: list[str] | None = None if options.unannotated == "background" else []
    subsets: dict[str, str] = {}
    found: Segments = {}
    if format_ == "csv":
        for file in _files_in(path) if is_folder(path) else [path]:
            read_csv_truth(file, faults, subsets, found)
    elif format_ == "via":
        found = _read_via_files(path, faults, unannotated)
    else:
        found = _read_segment_files(path, faults, options, unannotated)
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
    total = counted(len(names) + num_others, "video")
    return (
        f"{path}: no entry for {len(names)} of {total}: not annotated, left out: {first_of(names, _SHOWN)}",
    )


def _files_in(folder: Path) -> list[Path]:
    """Return the annotation files in a folder that are of the most frequent kind."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    by_kind: dict[str, list[Path]] = {}
    for path in files:
        kind = format_of(path.name) or path.suffix.lower().lstrip(".")
        if kind in _FOLDER_FORMATS and path.name != MAPPING:
            by_kind.setdefault(kind, []).append(path)
    return max(by_kind.values(), key=len, default=[])


def _read_segment_files(
    path: Path, faults: Faults, options: ReadOptions, unannotated: list[str] | None
) -> Segments:
    files: Sequence[Path] = _files_in(path) if is_folder(path) else [path]
    found: Segments = {}
    idle: list[str] = []
    for file in files:
        with noting(faults):
            read, _ = read_source(file, options=options, faults=faults, unannotated=idle)
            for video_id, segments in read.items():
                if video_id in found and not _is_one_class(file, read):
                    raise UsageError(f"{file}: video {video_id!r} is annotated in another file too")
                found.setdefault(video_id, []).extend(check_labels(str(file), segments, faults))
    idle = [video_id for video_id in dict.fromkeys(idle) if video_id not in found]
    if unannotated is None:
        return found | {video_id: [] for video_id in idle}
    unannotated += idle
    return found


def _is_one_class(file: Path, read: Segments) -> bool:
    """Return whether a file has the instances of one class, as those of THUMOS: a video is in several."""
    labels = {segment.label for segments in read.values() for segment in segments}
    return len(labels) == 1 and file.suffix.lower() == ".txt"


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
