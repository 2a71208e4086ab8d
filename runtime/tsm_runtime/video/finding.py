"""Input videos of a command, and their names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.files import is_folder, read_text

VIDEO_SUFFIXES = (
    *(".3g2", ".3gp", ".asf", ".avi", ".dav", ".divx", ".f4v", ".flv", ".gif", ".h264", ".hevc", ".m2ts"),
    *(".m2v", ".m4v", ".mjpeg", ".mkv", ".mod", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv"),
    *(".qt", ".tod", ".ts", ".vob", ".webm", ".wmv", ".wtv"),
)
"""Suffixes of videos in folders; a file on the command line may have any suffix."""

AUDIO_SUFFIXES = (
    *(
        ".aac",
        ".ac3",
        ".aif",
        ".aiff",
        ".amr",
        ".au",
        ".caf",
        ".eac3",
        ".flac",
        ".m4a",
        ".mka",
        ".mp3",
        ".oga",
    ),
    *(".ogg", ".opus", ".tta", ".w64", ".wav", ".wave", ".weba", ".wma", ".wv"),
)
"""Suffixes of recordings without pictures, inputs of models of sound alone."""

MEDIA_SUFFIXES = (*VIDEO_SUFFIXES, *AUDIO_SUFFIXES)
"""Suffixes of what a model of sound alone takes from folders."""

PANORAMIC = "panoramic"
"""View whose pictures may be equirectangular."""
VIEWS = (PANORAMIC, "third_person", "binocular", "monocular")
"""Views of a capture of 360+x."""
EGOCENTRIC = frozenset({"binocular", "monocular"})
"""Views recorded by glasses, as clips without timestamps of the capture."""


@dataclass(frozen=True, slots=True)
class VideoInput:
    """A video and its name in the output.

    Args:
        view: view of the capture, if it has several; members with this view process the video.
    """

    path: Path
    video_id: str
    view: str = ""


Ids = Literal["auto", "stem", "path"]
"""Naming of videos: by the stem of the file, by its path below the folder, or by path if stems are not
unique."""


def list_inputs(
    paths: Sequence[Path],
    video_id: str | None = None,
    ids: Ids = "stem",
    listed: Mapping[Path, Sequence[Path]] | None = None,
    suffixes: Sequence[str] = VIDEO_SUFFIXES,
) -> tuple[list[VideoInput], list[VideoError]]:
    """Return the input videos, with folders replaced by the videos in them, and messages about the others.

    Files are not opened: a missing or unreadable file raises an error when it is read.

    Args:
        paths: files and folders; folders are searched at any depth, in order of name, hidden files left out.
        video_id: name of a single video.
        ids: naming of the other videos.
        listed: videos of folders that are not on this machine.
        suffixes: of the files that are taken from folders.

    Raises:
        UsageError: two videos with the same id, or an id for several videos.
    """
    videos: dict[Path, Path] = {}
    errors = []
    for path in paths:
        elsewhere = (listed or {}).get(path)
        is_one = elsewhere is None and not is_folder(path)
        found = [path] if is_one else [*(elsewhere if elsewhere is not None else _videos_in(path, suffixes))]
        root = path.parent if is_one or found == [path] else path
        videos |= {video: root for video in found if video not in videos}
        if not found:
            looked_for = " ".join(suffixes)
            errors.append(VideoError(f"{path}: no video in this folder (looked for {looked_for})"))
    if video_id is None:
        inputs = [VideoInput(path, name) for path, name in zip(videos, _names(videos, ids), strict=True)]
    elif len(videos) > 1:
        raise UsageError(f"--id names one video, but {len(videos)} were given")
    else:
        inputs = [VideoInput(path, video_id) for path in videos]
    _check_ids(inputs)
    return inputs, errors


def _names(videos: Mapping[Path, Path], ids: Ids) -> list[str]:
    """Return the ids of videos, given as a mapping from video to the folder it was found in."""
    stems = [default_id(path) for path in videos]
    counts = Counter(stems)
    repeated = [path for path, stem in zip(videos, stems, strict=True) if counts[stem] > 1]
    if ids == "stem" or (ids == "auto" and _are_views(repeated)):
        return stems
    roots = {os.path.normpath(root.absolute()) for root in videos.values()}
    root = os.path.commonpath(roots) if roots else ""
    relative = [PurePath(os.path.relpath(path, root)) for path in videos]
    ambiguous = Counter(path.with_suffix("") for path in relative)
    return [
        (path if ambiguous[path.with_suffix("")] > 1 else path.with_suffix("")).as_posix()
        for path in relative
    ]


def _are_views(videos: Iterable[Path]) -> bool:
    """Return whether all videos are views of captures, whose names are shared; True for no videos."""
    return {path.parent.name for path in videos} <= {*VIEWS}


def read_list(path: Path) -> list[str]:
    """Return the paths and addresses in a list, one per line; empty lines and lines with # are skipped.

    Raises:
        UsageError: the list cannot be read or is empty.
    """
    lines = [line.strip() for line in read_text(path).splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise UsageError(f"{path}: names no video; expected one a line")
    if bad := next((line for line in found if "\0" in line), None):
        raise UsageError(f"{path}: {bad!r} is no name of a file")
    return found


def _check_ids(inputs: Sequence[VideoInput]) -> None:
    by_id: dict[str, Path] = {}
    for video in inputs:
        if not video.video_id.strip():
            raise UsageError(f"{video.path}: an empty --id; give a name, or leave it out")
        other = by_id.setdefault(video.video_id, video.path)
        if other != video.path:
            raise UsageError(
                f"{other} and {video.path} would both be {video.video_id!r} in the output; "
                + (
                    "run captures with --capture"
                    if _are_views([other, video.path])
                    else "name them by --ids path"
                )
            )


def _videos_in(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if is_named(path, suffixes) and path.is_file())


def is_named(path: PurePath, suffixes: Sequence[str]) -> bool:
    """Return whether a name has one of some suffixes, and is not hidden."""
    return path.suffix.lower() in suffixes and not path.name.startswith(".")


def is_video(path: Path) -> bool:
    """Return whether a folder entry counts as a video."""
    return is_named(path, VIDEO_SUFFIXES) and path.is_file()


def is_media(path: Path) -> bool:
    """Return whether a folder entry counts as a video or a recording of sound alone."""
    return is_named(path, MEDIA_SUFFIXES) and path.is_file()


def default_id(path: Path) -> str:
    """Return the file's stem; clips of the egocentric 360+x views are `<uuid>/clip1`."""
    parents = path.absolute().parents
    if len(parents) > 1 and parents[1].name in EGOCENTRIC:
        return f"{parents[0].name}/{path.stem}"
    return path.stem
