"""The video with its segments burnt in: labels while they are on, and a time line along the bottom."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av import VideoFrame
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from tsm_runtime.errors import RunError, UsageError, VideoError
from tsm_runtime.outputs.painter import Painter, Picture, require_font
from tsm_runtime.outputs.sinks import Sink, check_second_output
from tsm_runtime.results import Result
from tsm_runtime.video.clock import TimedFrame
from tsm_runtime.video.convert import upright
from tsm_runtime.video.finding import VideoInput
from tsm_runtime.video.opening import open_file
from tsm_runtime.video.reader import VideoReader

if TYPE_CHECKING:
    pass  # Pillow is in an extra: only functions import it

_log = logging.getLogger("tsm_runtime")

OVERLAY_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
"""Containers that take H.264 and the usual sound."""

_BT709, _LIMITED_RANGE, _UNSPECIFIED = 1, 1, 2
_HD_HEIGHT = 720


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
        upright_first = _upright_picture(first.frame, first.frame.width, first.frame.height)
        height, width = upright_first.shape[:2]
        length = max(result.duration_seconds, reader.claimed_seconds or 0.0)
        painter = Painter(width, height, result.segments, length)
        out = stack.enter_context(av.open(str(path), "w"))
        stream = _add_video_stream(out, first, width, height)
        source = stack.enter_context(open_file(video))
        aspect = _pixel_aspect(source, turned=height != first.frame.height)
        stream.codec_context.sample_aspect_ratio = aspect
        sound = _SoundCopy(source, out, _zero_seconds(first))
        last_ticks = -1
        for timed in chain([first], frames):
            picture = _upright_picture(timed.frame, first.frame.width, first.frame.height)
            painter.paint(picture, timed.start_seconds)
            encoded = _to_frame(picture, timed, stream.codec_context.time_base, last_ticks)
            last_ticks = encoded.pts or 0
            out.mux(stream.encode(encoded))
            sound.copy_until(timed.start_seconds)
        out.mux(stream.encode())
        sound.copy_until(math.inf)
    return sound.warnings


def _zero_seconds(first: TimedFrame) -> Fraction:
    """Return the time of the first frame on the file's clock, which its sound follows."""
    ticks = first.frame.pts if first.frame.pts is not None else first.frame.dts
    return Fraction(ticks or 0) * (first.frame.time_base or 0)


def _pixel_aspect(source: InputContainer, *, turned: bool) -> Fraction:
    """Return the aspect ratio of a pixel; 1 if the file does not state it."""
    best = source.streams.best("video")
    aspect = best.sample_aspect_ratio if isinstance(best, VideoStream) else None
    if not aspect:
        return Fraction(1)
    return 1 / aspect if turned else aspect


def _add_video_stream(out: OutputContainer, first: TimedFrame, width: int, height: int) -> VideoStream:
    rate = Fraction(1 / first.duration_seconds).limit_denominator(1001) or Fraction(1)
    # Without B-frames every reader sees each frame's own time, even if frames are unevenly spaced.
    stream = out.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "20", "bf": "0"})
    stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
    context = stream.codec_context
    context.time_base = first.frame.time_base or Fraction(1, av.time_base)
    context.flags |= Flags.frame_duration  # so that the last frame keeps its length
    context.colorspace, context.color_range = _BT709, _LIMITED_RANGE
    return stream


def _upright_picture(frame: VideoFrame, width: int, height: int) -> Picture:
    """Return the frame as a writable RGB picture, rotated by its display matrix.

    Args:
        frame: decoded frame.
        width: width of the first frame before rotation, in pixels, as a stream may change its size.
        height: its height.

    Raises:
        VideoError: swscale cannot read this kind of picture.
    """
    # If the file does not state it, players assume BT.709 for large pictures and BT.601 for small ones.
    guessed = _BT709 if frame.colorspace == _UNSPECIFIED and height >= _HD_HEIGHT else None
    try:
        rgb = VideoReformatter().reformat(
            frame, width=width, height=height, format="rgb24", src_colorspace=guessed
        )
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError(f"pictures of {frame.format.name} cannot be converted to RGB") from error
    return np.array(upright(np.asarray(rgb.to_ndarray(), np.uint8), frame), order="C")


def _to_frame(picture: Picture, timed: TimedFrame, time_base: Fraction | None, last_ticks: int) -> VideoFrame:
    """Return the picture for the encoder, at the frame's own time."""
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    frame = VideoFrame.from_ndarray(picture, "rgb24").reformat(
        format="yuv420p", dst_colorspace=_BT709, dst_color_range=_LIMITED_RANGE
    )
    unit = time_base or Fraction(1, av.time_base)
    frame.pts = max(round(timed.start_seconds / unit), last_ticks + 1)  # two frames may have the same time
    frame.time_base = unit
    frame.duration = max(1, round(timed.duration_seconds / unit))
    return frame


class _SoundCopy:
    """Copies the packets of all sound streams, in sync with the pictures.

    `warnings` has a line for each stream that the output cannot hold.
    """

    def __init__(self, source: InputContainer, out: OutputContainer, zero_seconds: Fraction) -> None:
        self._out, self._zero_seconds = out, zero_seconds
        self._targets: dict[int, Any] = {}
        warnings = []
        for stream in source.streams.audio:
            if _takes(out, stream):
                self._targets[stream.index] = out.add_stream_from_template(stream)
            else:
                codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
                warnings.append(f"without the sound: {codec} does not go into this container")
        self.warnings = tuple(warnings)
        kept = [stream for stream in source.streams.audio if stream.index in self._targets]
        self._packets = source.demux(kept) if kept else iter(())
        self._waiting: Packet[Any] | None = self._next()

    def copy_until(self, seconds: float) -> None:
        """Copy all packets up to this second of the pictures."""
        while self._waiting is not None:
            packet, unit = self._waiting, self._waiting.time_base
            if packet.dts is not None and packet.dts * unit - self._zero_seconds > seconds:
                return
            if packet.size and packet.dts is not None:
                shift = round(self._zero_seconds / unit)
                packet.stream = self._targets[packet.stream_index]
                packet.dts -= shift
                packet.pts = None if packet.pts is None else packet.pts - shift
                self._out.mux(packet)
            self._waiting = self._next()

    def _next(self) -> Packet[Any] | None:
        try:
            return next(self._packets, None)
        except av.error.FFmpegError:  # the pictures end at this error too
            return None


def _takes(out: OutputContainer, stream: Any) -> bool:
    """Return whether the container can hold this sound, by writing a header in memory."""
    if stream.codec_context is None:
        return False
    try:
        with av.open(BytesIO(), "w", format=out.format.name) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True
