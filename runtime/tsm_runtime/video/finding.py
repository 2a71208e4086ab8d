"""Which videos a command runs on, under which names, and with which model."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.files import is_folder

__all__ = ["EGOCENTRIC", "VIDEO_SUFFIXES", "VIEWS", "VideoInput", "default_id", "is_video", "list_inputs"]

VIDEO_SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
    *(".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
"""What counts as a video inside a folder; a file named on the command line may have any suffix."""

_LOGGER = logging.getLogger("tsm_runtime")
_SHOWN = 3

VIEWS = ("panoramic", "third_person", "binocular", "monocular")
"""Of a capture of 360+x."""
EGOCENTRIC = frozenset({"binocular", "monocular"})
"""Views recorded by glasses, in clips of their own that carry no time of the others."""


@dataclass(frozen=True, slots=True)
class VideoInput:
    """A video and its name in the output.

    Args:
        view: where a capture has several: those members see it that are of this view.
    """

    path: Path
    video_id: str
    view: str = ""


def list_inputs(
    paths: Sequence[Path], video_id: str | None = None
) -> tuple[list[VideoInput], list[VideoError]]:
    """Return the videos to run on, folders replaced by the videos in them, and what is wrong with the others.

    Whether a file is there and is a video shows when it is read.

    Args:
        paths: files and folders; folders are searched at any depth, in order of name, hidden files left out.
        video_id: name of the video, if there is just one.

    Raises:
        UsageError: two views of a capture, an id for several videos, or an empty one.
    """
    videos: dict[Path, None] = {}  # a set that keeps the order
    errors = []
    for path in paths:
        found = _videos_in(path) if is_folder(path) else [path]
        videos |= dict.fromkeys(found)
        if not found:
            looked_for = " ".join(VIDEO_SUFFIXES)
            errors.append(VideoError(f"{path}: no video in this folder (looked for {looked_for})"))
    if video_id is None:
        inputs = [VideoInput(path, name) for path, name in _ids(list(videos)).items()]
    elif len(videos) > 1:
        raise UsageError(f"--id names one video, but {len(videos)} were given")
    else:
        inputs = [VideoInput(path, video_id) for path in videos]
    _check_ids(inputs)
    return inputs, errors


def _ids(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the id of each video: `default_id`, or the path with suffix if several share that."""
    sharing: dict[str, list[Path]] = {}
    for path in paths:
        sharing.setdefault(default_id(path), []).append(path)
    ids = {path: default_id(path) for path in paths}
    for name, alike in sharing.items():
        if len(alike) > 1 and not _are_views(alike):
            base = os.path.commonpath([path.absolute().parent for path in alike])
            ids |= {path: path.absolute().relative_to(base).as_posix() for path in alike}
            shown = ", ".join(ids[path] for path in alike[:_SHOWN]) + (" ..." if alike[_SHOWN:] else "")
            _LOGGER.warning("%d videos are called %s; in the output they are %s", len(alike), name, shown)
    return ids


def _are_views(paths: Sequence[Path]) -> bool:
    return {path.parent.name for path in paths} <= {*VIEWS}


def _check_ids(inputs: Sequence[VideoInput]) -> None:
    by_id: dict[str, Path] = {}
    for video in inputs:
        if not video.video_id.strip():
            raise UsageError(f"{video.path}: an empty --id; give a name, or leave it out")
        other = by_id.setdefault(video.video_id, video.path)
        if other != video.path:
            are_views = _are_views([other, video.path])
            raise UsageError(
                f"{other} and {video.path} would both be {video.video_id!r} in the output; "
                + ("run captures with --capture" if are_views else "run them separately, with --id for one")
            )


def _videos_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if is_video(path))


def is_video(path: Path) -> bool:
    """Whether something in a folder counts as a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file()


def default_id(path: Path) -> str:
    """Return the file's stem; clips of the egocentric 360+x views are `<uuid>/clip1`."""
    parents = path.absolute().parents
    if len(parents) > 1 and parents[1].name in EGOCENTRIC:
        return f"{parents[0].name}/{path.stem}"
    return path.stem
