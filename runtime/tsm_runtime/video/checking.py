"""What a path is that cannot be read as a video."""

from __future__ import annotations

from pathlib import Path

import av

from tsm_runtime.errors import VideoError
from tsm_runtime.video.contents import describe_contents
from tsm_runtime.video.finding import AUDIO_SUFFIXES, is_named
from tsm_runtime.video.opening import SOUND_FORMATS, open_file


def check_file(path: Path) -> None:
    """Check that a path is a file that is not empty.

    Raises:
        VideoError: it is not; the message names what was found.
    """
    if not path.exists():
        raise VideoError(f"{path}: no such file")
    if path.is_dir():
        raise VideoError(f"{path}: is a folder, not a video")
    if not path.is_file():
        raise VideoError(f"{path}: a pipe or device, not a file; run it with: tsm-live {path}")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: empty file")
    if _is_animated_webp(path):
        raise VideoError(f"{path}: animated WebP is not supported; convert it to MP4 or GIF first")


def _is_animated_webp(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(21)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)


def describe_media(path: Path) -> str | None:
    """Return what a file is that is no readable video, with the next step; None where it is nothing known."""
    if what := describe_contents(path):
        return what
    if not is_named(path, AUDIO_SUFFIXES):
        return None
    try:
        with open_file(path, formats=SOUND_FORMATS) as container:
            has_sound = bool(container.streams.audio)
    except (av.error.FFmpegError, OSError, VideoError):
        return None
    return "sound without pictures; give the video that it belongs to" if has_sound else None
