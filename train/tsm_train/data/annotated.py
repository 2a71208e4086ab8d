"""`Source`: a video and its annotations as they were read, before split, offset and crop."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tsm_runtime.errors import UsageError
from tsm_runtime.formats.annotations import read_annotations
from tsm_runtime.formats.csv_truth import read_scenes
from tsm_runtime.formats.ground_truth import VideoAnnotation
from tsm_runtime.formats.options import ReadOptions
from tsm_runtime.results import Segment
from tsm_runtime.video.finding import is_video
from tsm_train.data.problems import Problems
from tsm_train.data.video_files import find_video
from tsm_train.sections.data import DataConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One video of one view.

    Args:
        video_id: unique in the data set; for views of 360+x `<view>/<uuid>` or `<view>/<uuid>/<clip>`.
        entry: the file and the place in it that messages on its annotations begin with.
        path: the video; None where it is missing.
        capture: the recording.
        view: empty where the data set has none.
        subset: by the annotations; empty if they have none.
        segments: in seconds of the annotations' time line.
        scene: or None.
        declared_seconds: length by the annotations, or None.
    """

    video_id: str
    entry: str
    path: Path | None
    capture: str
    view: str = ""
    subset: str = ""
    segments: tuple[Segment, ...]
    scene: str | None = None
    declared_seconds: float | None = None


def read_sources(data: DataConfig, problems: Problems) -> list[Source]:
    """Read annotations of any format but that of 360+x, and find the videos.

    Args:
        data: with format, annotations and videos set, see `places.resolve_places`.
        problems: gets what is wrong with entries and files.

    Raises:
        UsageError: a file cannot be read at all.
    """
    path = Path(data.annotations)
    faults: list[str] = []
    kind = None if data.format == "auto" or data.format == "x360" else data.format
    options = ReadOptions(
        tiers=data.tiers,
        unannotated=data.unannotated,
        frame_rate=data.frame_rate or None,
        first_frame=data.first_frame,
        point_seconds=data.point_seconds or None,
        attribute=data.attribute,
        background_labels=data.background_labels,
        columns=data.columns,
    )
    truth = read_annotations(path, kind, faults=faults, options=options)
    scenes = read_scenes(Path(data.scenes), faults=faults) if data.scenes else {}
    for fault in faults:
        problems.add("annotation", fault)
    pattern = re.compile(data.capture_pattern) if data.capture_pattern else None
    sources = [_source(data, video, scenes, pattern, problems) for video in truth.videos]
    known = {source.video_id for source in sources}
    for video_id in sorted(scenes.keys() - known):
        problems.add("annotation", f"{data.scenes}: video {video_id!r} is not in {path.name}")
    annotated = {source.path for source in sources if source.path is not None}
    _note_not_annotated(Path(data.videos), annotated, problems)
    return [*sources, *(_unannotated(data, video_id, pattern) for video_id in truth.unannotated)]


def _unannotated(data: DataConfig, video_id: str, pattern: re.Pattern[str] | None) -> Source:
    """Return a video that the project names without any entry: a split may name it, and nothing uses it."""
    match = pattern.search(video_id) if pattern is not None else None
    return Source(
        video_id=video_id,
        entry=f"{data.annotations}: video {video_id!r}",
        path=None,
        capture=match[1] if match is not None and match[1] else video_id,
        segments=(),
    )


def _source(
    data: DataConfig,
    video: VideoAnnotation,
    scenes: dict[str, str],
    pattern: re.Pattern[str] | None,
    problems: Problems,
) -> Source:
    entry = f"{data.annotations}: video {video.video_id!r}"
    capture = video.video_id
    if pattern is not None:
        match = pattern.search(video.video_id)
        if match is None or not match[1]:
            raise UsageError(
                f"{entry}: data.capture_pattern {data.capture_pattern!r} finds no recording in it"
            )
        capture = match[1]
    found = None
    try:
        found = find_video(Path(data.videos), video.video_id)
    except UsageError as error:
        problems.add("missing-video", str(error))
    return Source(
        video_id=video.video_id,
        entry=entry,
        path=found,
        capture=capture,
        subset=video.subset,
        segments=video.segments,
        scene=scenes.get(video.video_id, video.scene),
        declared_seconds=video.duration_seconds,
    )


def _note_not_annotated(folder: Path, annotated: set[Path], problems: Problems) -> None:
    for path in sorted(folder.iterdir()):
        if is_video(path) and path not in annotated:
            problems.add("not-annotated", f"{path}: not annotated; left out")
