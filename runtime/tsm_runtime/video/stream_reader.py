"""Frames of a network stream, a camera or a pipe, as they arrive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tsm_runtime.errors import VideoError
from tsm_runtime.video.arrival import spread_arrivals
from tsm_runtime.video.choosing import choose_stream
from tsm_runtime.video.clock import Clock, TimedFrame
from tsm_runtime.video.encryption import ENCRYPTED, is_encrypted
from tsm_runtime.video.opening import reason_of
from tsm_runtime.video.timing import timing_of


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSource:
    """Source that FFmpeg opens by an address.

    Args:
        url: address for FFmpeg.
        name: name for messages and files, without secrets.
        format: container format; None: FFmpeg detects it.
        options: options of the container.
        timeout_seconds: maximum time to wait for a connection and for data; None: unlimited.
        rate: frames per second of a source without timestamps; takes precedence over arrival times.
        is_live, reconnects, end_is_loss: see `sources.Source`.
    """

    url: str = field(repr=False)
    name: str
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_seconds: float | None = None
    rate: float | None = None
    is_live: bool = False
    reconnects: bool = False
    end_is_loss: bool = False

    @property
    def video_id(self) -> str:
        """Name of the stream in results: the name of the source."""
        return self.name

    def open(self, listen: Listen | None = None) -> StreamReader:
        """Connect.

        Args:
            listen: see `StreamReader`.

        Raises:
            VideoError: the source cannot be opened or has no video.
        """
        return StreamReader(self, listen)


class PacketListener(Protocol):
    """Takes the packets of another stream of a container, as of the sound beside the pictures."""

    index: int
    """Of the stream."""
    zero: Callable[[], float | None]
    """Set by the reader: returns the time of the first frame on the container's clock, once it is known."""

    def take(self, packet: Any, elapsed_seconds: float) -> None:
        """Take a packet, so long after the stream was opened; None: the end of the stream."""
        ...


Listen = Callable[[InputContainer], PacketListener | None]
"""Returns what takes the packets of another stream of an open container; None: nothing does."""


class StreamReader:
    """Frames of a stream, in order of presentation.

    Iterating `frames` ends when the stream ends or breaks off (`failure` holds the reason). Frames of a live
    source without timestamps, such as a camera's MJPEG over HTTP, get their arrival times.

    Args:
        source: where the stream comes from.
        listen: called with the open container.

    Raises:
        VideoError: the source cannot be opened or has no video.
    """

    def __init__(self, source: StreamSource, listen: Listen | None = None) -> None:
        self._source = source
        self._begun = time.monotonic()
        self._container = open_stream(source)
        try:
            self._stream = choose_stream(self._container, source.name)
        except VideoError:
            self._container.close()
            raise
        self._opened = self._arrived = time.monotonic()
        # Frame threads would delay every frame by their number.
        self._stream.codec_context.thread_type = "SLICE"
        timing = timing_of(self._container, self._stream, source.rate)
        # A remote file has a size, and arrives as fast as the network allows.
        is_camera = source.is_live and self._container.size <= 0
        self.waits = not is_camera and "hls" not in self._container.format.name
        self._reads_ahead = is_camera and not timing.has_times
        arrival = (lambda: self._arrived) if is_camera else None
        self._clock = Clock(timing, is_live=source.is_live, arrival=arrival)
        self._num_corrupt = 0
        self.failure: str | None = None
        self._listener = None if listen is None else listen(self._container)
        if self._listener is not None:
            self._listener.zero = lambda: self._clock.zero_seconds

    @property
    def corrupt_frames(self) -> int:
        """Number of packets and frames so far that did not decode or had a wrong time."""
        return self._num_corrupt + self._clock.num_misplaced

    @property
    def assumed_rate(self) -> float | None:
        """Assumed frames per second on which all times so far depend; None if a rate is stated."""
        return self._clock.assumed_rate

    def close(self) -> None:
        """Close the container; calling it again does nothing."""
        self._container.close()

    def frames(self) -> Iterator[TimedFrame]:
        """Yield frames with times in seconds after the first frame."""
        return self._clock.timed(self._decoded())

    def _decoded(self) -> Iterator[VideoFrame]:
        """Decode packet by packet: a bad packet is counted and loses its pictures, not the stream."""
        limit = self._source.timeout_seconds
        last = time.monotonic()
        for packet in chain(self._arriving(), [None]):  # None flushes the decoder
            try:
                frames = self._stream.decode(packet)
            except av.error.FFmpegError:
                self._num_corrupt += 1
                frames = []
            for frame in frames:
                self._num_corrupt += frame.is_corrupt
                yield frame
                last = time.monotonic()
            if limit is not None and time.monotonic() - last > limit:
                self.failure = self.failure or f"no picture could be decoded for {limit:g} s"
                return

    def _arriving(self) -> Iterator[Packet[VideoStream]]:
        """Yield packets and record their arrival times."""
        if not self._reads_ahead:
            for packet in self._packets():
                self._arrived = time.monotonic()
                yield packet
            return
        for packet, arrived in spread_arrivals(self._packets(), self._begun):
            self._arrived = arrived
            yield packet

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """Yield the video's packets until the stream ends or breaks off."""
        try:
            for packet in self._container.demux():
                if self._listener is not None and packet.stream_index == self._listener.index:
                    if packet.size:
                        self._listener.take(packet, time.monotonic() - self._begun)
                    continue
                if packet.stream_index != self._stream.index or not packet.size:
                    continue
                if is_encrypted(packet):
                    self.failure = ENCRYPTED
                    return
                yield packet  # type: ignore[misc]  # a packet of the video stream
        except av.error.FFmpegError as error:
            self.failure = describe_failure(error, self._source.timeout_seconds)
            if self._clock.is_new and self._may_lack_index(error):
                self.failure += _MP4_HINT
        if self._listener is not None:
            self._listener.take(None, time.monotonic() - self._begun)

    def _may_lack_index(self, error: av.error.FFmpegError) -> bool:
        """Return whether nothing came because the index of an MP4 lies behind pictures that are gone."""
        if isinstance(error, av.error.InvalidDataError):
            return True
        return "mov" in self._container.format.name and not isinstance(error, av.error.ExitError)


_MP4_HINT = (
    "; an MP4 with its index at the end cannot be read as a stream: pass the file itself, serve it with byte"
    " ranges, or write it with ffmpeg -movflags +faststart"
)


def open_stream(source: StreamSource) -> InputContainer:
    """Open the container of a source.

    Raises:
        VideoError: it cannot be opened in time.
    """
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
        # FFmpeg reports a timeout during format detection as invalid data.
        in_time = timeout is None or time.monotonic() - begun < timeout
        why = reason_of(error) if in_time else f"nothing came for {timeout:g} s"
        hint = _MP4_HINT if isinstance(error, av.error.InvalidDataError) and in_time else ""
        raise VideoError(f"{source.name}: cannot be opened ({why}){hint}") from error


def describe_failure(error: Exception, timeout_seconds: float | None) -> str:
    """Return why a stream broke off."""
    if isinstance(error, av.error.ExitError):  # PyAV interrupts calls that take too long
        return f"nothing came for {timeout_seconds:g} s"
    return reason_of(error)
