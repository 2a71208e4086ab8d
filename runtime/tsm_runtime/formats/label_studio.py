"""Label Studio: timeline labels of videos (ranges of frames) and labels of sound (seconds).

A range counts frames from 1 and includes its last frame; which frame is when follows from the frame rate of
the `Video` tag, 24 unless the tag states another.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tsm_runtime.errors import UsageError
from tsm_runtime.files import noting
from tsm_runtime.formats.text import check_ids, json_bytes, rounded, segment_at
from tsm_runtime.formats.tool_file import Segments, ToolFile, video_id_of
from tsm_runtime.results import Result, Segment, by_time
from tsm_runtime.strict import convert
from tsm_runtime.video.finding import MEDIA_SUFFIXES

_UPLOAD = re.compile(r"/upload/(?:.*/)?[0-9a-f]{8}-")
_RATES = ("fps", "frame_rate", "frameRate", "framerate")
_TIMELINE = "timelinelabels"


class _Range(msgspec.Struct):
    start: float
    end: float


class _Value(msgspec.Struct):
    """`ranges` of frames with `timelinelabels`, or `start` and `end` in seconds with `labels`."""

    ranges: list[_Range] = []
    timelinelabels: list[str] = []
    start: Any = None
    end: Any = None
    labels: list[str] = []
    framesCount: float | None = None  # noqa: N815
    duration: float | None = None


class _Item(msgspec.Struct):
    type: str = ""
    value: dict[str, Any] = {}
    score: float | None = None


class _Annotation(msgspec.Struct):
    result: list[_Item] = []
    was_cancelled: bool = False
    ground_truth: bool = False


class _Task(msgspec.Struct):
    data: dict[str, Any]
    id: Any = None
    annotations: list[_Annotation] = []
    predictions: list[_Annotation] = []
    meta: dict[str, Any] = {}


def is_label_studio(content: object) -> bool:
    """Return whether a JSON value is an export: tasks, or tasks in the minimal form."""
    tasks = content if isinstance(content, list) else [content]
    first = tasks[0] if tasks else None
    if not isinstance(first, dict):
        return False
    return ("data" in first and ("annotations" in first or "predictions" in first)) or _is_minimal(first)


def _is_minimal(task: Mapping[str, Any]) -> bool:
    return any(
        isinstance(values, list) and any(isinstance(v, dict) and _TIMELINE in v for v in values)
        for values in task.values()
    )


# --- reading --------------------------------------------------------------------------------------


def read_label_studio(file: ToolFile) -> Segments:
    """Return the segments per video, in order of time.

    Of several annotations of a task the one marked as ground truth is read, else the first; cancelled ones
    never. For drafts, predictions stand in for missing annotations. Boxes and other regions are left out.

    Raises:
        UsageError: an entry is wrong, two tasks have the same video, or the frame rate is unknown; the
            message names file and task (from 1).
    """
    tasks = file.content if isinstance(file.content, list) else [file.content]
    found: Segments = {}
    several = []
    for number, raw in enumerate(tasks, start=1):
        with noting(file.faults):
            where = f"{file.path}: task {number}"
            task = _minimal(raw) if isinstance(raw, dict) and _is_minimal(raw) else convert(raw, _Task, where)
            video_id = _video_id(where, task.data)
            if video_id in found:
                raise UsageError(f"{where}: video {video_id!r} is in an earlier task")
            done = [each for each in task.annotations if not each.was_cancelled]
            if len(done) > 1:
                several.append(video_id)
            if not done and file.as_drafts:
                done = task.predictions
            if not done:
                file.unannotated.append(video_id)
                continue
            chosen = next((each for each in done if each.ground_truth), done[0])
            found[video_id] = list(_segments(file, where, task, chosen))
    file.note("task", "with several annotations, of which one is read", several)
    return {name: by_time(segments) for name, segments in found.items()}


def _minimal(raw: Mapping[str, Any]) -> _Task:
    """Return a task of the minimal form, whose results lie beside its data."""
    items = [
        _Item(type=_TIMELINE, value=value)
        for values in raw.values()
        if isinstance(values, list)
        for value in values
        if isinstance(value, dict)
    ]
    data = {key: value for key, value in raw.items() if isinstance(value, str | int | float)}
    return _Task(data=data, annotations=[_Annotation(items)])


def _video_id(where: str, data: Mapping[str, Any]) -> str:
    """Return the id of the task's video, without the prefix that an upload gets."""
    texts = {key: value for key, value in data.items() if isinstance(value, str) and value}
    media = [value for value in texts.values() if value.lower().endswith(MEDIA_SUFFIXES)]
    name = texts.get("video") or next(iter(media), "") or next(iter(texts.values()), "")
    if not name:
        raise UsageError(f"{where}: its data name no video")
    if "?d=" in name:  # a file of a local storage
        name = name.split("?d=", 1)[1]
    match = _UPLOAD.search(name)
    return video_id_of(name[match.end() :] if match else name)


