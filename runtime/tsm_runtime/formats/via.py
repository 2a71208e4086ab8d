"""JSON of the VGG video annotator VIA 3, as the 360+x data set uses it, in both of its spellings.

Attribute "1" of an entry is the action. VIA itself writes `{"vid", "z": [start, end], "av": {"1": label}}`;
the published 360+x files write `{"duration": [start, end], "action": {"1": label}}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from tsm_runtime.errors import UsageError
from tsm_runtime.files import Faults, noting
from tsm_runtime.formats.text import check_ids, json_bytes, rounded, segment_at
from tsm_runtime.results import Result, Segment, by_time, ranked_scenes
from tsm_runtime.strict import convert
from tsm_runtime.video.finding import MEDIA_SUFFIXES

_ACTION, _SCORE = "1", "2"
_ON_SEGMENTS = "FILE1_Z2_XY0"
_TEXT, _SELECT = 1, 4
_VIDEO, _LOCAL = 4, 1
_DEFAULT_ROW = ("default", "Default")
"""Option and its text that VIA puts into every new project: a row of the timeline that is no class."""


# --- writing --------------------------------------------------------------------------------------


_CONFIG = {
    "file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}},
    "ui": {
        "file_content_align": "center",
        "file_metadata_editor_visible": True,
        "spatial_metadata_editor_visible": True,
        "temporal_segment_metadata_editor_visible": True,
        "spatial_region_label_attribute_id": "",
        "gtimeline_visible_row_count": "4",
    },
}
"""Display settings of the annotator, with its own defaults."""


def results_to_via(
    results: Sequence[Result], media: Mapping[str, Path] | None = None, labels: Sequence[str] = ()
) -> bytes:
    """Return a VIA 3 project with a view per video; in the annotator choose Load, then locate the videos.

    Labels are attribute "1", so 360+x tools read the file too; scores are attribute "2". The best scene is
    the description ("desc") of a file, which VIA keeps but does not show.

    Args:
        results: any number of results; their files are numbered from 1.
        media: video file by id, for the names in the project; else the id is the name.
        labels: classes that the annotator offers besides those found, so that a missed one has a row.

    Raises:
        ValueError: two results have the same video id.
    """
    check_ids(results)
    numbered = {str(number): result for number, result in enumerate(results, start=1)}
    found = (segment.label for result in results for segment in result.segments)
    options = {label: label for label in (*labels, *found)}
    project = {
        "project": _header("tsm-tal" if len(results) != 1 else results[0].video_id, list(numbered)),
        "config": _CONFIG,
        "attribute": {
            _ACTION: _attribute("TEMPORAL-SEGMENTS", _SELECT, options),
            _SCORE: _attribute("score", _TEXT, {}),
        },
        "file": {
            fid: _file(fid, result, (media or {}).get(result.video_id)) for fid, result in numbered.items()
        },
        "metadata": {
            f"{vid}_{number}": _entry(vid, segment)
            for vid, result in numbered.items()
            for number, segment in enumerate(result.segments, start=1)
        },
        "view": {vid: {"fid_list": [vid]} for vid in numbered},
    }
    return json_bytes(project)


def _header(name: str, views: Sequence[str]) -> dict[str, object]:
    return {
        "pid": "__VIA_PROJECT_ID__",
        "rev": "__VIA_PROJECT_REV_ID__",
        "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__",
        "pname": name,
        "creator": "tsm-tal",
        "created": 0,
        "data_format_version": "3.1.1",
        "vid_list": views,
    }


def _attribute(name: str, kind: int, options: Mapping[str, str]) -> dict[str, object]:
    return {
        "aname": name,
        "anchor_id": _ON_SEGMENTS,
        "type": kind,
        "desc": "",
        "options": options,
        "default_option_id": "",
    }


def _file(fid: str, result: Result, media: Path | None) -> dict[str, object]:
    name = media.name if media is not None else result.video_id
    scene = ranked_scenes(result.scenes)[0].label if result.scenes else ""
    identity = {"fid": fid, "fname": name, "type": _VIDEO, "loc": _LOCAL, "src": name}
    return {**identity, "video_id": result.video_id, "desc": scene}


def _entry(vid: str, segment: Segment) -> dict[str, object]:
    bounds = [rounded(segment.start_seconds), rounded(segment.end_seconds)]
    values = {_ACTION: segment.label, _SCORE: str(rounded(segment.score))}
    return {"vid": vid, "flg": 0, "z": bounds, "xy": [], "av": values}


# --- reading --------------------------------------------------------------------------------------


class _Attribute(msgspec.Struct):
    aname: str = ""
    options: dict[str, Any] = {}


class _File(msgspec.Struct):
    fname: str = ""
    video_id: str | None = None


class _View(msgspec.Struct):
    fid_list: list[Any] = []


class _Entry(msgspec.Struct):
    vid: Any = None
    z: list[float] | None = None
    duration: list[float] | None = None
    av: dict[str, Any] | None = None
    action: dict[str, Any] | None = None


class _Project(msgspec.Struct):
    metadata: dict[str, Any]
    attribute: dict[str, _Attribute] = {}
    file: dict[str, _File] = {}
    view: dict[str, _View] = {}


def read_via(
    path: Path, content: object, faults: Faults = None, unannotated: list[str] | None = None
) -> dict[str, list[Segment]]:
    """Return the segments per video, in order of time.

    A file of only `metadata` is one video, named by the file's stem. In a whole project a video's id is the
    stem of its file's name. Entries that are not a segment with an action (a scene, a point in time, a
    region) are left out, as by the tools of 360+x. Scores are those that `results_to_via` wrote, else 1.0.

    Args:
        path: path for messages.
        content: value of the JSON file.
        faults: collects the faults of entries and the segments without action, which are then left out.
        unannotated: collects the videos without entries, which are then left out as not yet annotated; None:
            they are returned without segments.

    Raises:
        UsageError: an entry is wrong; the message names file and entry.
    """
    project = convert(content, _Project, f"{path}: not a VIA 3 project")
    names = {vid: _video_id(project, vid) or path.stem for vid in project.view}
    found: dict[str, list[Segment]] = {name: [] for name in names.values()} or {path.stem: []}
    if len(found) < len(names):
        raise UsageError(f"{path}: two of its files have the same name; give each video a project of its own")
    begun: set[str] = set()  # views with any entry
    for key, raw in project.metadata.items():
        segment = None
        begun.add(str(raw.get("vid")) if isinstance(raw, dict) else "")
        with noting(faults):
            vid, segment = _read_entry(f"{path}: entry {key!r}", raw, project.attribute, faults is not None)
        if segment is not None:
            name = names.get(vid, next(iter(found)) if len(found) == 1 else path.stem)
            found.setdefault(name, []).append(segment)
    found = {name: by_time(segments) for name, segments in found.items()}
    if unannotated is None:
        return found
    idle = {name for vid, name in names.items() if vid not in begun and len(names) > 1}
    if not project.metadata:
        idle = set(found)
    left_out = [name for name in found if name in idle and not found[name]]
    unannotated += left_out
    return {name: segments for name, segments in found.items() if name not in left_out}


def _video_id(project: _Project, vid: str) -> str | None:
    files = [project.file[str(fid)] for fid in project.view[vid].fid_list if str(fid) in project.file]
    if not files:
        return None
    if files[0].video_id is not None:
        return files[0].video_id
    name = PurePosixPath(files[0].fname.replace("\\", "/"))
    return name.stem if name.suffix.lower() in MEDIA_SUFFIXES else files[0].fname or None


def _read_entry(
    where: str, raw: object, attributes: Mapping[str, _Attribute], demand_action: bool
) -> tuple[str, Segment | None]:
    """Return the view and the segment of an entry; None for an entry that is not a segment with an action."""
    entry = convert(raw, _Entry, where)
    segment = _segment(where, attributes, entry)
    bounds = entry.z if entry.z is not None else entry.duration
    if segment is None and demand_action and (bounds is None or len(bounds) == 2):
        raise UsageError(f"{where}: {_why_no_segment(entry, bounds)}")
    return str(entry.vid), segment


def _why_no_segment(entry: _Entry, bounds: Sequence[float] | None) -> str:
    values = entry.av if entry.av is not None else entry.action
    if bounds is not None and values and values.get(_ACTION) == _DEFAULT_ROW[0]:
        return f"segment {bounds} stands in VIA's row 'Default', which is no class; give it one"
    what = "no times" if bounds is None else f"segment {bounds} has no action"
    return f'{what} ("z" or "duration", and "av" or "action" with key "1")'


def _segment(where: str, attributes: Mapping[str, _Attribute], entry: _Entry) -> Segment | None:
    bounds = entry.z if entry.z is not None else entry.duration
    values = entry.av if entry.av is not None else entry.action
    if bounds is None or len(bounds) != 2 or values is None or _ACTION not in values:
        return None
    label = option = _text(values[_ACTION])
    if _ACTION in attributes:  # VIA stores the number of the chosen option
        label = _text(attributes[_ACTION].options.get(option, option))
    if _ACTION in attributes and (option, label) == _DEFAULT_ROW:
        return None
    score = 1.0
    if _SCORE in values and _SCORE in attributes and attributes[_SCORE].aname == "score":
        try:
            score = float(values[_SCORE])
        except (TypeError, ValueError, OverflowError):
            raise UsageError(f"{where}: score is {values[_SCORE]!r}; expected a number") from None
    return segment_at(where, label, bounds[0], bounds[1], score)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
