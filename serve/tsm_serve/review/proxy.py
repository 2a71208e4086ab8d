"""A copy of a video that browsers play, with the same presentation times."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av

from tsm_runtime.errors import RunError, VideoError
from tsm_runtime.video.reader import VideoReader

_LARGEST_SIDE = 1280
_TICKS_PER_SECOND = 90_000
_OPTIONS = {"preset": "veryfast", "crf": "23", "g": "50", "bf": "0"}


def proxy_path(video: Path) -> Path:
    """Return where the copy of a video lies: in the user's cache, named by the file's path, size and date."""
    found = video.stat()
    key = f"{video.resolve()}\0{found.st_size}\0{found.st_mtime_ns}"
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "tsm-tal" / "proxies" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.mp4"


def make_proxy(video: Path, target: Path, progress: Callable[[float], None] = lambda _: None) -> None:
    """Encode a video as H.264 in MP4, at most 1280 pixels wide and high, frame by frame at its own times.

    Args:
        video: what the runtime can read.
        target: appears whole or not at all; its folder is made.
        progress: called with the second that is reached.

    Raises:
        VideoError: the video cannot be read or has no frame.
        RunError: the copy cannot be written.
    """
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.tmp.mp4")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _encode(video, temporary, progress)
        temporary.replace(target)
    except OSError as error:
        raise RunError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _encode(video: Path, target: Path, progress: Callable[[float], None]) -> None:
    with VideoReader(video) as reader, av.open(str(target), "w", options={"movflags": "+faststart"}) as out:
        stream = out.add_stream("libx264", rate=25, options=_OPTIONS)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS_PER_SECOND)
        width = height = 0
        last = -1
        for timed in reader.frames():
            if not width:
                width, height = _size(timed.frame.width, timed.frame.height)
                stream.width, stream.height = width, height
                if timed.frame.rotation:
                    stream.set_display_rotation(timed.frame.rotation)
            picture = timed.frame.reformat(width=width, height=height, format="yuv420p")
            picture.time_base = Fraction(1, _TICKS_PER_SECOND)
            picture.pts = last = max(last + 1, round(timed.start_seconds * _TICKS_PER_SECOND))
            picture.pict_type = av.video.frame.PictureType.NONE
            out.mux(stream.encode(picture))
            progress(timed.start_seconds)
        if not width:
            raise VideoError(f"{video}: no frame decodes")
        out.mux(stream.encode())


def _size(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, _LARGEST_SIDE / max(width, height))
    even = [max(2, round(side * scale / 2) * 2) for side in (width, height)]
    return even[0], even[1]
