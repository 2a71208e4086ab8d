"""Projects of BORIS (.boris): state events come in pairs of start and stop, point events alone.

The time line of an observation is that of the files of player 1, one after another, plus the observation's
time offset. Further players show other files at the same time, each from its own offset on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec

from tsm_runtime.errors import UsageError
from tsm_runtime.files import noting
from tsm_runtime.formats.text import check_ids, json_bytes, rounded, segment_at
from tsm_runtime.formats.tool_file import Segments, ToolFile, video_id_of
from tsm_runtime.results import Result, Segment, by_time
from tsm_runtime.strict import convert

_SCORE = re.compile(r"(?:^|\s)score=([0-9.]+)(?:\s|$)")
_STATE, _POINT = "State event", "Point event"


class _Behaviour(msgspec.Struct):
    code: str
    type: str = _STATE


class _MediaInfo(msgspec.Struct):
    length: dict[str, float] = {}
    offset: dict[str, float] = {}


class _Observation(msgspec.Struct):
    type: str = "MEDIA"
    file: Any = None
    events: list[list[Any]] = []
    time_offset: float | None = msgspec.field(default=0.0, name="time offset")
    media_info: _MediaInfo = msgspec.field(default_factory=_MediaInfo)


class _Project(msgspec.Struct):
    observations: dict[str, Any]
    behaviors_conf: dict[str, _Behaviour]


@dataclass(frozen=True, slots=True)
class _Span:
    """`start` and `end` in seconds of the observation; `end` equals `start` for a point."""

    where: str
    label: str
    start: float
    end: float
    score: float


# --- reading --------------------------------------------------------------------------------------


def is_boris(content: object) -> bool:
    """Return whether a JSON value is a project of BORIS."""
    return isinstance(content, dict) and {"observations", "behaviors_conf"} <= content.keys()


def read_boris(file: ToolFile) -> Segments:
    """Return the segments of the behaviours per video, in order of time.

    A behaviour that spans two files is cut between them. Subjects and modifiers only decide which stop
    belongs to which start. Live observations and observations of pictures have no video and are left out.

    Raises:
        UsageError: an event is wrong, a state event has no stop, or the length of a file is unknown; the
            message names file, observation and event (from 1).
    """
    project = convert(file.content, _Project, f"{file.path}: not a BORIS project")
    points = {each.code for each in project.behaviors_conf.values() if each.type.startswith(_POINT)}
    found: Segments = {}
    observed_in: dict[str, list[str]] = {}
    num_points, without_video = 0, []
    for name, raw in project.observations.items():
        where = f"{file.path}: observation {name!r}"
        with noting(file.faults):
            observation = convert(raw, _Observation, where)
            media = list(_media_of(where, observation))
            if not media:
                without_video.append(name)
                continue
            for piece in media:
                observed_in.setdefault(piece.video_id, []).append(name)
                found.setdefault(piece.video_id, [])
            spans = _spans(file, where, observation, points)
            num_points += sum(span.start == span.end for span in spans)
            _place(file, spans, media, found)
    file.note_points(num_points)
    file.note("observation", "without a video left out", without_video)
    together = [video for video, names in observed_in.items() if names[1:]]
    file.note("video", "of several observations, taken together", together)
    return _annotated(file, found, project.observations, observed_in)


def _annotated(
    file: ToolFile, found: Segments, raw: Mapping[str, Any], observed_in: Mapping[str, Sequence[str]]
) -> Segments:
    """Return the videos in order of time, without those whose observations have no event at all."""
    idle = [
        video for video, names in observed_in.items() if not any(raw[name].get("events") for name in names)
    ]
    file.unannotated.extend(idle)
    return {video: by_time(segments) for video, segments in found.items() if video not in idle}


@dataclass(frozen=True, slots=True)
class _Media:
    """A file in the time line of an observation, whose time offset is already taken off."""

    video_id: str
    begin: float
    end: float


def _media_of(where: str, observation: _Observation) -> Iterator[_Media]:
    players = observation.file if isinstance(observation.file, dict) else {}
    for player, files in players.items():
        if not isinstance(files, list) or observation.type != "MEDIA":
            continue
        lengths = [observation.media_info.length.get(str(name), math.inf) for name in files]
        if any(map(math.isinf, lengths[:-1])):
            name = files[lengths.index(math.inf)]
            raise UsageError(f"{where}: the length of {name!r} is not in the project; open it in BORIS once")
        begin = observation.media_info.offset.get(player, 0.0)
        begins = accumulate(lengths, initial=begin)
        for name, start, length in zip(files, begins, lengths, strict=False):
            yield _Media(video_id_of(str(name)), start, start + length)


def _spans(file: ToolFile, where: str, observation: _Observation, points: set[str]) -> list[_Span]:
    """Return the events of an observation, a state's start and stop as one."""
    begun: dict[tuple[str, str, str], tuple[int, float, str]] = {}
    found: list[_Span] = []
    offset = observation.time_offset or 0.0
    for number, event in enumerate(observation.events, start=1):
        place = f"{where}, event {number}"
        with noting(file.faults):
            at, subject, code, modifier, comment = _event(place, event)
            if code in points:
                found.append(_Span(place, code, at - offset, at - offset, _score(comment)))
            elif (subject, code, modifier) in begun:
                _, start, first = begun.pop((subject, code, modifier))
                found.append(_Span(place, code, start - offset, at - offset, _score(first or comment)))
            else:
                begun[subject, code, modifier] = (number, at, comment)
    for (_, code, _), (number, at, _) in begun.items():
        with noting(file.faults):
            raise UsageError(f"{where}, event {number}: {code!r} starts at {at:g} s and does not stop")
    return found


