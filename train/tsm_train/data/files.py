"""Finding the file of an annotated video."""

from __future__ import annotations

from pathlib import Path

from tsm_runtime.errors import UsageError

__all__ = ["find_video"]

_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".mpg", ".ts", ".wmv", ".3gp")


def find_video(folder: Path, video_id: str) -> Path:
    """Return the video of an id.

    Raises:
        UsageError: there is no file of that name with a video suffix.
    """
    for suffix in _SUFFIXES:
        path = folder / f"{video_id}{suffix}"
        if path.is_file():
            return path
    raise UsageError(f"{folder / video_id}.*: annotated, but there is no such video ({', '.join(_SUFFIXES)})")
