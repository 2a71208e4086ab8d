"""CVAT's XML, "for images 1.1" (tags and shapes of single frames) and "for video 1.1" (tracks)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from tsm_runtime.errors import UsageError
from tsm_runtime.files import noting
from tsm_runtime.formats.frame_runs import runs_of_frames
from tsm_runtime.formats.text import segment_at
from tsm_runtime.formats.tool_file import Segments, ToolFile, video_id_of
from tsm_runtime.formats.xml_text import parse_xml
from tsm_runtime.results import Segment, by_time

_NO_VALUE = "__undefined__"
_MOST_DIGITS = 12


@dataclass(frozen=True, slots=True)
class _Task:
    """`start` and `step` place the task's frames in the video."""

    video_id: str
    start: int = 0
    step: int = 1


def read_cvat(file: ToolFile) -> Segments:
    """Return the segments per video: of each track, and of each run of frames with the same tag or shape.

    A label is that of the tag, shape or track; with the option `attribute` it is the value of that attribute.
    A track ends where it is marked as outside.

    Raises:
        UsageError: an entry is wrong, or the frame rate, which CVAT does not store, is not given.
    """
    root = parse_xml(file.path, file.text)
    if root.tag != "annotations":
        raise UsageError(f"{file.path}: the root element is <{root.tag}>; expected <annotations> of CVAT")
    tasks = _tasks(file, root)
    found: Segments = {task.video_id: [] for task in tasks.values()}
    images: dict[str, dict[int, set[str]]] = {}
    for element in root:
        if element.tag not in ("track", "image", "tag"):
            continue
        where = f"{file.path}: {element.tag} {element.get('id', '')!r}"
        with noting(file.faults):
            task = tasks.get(element.get("task_id", ""), next(iter(tasks.values())))
            if element.tag == "track":
                found[task.video_id] += _track(file, where, element, task)
            else:
                shapes = [element] if element.tag == "tag" else list(element)
                number = _number(where, element, "frame" if element.tag == "tag" else "id")
                labels = images.setdefault(task.video_id, {}).setdefault(_frame(number, task), set())
                labels.update(label for shape in shapes if (label := _label(file, shape)))
    for video_id, frames in images.items():
        where = f"{file.path}: video {video_id!r}"
        found[video_id] += runs_of_frames(where, frames, file.frame_rate())
    return {name: by_time(segments) for name, segments in found.items()}


def _tasks(file: ToolFile, root: Element) -> Mapping[str, _Task]:
    """Return the tasks by id; a file of one task has it under its own id and is found without."""
    found: dict[str, _Task] = {}
    for task in root.iterfind("meta//task"):
        source = task.findtext("source") or root.findtext("meta/source") or task.findtext("name")
        step = (task.findtext("frame_filter") or "").partition("step=")[2].strip()
        start = task.findtext("start_frame") or "0"
        found[task.findtext("id") or ""] = _Task(
            video_id=video_id_of(source) if source else file.path.stem,
            start=_count(start) or 0,
            step=_count(step) or 1,
        )
    return found or {"": _Task(file.path.stem)}


def _count(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None


def _frame(number: int, task: _Task) -> int:
    return task.start + number * task.step


def _number(where: str, element: Element, name: str) -> int:
    text = element.get(name, "")
    if not text.isdecimal() or len(text) > _MOST_DIGITS:
        raise UsageError(f"{where}: {name} is {text!r}; expected the number of a frame")
    return int(text)


def _label(file: ToolFile, shape: Element, inherited: str = "") -> str:
    """Return the label of a tag or shape; "" where it stands for no action."""
    label = shape.get("label", inherited)
    if file.options.attribute:
        named = (a for a in shape.iterfind("attribute") if a.get("name") == file.options.attribute)
        label = next((a.text or "" for a in named), "").strip()
    return "" if file.is_background(label) or label == _NO_VALUE else label


def _track(file: ToolFile, where: str, track: Element, task: _Task) -> Iterator[Segment]:
    """Yield the stretches of a track in which it is visible and keeps its label."""
    rate = file.frame_rate()
    shapes = sorted((_number(where, shape, "frame"), shape) for shape in track if shape.get("frame"))
    begun, label = 0, ""
    for number, shape in shapes:
        new = "" if shape.get("outside") == "1" else _label(file, shape, track.get("label", ""))
        if new == label:
            continue
        if label:
            yield segment_at(where, label, _frame(begun, task) / rate, _frame(number, task) / rate)
        begun, label = number, new
    if label:
        yield segment_at(where, label, _frame(begun, task) / rate, _frame(shapes[-1][0] + 1, task) / rate)
