"""Ground truth: annotated videos, and the ActivityNet `database` JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from tsm_runtime.errors import UsageError
from tsm_runtime.files import Faults, noting, read_json
from tsm_runtime.formats.raw_segments import raw_segment
from tsm_runtime.results import BACKGROUND, Segment
from tsm_runtime.strict import convert

EmptySegments = Literal["refuse", "count", "any"]

_TOLERANCE_SECONDS = 1e-9
_DURATION_SLACK_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoAnnotation:
    """Annotations of one video.

    Args:
        duration_seconds: duration according to the file, or None.
        segments: segments in the order of the file.
        empty_labels: labels of zero-length instances (see `read_ground_truth`): no prediction can match them,
            but an evaluation counts them as missed.
        empty_entries: their positions in the file's list of annotations, counted from 1.
    """

    video_id: str
    subset: str
    duration_seconds: float | None
    scene: str | None
    segments: tuple[Segment, ...]
    empty_labels: tuple[str, ...] = ()
    empty_entries: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundTruth:
    """Annotated videos in the order of the file.

    Args:
        videos: annotations of each video.
        warnings: oddities in the entries, one line each.
        unannotated: ids of videos that the file lists without any entry, which are not annotated yet.
    """

    videos: tuple[VideoAnnotation, ...]
    warnings: tuple[str, ...] = ()
    unannotated: tuple[str, ...] = ()

    def subset(self, name: str) -> GroundTruth:
        """Return the videos of one subset, with the warnings of the whole file.

        Raises:
            UsageError: no video belongs to the subset; the message lists the subsets.
        """
        videos = tuple(video for video in self.videos if video.subset == name)
        if not videos:
            there = ", ".join(sorted({repr(video.subset) for video in self.videos})) or "none"
            raise UsageError(f"no video of subset {name!r}; subsets in the annotations: {there}")
        return GroundTruth(videos=videos, warnings=self.warnings, unannotated=self.unannotated)

    @property
    def action_labels(self) -> tuple[str, ...]:
        """Labels of all instances, sorted; without background."""
        found = {segment.label for video in self.videos for segment in video.segments}
        return tuple(sorted(found.union(*(video.empty_labels for video in self.videos))))

    @property
    def scene_labels(self) -> tuple[str, ...]:
        """Scene labels, sorted."""
        return tuple(sorted({video.scene for video in self.videos if video.scene is not None}))

    @property
    def segments(self) -> dict[str, tuple[Segment, ...]]:
        """Segments per video id, as `evaluation.evaluate` takes them; a video without any has ()."""
        return {video.video_id: video.segments for video in self.videos}

    @property
    def scenes(self) -> dict[str, str]:
        """Scene per video id, of the videos that have one."""
        return {video.video_id: video.scene for video in self.videos if video.scene is not None}


class _Video(msgspec.Struct):
    subset: str = ""
    duration: float | None = None
    duration_second: float | None = None
    scene: str | None = None
    annotations: list[Any] = []


def read_ground_truth(
    path: Path,
    *,
    empty_segments: EmptySegments = "refuse",
    faults: Faults = None,
    repeated: list[str] | None = None,
) -> GroundTruth:
    """Read an ActivityNet `database` JSON with an optional "scene" per video; other fields are ignored.

    Args:
        path: the file.
        empty_segments: treatment of an instance of length zero. "refuse" raises an error. "count" keeps it in
            `VideoAnnotation.empty_labels` with a warning: ActivityNet 1.3 itself has such instances, and its
            official figures count them as missed; an instance that starts below 0 or ends before it starts
            is left out, with a warning. "any" counts too, and keeps such bounds, as evaluators do.
        faults: collects the faults of videos and entries, which are then left out.
        repeated: collects keys that occur twice in an object; None: `faults` does.

    Raises:
        UsageError: an entry is wrong; the message names file, video and entry (from 1) of the first fault.
    """
    content = read_json(path, faults if repeated is None else repeated)
    database = (
        content.get("database", content if is_mmaction2(content) else None)
        if isinstance(content, dict)
        else None
    )
    if not isinstance(database, dict):
        raise UsageError(f'{path}: no "database" object; expected ActivityNet annotations')
    warnings: list[str] = []
    videos = []
    for video_id, raw in database.items():
        where = f"{path}: video {video_id!r}"
        with noting(faults):
            videos.append(_read_video(raw, video_id, where, empty_segments, warnings, faults))
    return GroundTruth(videos=tuple(videos), warnings=tuple(warnings))


def is_mmaction2(content: object) -> bool:
    """Return whether a JSON value is only the database, by video, as in BMN and MMAction2."""
    return (
        isinstance(content, dict)
        and bool(content)
        and all(isinstance(video, dict) and "annotations" in video for video in content.values())
    )


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


def _read_video(
    raw: object, video_id: str, where: str, empty: EmptySegments, warnings: list[str], faults: Faults
) -> VideoAnnotation:
    video = convert(raw, _Video, where)
    if video.duration is None:
        video.duration = video.duration_second
    if video.duration is not None and not (math.isfinite(video.duration) and video.duration >= 0):
        raise UsageError(f'{where}: "duration" is {video.duration}; expected seconds >= 0')
    if video.scene is not None and not video.scene.strip():
        raise UsageError(f'{where}: "scene" is empty; leave it out when it is unknown')
    segments = []
    empty_labels = []
    empty_entries = []
    for number, entry in enumerate(video.annotations, start=1):
        annotation = None
        with noting(faults):
            annotation = _read_entry(entry, f"{where}, entry {number}", empty, warnings)
        if annotation is None:
            continue
        start, end = annotation.start_seconds, annotation.end_seconds
        if start == end:
            empty_labels.append(annotation.label)
            empty_entries.append(number)
            warnings.append(f"{where}, entry {number}: zero-length segment at {start} s counts as missed")
            continue
        segments.append(annotation)
        if video.duration is not None and end > video.duration + _DURATION_SLACK_SECONDS:
            warnings.append(f"{where}, entry {number}: ends at {end} s, the video at {video.duration} s")
    return VideoAnnotation(
        video_id=video_id,
        subset=video.subset,
        duration_seconds=video.duration,
        scene=video.scene,
        segments=tuple(segments),
        empty_labels=tuple(empty_labels),
        empty_entries=tuple(empty_entries),
    )


def _read_entry(entry: object, where: str, empty: EmptySegments, warnings: list[str]) -> Segment | None:
    """Return an instance, or None if it is left out.

    Bounds may be numbers as text, as in some ground truths of THUMOS14.
    """
    raw = raw_segment(where, entry)
    if not raw.label.strip():
        raise UsageError(f"{where}: empty label")
    if raw.label == BACKGROUND:
        raise UsageError(f"{where}: label {BACKGROUND!r} is reserved; leave background unannotated")
    start, end = raw.start_seconds, raw.end_seconds
    if empty == "any" or (empty == "count" and start == end >= 0):
        return raw
    if empty == "count" and (start < 0 or end < start):
        fault = "starts before 0" if start < 0 else "ends before it starts"
        warnings.append(f"{where}: segment [{start}, {end}] {fault}; left out")
        return None
    if start < 0:
        raise UsageError(f"{where}: segment [{start}, {end}] starts before 0")
    if end <= start:
        fault = "has length zero" if end == start else "ends before it starts"
        raise UsageError(f"{where}: segment [{start}, {end}] {fault}; correct or remove it")
    return Segment(label=raw.label, start_seconds=start, end_seconds=end)