def _segments(file: ToolFile, where: str, task: _Task, chosen: _Annotation) -> Iterator[Segment]:
    stated = _stated_rate(task, chosen)
    for number, item in enumerate(chosen.result, start=1):
        place = f"{where}, region {number}"
        with noting(file.faults):
            value = convert(item.value, _Value, place)
            score = 1.0 if item.score is None else item.score
            if value.timelinelabels:
                rate = file.frame_rate(stated)
                for span in value.ranges:
                    start, end = (span.start - 1) / rate, span.end / rate
                    for label in value.timelinelabels:
                        yield segment_at(place, label, start, end, score)
            elif value.labels and isinstance(value.start, int | float) and isinstance(value.end, int | float):
                for label in value.labels:
                    yield segment_at(place, label, value.start, value.end, score)


def _stated_rate(task: _Task, chosen: _Annotation) -> float | None:
    """Return the frame rate in the task's data, or that follows from the frames and seconds of a region."""
    for source in (task.data, task.meta, *(item.value for item in chosen.result)):
        for key in _RATES:
            if (rate := _positive(source.get(key))) is not None:
                return rate
        count, seconds = _positive(source.get("framesCount")), _positive(source.get("duration"))
        if count is not None and seconds is not None:
            return count / seconds
    return None


def _positive(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float | str) else 0.0
    except (ValueError, OverflowError):
        return None
    return number if 0 < number < math.inf else None


# --- writing --------------------------------------------------------------------------------------


def results_to_label_studio(
    results: Sequence[Result], rates: Mapping[str, float], media: Mapping[str, Path] | None = None
) -> bytes:
    """Return tasks with predictions, to be imported into a project with `Video` and `TimelineLabels`.

    The tags' names are `video` and `videoLabels`, and the value of the video is `$video`. `data.fps` is the
    frame rate: `<Video name="video" value="$video" frameRate="$fps"/>`.

    Args:
        results: videos in any number.
        rates: frames per second by video id.
        media: video file by id; else the id is the name.

    Raises:
        ValueError: two results have the same video id.
    """
    check_ids(results)
    tasks = [
        {
            "data": {
                "video": media[r.video_id].name if media and r.video_id in media else r.video_id,
                "fps": rates[r.video_id],
            },
            "predictions": [{"model_version": "tsm-tal", "result": _regions(r, rates[r.video_id])}],
        }
        for r in results
    ]
    return json_bytes(tasks)


def _regions(result: Result, rate: float) -> list[dict[str, object]]:
    regions = []
    for number, segment in enumerate(result.segments, start=1):
        first = round(segment.start_seconds * rate) + 1
        last = max(round(segment.end_seconds * rate), first)
        regions.append(
            {
                "id": f"s{number}",
                "from_name": "videoLabels",
                "to_name": "video",
                "type": _TIMELINE,
                "value": {"ranges": [{"start": first, "end": last}], _TIMELINE: [segment.label]},
                "score": rounded(segment.score),
            }
        )
    return regions
