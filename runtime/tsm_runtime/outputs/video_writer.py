"""Parts of files of video that are written: H.264 at the frames' own times, and the source's own sound."""

from __future__ import annotations

from fractions import Fraction
from io import BytesIO
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av import VideoFrame
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from tsm_runtime.errors import VideoError
from tsm_runtime.video.clock import TimedFrame
from tsm_runtime.video.convert import upright

Rgb = npt.NDArray[np.uint8]

_BT709, _LIMITED_RANGE, _UNSPECIFIED = 1, 1, 2
_HD_HEIGHT = 720


def zero_of(first: TimedFrame) -> Fraction:
    """Return the time of the first frame on the file's clock, in seconds, which its sound follows."""
    ticks = first.frame.pts if first.frame.pts is not None else first.frame.dts
    return Fraction(ticks or 0) * (first.frame.time_base or 0)


def pixel_aspect(source: InputContainer, *, turned: bool) -> Fraction:
    """Return the aspect ratio of a pixel; 1 if the file does not state it."""
    best = source.streams.best("video")
    aspect = best.sample_aspect_ratio if isinstance(best, VideoStream) else None
    if not aspect:
        return Fraction(1)
    return 1 / aspect if turned else aspect


def add_h264_stream(out: OutputContainer, first: TimedFrame, width: int, height: int) -> VideoStream:
    """Add a stream of pictures of a size in pixels, at the rate and in the time unit of the first frame."""
    rate = Fraction(1 / first.duration_seconds).limit_denominator(1001) or Fraction(1)
    # Without B-frames every reader sees each frame's own time, even if frames are unevenly spaced.
    stream = out.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "20", "bf": "0"})
    stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
    context = stream.codec_context
    context.time_base = first.frame.time_base or Fraction(1, av.time_base)
    context.flags |= Flags.frame_duration  # so that the last frame keeps its length
    context.colorspace, context.color_range = _BT709, _LIMITED_RANGE
    return stream


def upright_picture(frame: VideoFrame, width: int, height: int) -> Rgb:
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


def encoder_frame(picture: Rgb, timed: TimedFrame, time_base: Fraction | None, last_ticks: int) -> VideoFrame:
    """Return the picture for the encoder, at the frame's own time, even in width and height."""
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


class PacketTargets:
    """Streams of an output that get packets of other streams as they are.

    `streams` holds those of the output by index of the source's, `last` the last decoding times, in ticks.
    """

    def __init__(self, out: OutputContainer) -> None:
        self._out = out
        self.streams: dict[int, Any] = {}
        self.last: dict[int, int] = {}

    def add(self, stream: Any) -> None:
        """Add a stream like that of a source.

        Raises:
            av.error.FFmpegError, ValueError: it does not go into the container.
        """
        self.streams[stream.index] = self._out.add_stream_from_template(stream)

    def mux(self, packet: Packet[Any], shift: int) -> None:
        """Write a packet, so many ticks earlier; one whose decoding time does not increase is left out."""
        index, dts = packet.stream_index, (packet.dts or 0) - shift
        if dts <= self.last.get(index, dts - 1):
            return
        self.last[index] = dts
        packet.stream = self.streams[index]
        packet.dts = dts
        packet.pts = None if packet.pts is None else packet.pts - shift
        self._out.mux(packet)


class SoundCopy:
    """Copies the packets of all sound streams, in sync with the pictures.

    `warnings` has a line for each stream that the output cannot hold.

    Args:
        source: the video, opened for its sound alone.
        out: gets the streams; its pictures' stream must be there already.
        zero_seconds: time of the first frame on the file's clock.
    """

    def __init__(self, source: InputContainer, out: OutputContainer, zero_seconds: Fraction) -> None:
        self._source, self._zero_seconds = source, zero_seconds
        self._shift_seconds, self._earliest_seconds = zero_seconds, Fraction(-(10**6))
        self._targets = PacketTargets(out)
        warnings = []
        for stream in source.streams.audio:
            if container_takes(out, stream):
                self._targets.add(stream)
            else:
                codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
                warnings.append(f"without the sound: {codec} does not go into this container")
        self.warnings = tuple(warnings)
        self._demux()

    def _demux(self) -> None:
        kept = [stream for stream in self._source.streams.audio if stream.index in self._targets.streams]
        self._packets = self._source.demux(kept) if kept else iter(())
        self._waiting: Packet[Any] | None = self._next()

    def begin_at(self, seconds: Fraction, at: Fraction) -> None:
        """Continue with the sound from a second of the video on, which gets the time `at` in the output."""
        if not self._targets.streams:
            return
        on_clock = self._zero_seconds + seconds
        self._source.seek(max(int(on_clock * av.time_base), 0), backward=True)
        self._shift_seconds, self._earliest_seconds = on_clock - at, at
        self._demux()

    def copy_until(self, seconds: float) -> None:
        """Copy all packets up to this second of the output."""
        while self._waiting is not None:
            packet, unit = self._waiting, self._waiting.time_base
            at = None if packet.dts is None else packet.dts * unit - self._shift_seconds
            if at is not None and at > seconds:
                return
            if packet.size and at is not None and at >= self._earliest_seconds:
                self._targets.mux(packet, round(self._shift_seconds / unit))
            self._waiting = self._next()

    def _next(self) -> Packet[Any] | None:
        try:
            return next(self._packets, None)
        except av.error.FFmpegError:  # the pictures end at this error too
            return None


def container_takes(out: OutputContainer, stream: Any) -> bool:
    """Return whether the container can hold a stream, by writing a header in memory."""
    if stream.codec_context is None:
        return False
    try:
        with av.open(BytesIO(), "w", format=out.format.name) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True
