"""Frames of a network stream, a camera or a pipe, as they come."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

import av
from av.container import InputContainer
from av.video.frame import VideoFrame

from tsm_runtime.errors import VideoError
from tsm_runtime.video.clock import Clock, TimedFrame
from tsm_runtime.video.reader import choose_stream, reason_of

__all__ = ["StreamReader", "StreamSource"]

_JUMP_BACK_SECONDS = 1.0
"""A time so much before the last one means that the sender began anew; less is a misplaced frame."""

_JUMP_AHEAD_SECONDS = 10.0
"""A time so much further ahead than the wall clock means the same, where frames come when they are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSource:
    """What FFmpeg opens by an address.

    Args:
        url: for FFmpeg.
        name: for a person and for files, without secrets.
        format: of the container, where FFmpeg shall not find it out.
        options: of the container.
        timeout_seconds: how long to wait for a connection, and for anything to come; None: for ever.
        is_live, reconnects, end_is_loss: see `sources.Source`.
    """

    url: str = field(repr=False)
    name: str
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_seconds: float | None = None
    is_live: bool = False
    reconnects: bool = False
    end_is_loss: bool = False

    @property
    def video_id(self) -> str:
        """Nothing better than its name."""
        return self.name

    def open(self) -> StreamReader:
        """Connect.

        Raises:
            VideoError: it cannot be opened or has no video.
        """
        return StreamReader(self)


class StreamReader:
    """Frames of a stream, in order of presentation.

    Iterating `frames` ends where the stream ends, breaks off (`failure` says why), or its clock jumps
    (`jumped` too): then iterate again, for frames that are timed from a new zero.

    Raises:
        VideoError: it cannot be opened or has no video.
    """

    def __init__(self, source: StreamSource) -> None:
        self._source = source
        self._container = _open_container(source)
        try:
            self._stream = choose_stream(self._container, source.name)
        except VideoError:
            self._container.close()
            raise
        # Threads that each take a frame would hold every frame back by their number.
        self._stream.codec_context.thread_type = "SLICE"
        self.corrupt_frames = 0
        self.failure: str | None = None
        self.jumped = False
        self._coming = self._decoded()
        self._held: VideoFrame | None = None

    def close(self) -> None:
        """Close the container; calling it again does nothing."""
        self._container.close()

    def frames(self) -> Iterator[TimedFrame]:
        """Yield frames with seconds after the first of them."""
        clock = Clock(self._stream, by_dts=False)
        self.failure, self.jumped = None, False
        held, self._held = self._held, None
        last: tuple[float, float] | None = None  # its own time, and when it came
        for frame in chain([] if held is None else [held], self._coming):
            now = time.monotonic()
            own = frame.time
            if last is not None and own is not None and (jump := self._jump(own - last[0], now - last[1])):
                self.failure, self.jumped, self._held = jump, True, frame
                return
            timed = clock.stamp(frame)
            if frame.is_corrupt or timed is None:
                self.corrupt_frames += 1
            if timed is not None:
                last = last if own is None else (own, now)
                yield timed

    def _jump(self, step_seconds: float, waited_seconds: float) -> str | None:
        if step_seconds < -_JUMP_BACK_SECONDS:
            return f"its clock jumped back by {-step_seconds:.2f} s"
        if self._source.is_live and step_seconds > waited_seconds + _JUMP_AHEAD_SECONDS:
            return f"its clock jumped ahead by {step_seconds:.2f} s"
        return None

    def _decoded(self) -> Iterator[VideoFrame]:
        """Decode packet by packet: a bad packet costs its pictures and is counted, not the stream."""
        limit = self._source.timeout_seconds
        last = time.monotonic()
        try:
            for packet in self._container.demux():
                if packet.stream_index != self._stream.index:
                    continue
                try:
                    for frame in self._stream.decode(packet):
                        yield frame
                        last = time.monotonic()
                except av.error.FFmpegError:
                    self.corrupt_frames += 1
                if limit is not None and time.monotonic() - last > limit:
                    self.failure = f"no picture could be decoded for {limit:g} s"
                    return
        except av.error.FFmpegError as error:
            self.failure = _told(error, limit)


def _open_container(source: StreamSource) -> InputContainer:
    timeout, begun = source.timeout_seconds, time.monotonic()
    try:
        return av.open(
            source.url,
            format=source.format,
            options=dict(source.options),
            metadata_errors="ignore",
            timeout=timeout,
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        # What was broken off while FFmpeg looked for the format is an error of the data to it.
        in_time = timeout is None or time.monotonic() - begun < timeout
        why = reason_of(error) if in_time else f"nothing came for {timeout:g} s"
        raise VideoError(f"{source.name}: cannot be opened ({why})") from error


def _told(error: Exception, timeout_seconds: float | None) -> str:
    if isinstance(error, av.error.ExitError):  # PyAV breaks off what takes too long
        return f"nothing came for {timeout_seconds:g} s"
    return reason_of(error)
