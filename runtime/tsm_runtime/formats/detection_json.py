"""ActivityNet detection JSON, which every evaluator in the field reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import msgspec

from tsm_runtime.errors import UsageError
from tsm_runtime.formats.text import check_ids, rounded, segment_at
from tsm_runtime.results import Result, SceneScore, Segment, ranked_scenes

_VERSION = "tsm-tal 1"
_LINE_LENGTH = 110

_SegmentT = TypeVar("_SegmentT", bound=Segment)


class _Detection(msgspec.Struct):
    label: str
    segment: tuple[float, float]
    score: float


def results_to_json(results: Sequence[Result], external_data: Mapping[str, object]) -> bytes:
    """Return ActivityNet detection JSON; equal results give equal bytes.

    Args:
        results: videos in the order of the file.
        external_data: JSON values on the origin of the results; "videos" is added to it.

    Returns:
        UTF-8; times and scores rounded to six decimals; scenes by falling score.

    Raises:
        ValueError: two results have the same video id, or a number is not finite.
    """
    check_ids(results)
    return detections_to_json(
        {r.video_id: r.segments for r in results},
        {r.video_id: r.scenes for r in results},
        {**external_data, "videos": {r.video_id: provenance(r) for r in results}},
    )


def detections_to_json(
    segments: Mapping[str, Sequence[Segment]],
    scenes: Mapping[str, Sequence[SceneScore]],
    external_data: Mapping[str, object],
) -> bytes:
    """Write the document that `results_to_json` writes, from its parts per video id.

    Raises:
        ValueError: a number is not finite.
    """
    document = {
        "version": _VERSION,
        "results": {video: [detection(segment) for segment in found] for video, found in segments.items()},
        "scenes": {
            video: [{"label": s.label, "score": rounded(s.score)} for s in ranked_scenes(found)]
            for video, found in scenes.items()
        },
        "external_data": external_data,
    }
    # A video id may hold lone surrogates (a file name that is not UTF-8); their escape is valid JSON.
    return (layout(document) + "\n").encode("utf-8", "backslashreplace")


def detection(segment: Segment) -> dict[str, object]:
    """Return a segment as a JSON object."""
    bounds = [rounded(segment.start_seconds), rounded(segment.end_seconds)]
    return {"label": segment.label, "segment": bounds, "score": rounded(segment.score)}


def provenance(result: Result) -> dict[str, object]:
    """Return the provenance of a result as a JSON object, for an ensemble with its members (from 1)."""
    there = [number for number, member in enumerate(result.members, start=1) if member is not None]
    members: dict[str, object] = {"members": there} if there else {}
    if result.complete is None:
        return members
    return {
        **members,
        "duration": rounded(result.duration_seconds),
        "intervals": result.num_intervals,
        "complete": result.complete,
        "gaps": [[rounded(start), rounded(end)] for start, end in result.gaps],
        "corrupt_frames": result.corrupt_frames,
        **({"discontinuities": [rounded(at) for at in cuts]} if (cuts := result.discontinuities) else {}),
    }


class _Provenance(msgspec.Struct):
    duration: float
    intervals: int
    complete: bool
    gaps: list[tuple[float, float]]
    corrupt_frames: int
    discontinuities: tuple[float, ...] = ()


def with_provenance(result: Result, raw: object) -> Result:
    """Return a result with the data that `provenance` wrote; other content is ignored."""
    try:
        read = msgspec.convert(raw, _Provenance)
    except msgspec.ValidationError:
        return result
    return replace(
        result,
        duration_seconds=read.duration,
        num_intervals=read.intervals,
        complete=read.complete,
        gaps=tuple(read.gaps),
        corrupt_frames=read.corrupt_frames,
        discontinuities=read.discontinuities,
    )


def layout(value: object, depth: int = 0) -> str:
    """Return JSON text in which a list or object that fits on one line is not wrapped."""
    flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
    inner = " " * (depth + 1)
    if depth > 0 and len(flat) + depth <= _LINE_LENGTH:
        return flat
    if isinstance(value, Mapping) and value:
        keys = [json.dumps(str(key), ensure_ascii=False) for key in value]
        values = [layout(item, depth + 1) for item in value.values()]
        lines = [f"{inner}{key}: {text}" for key, text in zip(keys, values, strict=True)]
        return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"
    if isinstance(value, list | tuple) and value:
        lines = [inner + layout(item, depth + 1) for item in value]
        return "[\n" + ",\n".join(lines) + "\n" + " " * depth + "]"
    return flat


def read_detections(
    path: Path, content: object, read: Callable[[str, object], _SegmentT]
) -> dict[str, list[_SegmentT]]:
    """Return the segments of a detection JSON of any ActivityNet tool; a video without any has an empty list.

    Args:
        path: path for messages.
        content: value of the JSON file.
        read: returns the segment of an entry, as `read_detection` or `raw_segments.raw_segment`.

    Raises:
        UsageError: an entry is wrong; the message names file, video and entry, counted from 1.
    """
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict):
        raise UsageError(f'{path}: no "results" object; expected ActivityNet detections')
    found = {}
    for video_id, entries in results.items():
        where = f"{path}: video {video_id!r}"
        if not isinstance(entries, list):
            raise UsageError(f"{where}: expected a list of detections")
        found[video_id] = [read(f"{where}, entry {n}", entry) for n, entry in enumerate(entries, start=1)]
    return found


def read_detection(where: str, raw: object) -> Segment:
    """Return the segment of one JSON object.

    Raises:
        UsageError: the object is wrong; the message begins with `where`.
    """
    try:
        entry = msgspec.convert(raw, _Detection)
    except (msgspec.ValidationError, OverflowError) as error:
        raise UsageError(f"{where}: {error}") from error
    return segment_at(where, entry.label, *entry.segment, entry.score)


def read_scene_scores(path: Path, content: object) -> dict[str, list[SceneScore]]:
    """Return the scene scores per video id, best first; detection JSON of other tools has none.

    Raises:
        UsageError: an entry is wrong; the message names file, video and entry of the first fault.
    """
    scenes = content.get("scenes", {}) if isinstance(content, dict) else {}
    if not isinstance(scenes, dict):
        raise UsageError(f'{path}: "scenes" is no object; expected a list of scenes per video id')
    return {video: _video_scenes(f"{path}: scenes of video {video!r}", raw) for video, raw in scenes.items()}


class _Scene(msgspec.Struct):
    label: str
    score: float


def _video_scenes(where: str, raw: object) -> list[SceneScore]:
    if not isinstance(raw, list):
        raise UsageError(f"{where}: expected a list")
    scenes = []
    for number, entry in enumerate(raw, start=1):
        try:
            read = msgspec.convert(entry, _Scene)
            scenes.append(SceneScore(label=read.label, score=read.score))
        except (ValueError, OverflowError) as error:  # msgspec.ValidationError is a ValueError
            raise UsageError(f"{where}, entry {number}: {error}") from error
    return ranked_scenes(scenes)
