"""Choice of the video stream of an open container, and how it is decoded."""

from __future__ import annotations

import os
from pathlib import Path

from av.codec.context import Flags
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from tsm_runtime.errors import VideoError
from tsm_runtime.video.encryption import ENCRYPTED, is_encrypted_stream

_MAX_PIXELS = 100_000_000
"""Maximum pixels: a decoded picture of 12288 x 8192 takes 150 to 300 MB; larger ones are refused."""

_PIXELS_IN_THREADS = 64_000_000
"""Every decoding thread holds a picture of its own: large pictures get fewer threads."""

_PIXELS_FOR_THREADS = 640 * 360
"""Smaller pictures are decoded in one thread, which gives some 2,000 pictures a second
(benchmarks/decode.py); more threads would take a tenth more processor time from a model on the same cores."""


def choose_stream(container: InputContainer, path: Path | str) -> VideoStream:
    """Choose the video stream of an open container and configure its decoding.

    Raises:
        VideoError: there is no video, it cannot be decoded, or its pictures are too large; names `path`.
    """
    streams = [stream for stream in container.streams.video if not is_cover_picture(stream)]
    if not streams:
        kinds = sorted({stream.type for stream in container.streams})
        raise VideoError(f"{path}: no video stream (the file holds {', '.join(kinds) or 'nothing'})")
    usable = [stream for stream in streams if stream.codec_context is not None]
    if not usable:
        raise VideoError(f"{path}: its video has a coding that this FFmpeg cannot decode")
    if all(is_encrypted_stream(stream) for stream in usable):
        raise VideoError(f"{path}: {ENCRYPTED}")
    best = container.streams.best("video")
    stream = best if isinstance(best, VideoStream) and best in usable else usable[0]
    _limit_memory(stream, path)
    return stream


def _limit_memory(stream: VideoStream, path: Path | str) -> None:
    context = stream.codec_context
    num_pixels = context.width * context.height
    if num_pixels > _MAX_PIXELS:
        raise VideoError(f"{path}: pictures of {context.width} x {context.height} are too large to decode")
    # The size may grow in the middle of a stream, so the limit is also set on the decoder.
    context.options = {**context.options, "max_pixels": str(_MAX_PIXELS)}
    context.flags |= Flags.unaligned  # else FFmpeg shows up to 63 columns of a border that is to be cut off
    context.thread_type = "AUTO"
    threads = _PIXELS_IN_THREADS // max(1, num_pixels)
    if num_pixels < _PIXELS_FOR_THREADS:
        context.thread_count = 1
    elif threads < 16:  # FFmpeg's default is one more than the cores, at most 16
        context.thread_count = max(1, min(threads, os.cpu_count() or 1))


def is_cover_picture(stream: VideoStream) -> bool:
    """Return whether a stream is the cover of a recording, no video."""
    return bool(stream.disposition & Disposition.attached_pic)
