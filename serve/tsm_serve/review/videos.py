"""The videos of a folder, under the ids by which training finds them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from tsm_runtime.errors import UsageError
from tsm_runtime.video.finding import VIDEO_SUFFIXES, is_video

_log = logging.getLogger("tsm_runtime")


@dataclass(frozen=True, slots=True)
class ReviewVideo:
    """A video file and its id in the truth file."""

    video_id: str
    path: Path


def videos_root(folder: Path) -> Path:
    """Return `folder/videos` where that holds the videos, as training looks for them, else `folder`."""
    inside = folder / "videos"
    return inside if inside.is_dir() else folder


def find_videos(folder: Path) -> list[ReviewVideo]:
    """Return the videos at any depth below a folder, in order of their names; hidden ones are left out.

    A video's id is its path below the folder without suffix. Of two files that differ only in the suffix,
    the later keeps its suffix in the id.

    Raises:
        UsageError: the folder is missing, cannot be read, or holds no video.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder of videos")
    root = videos_root(folder)
    try:
        paths = sorted(path for path in root.rglob("*") if _counts(path, root))
    except OSError as error:
        raise UsageError(f"{root}: cannot be read: {error.strerror or error}") from error
    if not paths:
        raise UsageError(f"{root}: no video in this folder (looked for {' '.join(VIDEO_SUFFIXES)})")
    found: dict[str, Path] = {}
    for path in paths:
        name = path.relative_to(root)
        video_id = name.with_suffix("").as_posix()
        if video_id in found:
            _log.warning(
                "%s and %s differ only in the suffix; the id of the second is %r",
                found[video_id],
                path,
                name.as_posix(),
            )
            video_id = name.as_posix()
        found[video_id] = path
    return [ReviewVideo(video_id, path) for video_id, path in found.items()]


def _counts(path: Path, root: Path) -> bool:
    return is_video(path) and not any(part.startswith(".") for part in path.relative_to(root).parts)
