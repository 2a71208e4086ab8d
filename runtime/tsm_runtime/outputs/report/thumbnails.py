"""Small pictures of videos for the overview of a page."""

from __future__ import annotations

import base64
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from tsm_runtime.errors import VideoError
from tsm_runtime.video.opening import open_file

WIDTH = 128
_MOST_HEIGHT = 128
_QUALITY = 6  # of FFmpeg's MJPEG: 2 is best, 31 worst


def thumbnail(video: Path, seconds: float) -> str | None:
    """Return a JPEG of a video as a data address: a key frame near a time; None where there is none."""
    try:
        with open_file(video) as container:
            stream: Any = container.streams.best("video")
            if stream is None:
                return None
            if seconds > 0:
                container.seek(int(seconds * av.time_base))
            frame = next(container.decode(stream), None)
            return None if frame is None else _data_address(frame)
    except (av.error.FFmpegError, OSError, ValueError, VideoError):  # a page needs no picture
        return None


def _data_address(frame: Any) -> str:
    height = max(2, min(_MOST_HEIGHT, round(WIDTH * frame.height / frame.width / 2) * 2))
    picture = frame.reformat(WIDTH, height, "yuvj420p")
    picture.pts = None
    encoder: Any = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, height, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    encoder.qmin = encoder.qmax = _QUALITY
    data = b"".join(bytes(packet) for packet in (*encoder.encode(picture), *encoder.encode(None)))
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"
