"""The video with its segments burnt in: labels while they are on, and a time line along the bottom."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import av

from tsm_runtime.errors import RunError, UsageError, VideoError
from tsm_runtime.outputs.painter import Painter, require_font
from tsm_runtime.outputs.sinks import Sink, check_second_output
from tsm_runtime.outputs.video_writer import (
    SoundCopy,
    add_h264_stream,
    encoder_frame,
    pixel_aspect,
    upright_picture,
    zero_of,
)
from tsm_runtime.results import Result
from tsm_runtime.video.finding import VideoInput
from tsm_runtime.video.opening import open_file
from tsm_runtime.video.reader import VideoReader

_log = logging.getLogger("tsm_runtime")

OVERLAY_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
"""Containers that take H.264 and the usual sound."""


# --- what the command line needs ------------------------------------------------------------------


def check_overlay(path: Path, inputs: Sequence[VideoInput], output: str | None) -> None:
    """Check `--overlay` before the run.

    Raises:
        UsageError: several videos, a suffix of another container, no such folder, or a name in use.
        BackendError: Pillow is not installed.
    """
    if len(inputs) > 1:
        raise UsageError(f"--overlay takes one video, but {len(inputs)} were given")
    check_second_output("--overlay", path, OVERLAY_SUFFIXES, inputs, output)
    require_font()


def with_overlay(sink: Sink, video: Path, path: Path, *, quiet: bool = False) -> Sink:
    """Return a sink that passes results to `sink` and, after that has written, writes the overlay."""
    return _OverlaySink(sink, video, path, quiet)


class _OverlaySink:
    def __init__(self, sink: Sink, video: Path, path: Path, quiet: bool) -> None:
        self._sink, self._video, self._path, self._quiet = sink, video, path, quiet
        self._result: Result | None = None

    def add(self, result: Result) -> None:
        self._result = result
        self._sink.add(result)

    def fail(self, video_id: str, reason: str) -> None:
        self._sink.fail(video_id, reason)

    def close(self) -> None:
        self._sink.close()
        if self._result is None:
            return
        for line in write_overlay(self._video, self._result, self._path):
            if not self._quiet:
                _log.warning(f"{self._path}: {line}")


# --- the file -------------------------------------------------------------------------------------


def write_overlay(video: Path, result: Result, path: Path) -> tuple[str, ...]:
    """Write a video with its segments burnt in: H.264, upright, with the original frame times and sound.

    Time 0 is the first frame. Odd sizes get one more row or column, as H.264 requires. Matroska (.mkv) keeps
    times to the millisecond, the others exactly. Memory does not grow with the length.

    Args:
        video: the video of the result.
        result: result whose segments are shown.
        path: target; written completely or not at all.

    Returns:
        Warnings: one for each sound stream that the container cannot hold.

    Raises:
        VideoError: the video cannot be read.
        BackendError: Pillow is not installed.
        RunError: the file could not be written.
    """
    try:
        # A temporary folder: the name must keep its suffix, and leftovers are removed with the folder.
        with tempfile.TemporaryDirectory(prefix=".tsm-", dir=path.resolve().parent) as folder:
            temporary = Path(folder) / f"overlay{path.suffix.lower()}"
            warnings = _write(video, result, temporary)
            temporary.replace(path.resolve())
    except (av.error.FFmpegError, OSError) as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    return warnings


def _write(video: Path, result: Result, path: Path) -> tuple[str, ...]:
    with ExitStack() as stack:
        reader = stack.enter_context(VideoReader(video))
        frames = reader.frames()
        first = next(frames, None)
        if first is None:
            raise VideoError(f"{video}: no frame of the video stream could be decoded")
        upright_first = upright_picture(first.frame, first.frame.width, first.frame.height)
        height, width = upright_first.shape[:2]
        length = max(result.duration_seconds, reader.claimed_seconds or 0.0)
        painter = Painter(width, height, result.segments, length)
        out = stack.enter_context(av.open(str(path), "w"))
        stream = add_h264_stream(out, first, width, height)
        source = stack.enter_context(open_file(video))
        aspect = pixel_aspect(source, turned=height != first.frame.height)
        stream.codec_context.sample_aspect_ratio = aspect
        sound = SoundCopy(source, out, zero_of(first))
        last_ticks = -1
        for timed in chain([first], frames):
            picture = upright_picture(timed.frame, first.frame.width, first.frame.height)
            painter.paint(picture, timed.start_seconds)
            encoded = encoder_frame(picture, timed, stream.codec_context.time_base, last_ticks)
            last_ticks = encoded.pts or 0
            out.mux(stream.encode(encoded))
            sound.copy_until(timed.start_seconds)
        out.mux(stream.encode())
        sound.copy_until(math.inf)
    return sound.warnings