def _event(where: str, raw: Sequence[Any]) -> tuple[float, str, str, str, str]:
    if len(raw) < 5:
        raise UsageError(f"{where}: {len(raw)} values; expected time, subject, code, modifier and comment")
    try:
        at = float(raw[0])
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{where}: the time is {raw[0]!r}; expected seconds") from None
    subject, code, modifier, comment = (str(value) for value in raw[1:5])
    return at, subject, code, modifier, comment


def _score(comment: str) -> float:
    match = _SCORE.search(comment)
    try:
        return float(match[1]) if match else 1.0
    except ValueError:
        return 1.0  # a comment by a person


def _place(file: ToolFile, spans: Sequence[_Span], media: Sequence[_Media], found: Segments) -> None:
    """Add each event to the videos that show it."""
    for span in spans:
        for piece in media:
            start, end = max(span.start, piece.begin), min(span.end, piece.end)
            is_point = span.start == span.end
            if start > end or (start == end and not (is_point and start < piece.end)):
                continue
            with noting(file.faults):
                at = start - piece.begin
                found[piece.video_id] += (
                    file.point(span.where, span.label, at, span.score)
                    if is_point
                    else [segment_at(span.where, span.label, at, end - piece.begin, span.score)]
                )


# --- writing --------------------------------------------------------------------------------------


def results_to_boris(results: Sequence[Result], media: Mapping[str, Path] | None = None) -> bytes:
    """Return a project with an observation per video, whose behaviours are state events.

    The score is in the comment of the start, as `score=0.9`, which `read_segments` reads. Overlapping
    segments of one label have different modifiers, by which BORIS distinguishes them.

    Args:
        results: videos in any number.
        media: video file by id; else the id is the name.

    Raises:
        ValueError: two results have the same video id.
    """
    check_ids(results)
    labels = sorted({segment.label for result in results for segment in result.segments})
    project = {
        "time_format": "hh:mm:ss",
        "project_date": "1970-01-01T00:00:00",
        "project_name": "tsm-tal",
        "project_description": "",
        "project_format_version": "7.0",
        "subjects_conf": {},
        "behaviors_conf": {str(number): _behaviour(label) for number, label in enumerate(labels)},
        "observations": {
            result.video_id: _observation(result, (media or {}).get(result.video_id)) for result in results
        },
        "behavioral_categories": [],
        "independent_variables": {},
        "coding_map": {},
        "behaviors_coding_map": [],
        "converters": {},
    }
    return json_bytes(project)


def _behaviour(label: str) -> dict[str, str]:
    fields = ("key", "description", "category", "modifiers", "excluded", "coding map")
    return {"type": _STATE, "code": label, **dict.fromkeys(fields, "")}


def _observation(result: Result, media: Path | None) -> dict[str, object]:
    name = str(media.absolute()) if media is not None else result.video_id
    length = {name: rounded(result.duration_seconds)} if result.duration_seconds else {}
    return {
        "file": {"1": [name]},
        "type": "MEDIA",
        "date": "1970-01-01T00:00:00",
        "description": "",
        "time offset": 0.0,
        "events": _events(result.segments),
        "independent_variables": {},
        "visualize_spectrogram": False,
        "close_behaviors_between_videos": False,
        "media_info": {
            "length": length,
            "fps": {},
            "hasVideo": {name: True},
            "hasAudio": {},
            "offset": {"1": 0.0},
        },
    }


def _events(segments: Sequence[Segment]) -> list[list[object]]:
    """Return the starts and stops in order of time; a stop comes before a start at the same time."""
    open_until: dict[tuple[str, str], float] = {}
    events: list[tuple[float, int, list[object]]] = []
    for segment in by_time(segments):
        start, end = rounded(segment.start_seconds), rounded(segment.end_seconds)
        number = 1
        while open_until.get((segment.label, modifier := "" if number == 1 else str(number)), 0.0) > start:
            number += 1
        open_until[segment.label, modifier] = end
        comment = f"score={rounded(segment.score)}"
        events.append((start, 1, [start, "", segment.label, modifier, comment]))
        events.append((end, 0, [end, "", segment.label, modifier, ""]))
    return [event for _, _, event in sorted(events, key=lambda each: each[:2])]
