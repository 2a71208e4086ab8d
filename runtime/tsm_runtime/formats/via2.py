"""VIA 2 (and 1), an annotator of images: frames of a video, whose numbers are in the names of the files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from tsm_runtime.errors import UsageError
from tsm_runtime.files import noting
from tsm_runtime.formats.frame_runs import runs_of_frames
from tsm_runtime.formats.tool_file import Segments, ToolFile
from tsm_runtime.strict import convert

_NAME = re.compile(
    r"(?:(?P<folder>.*)/)?(?P<stem>[^/]*?)[-_ .]?(?:frame|img|image)?[-_ .]?(?P<number>\d+)\.\w+"
)


class _Image(msgspec.Struct):
    filename: str
    regions: Any = ()
    file_attributes: dict[str, Any] = {}


def is_via2(content: object) -> bool:
    """Return whether a JSON value is a project or an export of annotations of VIA 2."""
    if not isinstance(content, dict):
        return False
    if "_via_img_metadata" in content:
        return True
    return bool(content) and all(
        isinstance(image, dict) and {"filename", "regions"} <= image.keys() for image in content.values()
    )


def read_via2(file: ToolFile) -> Segments:
    """Return the segments per video: runs of listed frames with the same value of an attribute.

    The video's id is the file's name without its number, or the folder. The attribute is the requested one,
    else the only one of the file; values of check boxes are several labels.

    Raises:
        UsageError: an entry is wrong, there are several attributes, or the frame rate is not given.
    """
    content = file.content if isinstance(file.content, dict) else {}
    listed = content.get("_via_img_metadata", content)
    if not isinstance(listed, dict):
        raise UsageError(f"{file.path}: _via_img_metadata is no object; expected images by key")
    images = [(f"{file.path}: image {key!r}", raw) for key, raw in listed.items()]
    read = []
    for where, raw in images:
        with noting(file.faults):
            read.append((where, convert(raw, _Image, where)))
    attribute = file.options.attribute or _only_attribute(file, [image for _, image in read])
    frames: dict[str, dict[int, set[str]]] = {}
    for where, image in read:
        with noting(file.faults):
            video_id, number = _place(where, image.filename)
            labels = frames.setdefault(video_id, {}).setdefault(number, set())
            labels.update(label for label in _labels(image, attribute) if not file.is_background(label))
    rate = file.frame_rate()
    return {
        video_id: runs_of_frames(
            f"{file.path}: video {video_id!r}", numbered, rate, first_frame=file.options.first_frame
        )
        for video_id, numbered in frames.items()
    }


def _place(where: str, name: str) -> tuple[str, int]:
    match = _NAME.fullmatch(name.replace("\\", "/"))
    if match is None:
        raise UsageError(f"{where}: {name!r} does not end in the number of a frame, such as video_00012.jpg")
    folder = (match["folder"] or "").rsplit("/", 1)[-1]
    return match["stem"] or folder or "video", int(match["number"])


def _attributes(image: _Image) -> list[Mapping[str, Any]]:
    """Return the attributes of the file and of its regions, which VIA 1 keeps by number."""
    listed = image.regions.values() if isinstance(image.regions, dict) else image.regions
    regions = list(listed) if isinstance(image.regions, dict | list) else []
    found = [region.get("region_attributes") for region in regions if isinstance(region, dict)]
    return [image.file_attributes, *(each for each in found if isinstance(each, dict))]


def _only_attribute(file: ToolFile, images: list[_Image]) -> str:
    names = Counter(name for image in images for values in _attributes(image) for name in values)
    if len(names) > 1:
        there = ", ".join(map(repr, sorted(names)))
        raise UsageError(f"{file.path}: attributes {there}; choose the one of the action with --attribute")
    return next(iter(names), "")


def _labels(image: _Image, attribute: str) -> list[str]:
    values = [values[attribute] for values in _attributes(image) if attribute in values]
    return [
        label
        for value in values
        for label in ([key for key, on in value.items() if on] if isinstance(value, dict) else [str(value)])
    ]
