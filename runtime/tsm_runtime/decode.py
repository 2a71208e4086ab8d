"""Container to frames with presentation time in seconds. Time 0 is the first presented frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tsm_runtime.errors import VideoError

__all__ = ["TimedFrame", "VideoReader"]

_SEEK_MARGIN_SECONDS = 2.0
_DEFAULT_FRAME_SECONDS = 1 / 25


@dataclass(frozen=True, slots=True)
class TimedFrame:
    """A decoded frame, `start_seconds` after the first presented frame, shown for `duration_seconds`."""

    frame: VideoFrame
    start_seconds: float
    duration_seconds: float

    @property
    def end_seconds(self) -> float:
        """When the frame leaves the screen if nothing follows it."""
        return self.start_seconds + self.duration_seconds


class VideoReader:
    """Frames of the best video stream of a file, in order of presentation.

    After iteration `corrupt_frames` counts packets and frames that did not decode (or came with a time
    before their predecessor), and `failure` says why reading broke off, or is None at a normal end.

    Raises:
        VideoError: the file is missing, cannot be opened, or has no video stream.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.corrupt_frames = 0
        self.failure: str | None = None
        self._num_packets = 0
        self._container = _open_container(path)
        try:
            self._stream = _video_stream(self._container, path)
        except VideoError:
            self._container.close()
            raise
        self._stream.thread_type = "AUTO"

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the container; calling it again does nothing."""
        self._container.close()

    @property
    def claimed_seconds(self) -> float | None:
        """Length the header claims for the stream: good for progress, never for results."""
        if self._stream.duration is not None and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        if self._container.duration is not None:
            return self._container.duration / av.time_base
        return None

    @property
    def missing_packets(self) -> int:
        """How many pictures of the header's index were not there when a full read ended; 0 if unknown."""
        return max(0, self._stream.frames - self._num_packets) if self._stream.frames else 0

    def frames(self, start_seconds: float = 0.0) -> Iterator[TimedFrame]:
        """Yield frames from the last one at or before `start_seconds` (or any earlier one) to the end."""
        clock = _Clock(self._stream)
        frames = self._timed(clock)
        first = next(frames, None)
        if first is None:
            return
        if start_seconds <= _SEEK_MARGIN_SECONDS:
            yield first
            yield from frames
            return
        yield from self._frames_after_seek(clock, start_seconds)

    def _frames_after_seek(self, clock: _Clock, start_seconds: float) -> Iterator[TimedFrame]:
        self._seek(clock, start_seconds - _SEEK_MARGIN_SECONDS)
        frames = self._timed(clock)
        first = next(frames, None)
        if first is None or first.start_seconds > start_seconds:  # an index that points too far: read it all
            self._seek(clock, 0.0)
            yield from self._timed(clock)
            return
        yield first
        yield from frames

    def _seek(self, clock: _Clock, seconds: float) -> None:
        try:
            self._container.seek(clock.ticks(seconds), stream=self._stream, backward=True)
        except av.error.FFmpegError:  # not seekable: start over
            self._container.close()
            self._container = _open_container(self.path)
            self._stream = _video_stream(self._container, self.path)
            self._stream.thread_type = "AUTO"
        clock.forget_previous()

    def _timed(self, clock: _Clock) -> Iterator[TimedFrame]:
        for frame in self._decoded():
            if frame.is_corrupt:
                self.corrupt_frames += 1
            timed = clock.stamp(frame)
            if timed is None:
                self.corrupt_frames += 1
                continue
            yield timed

    def _decoded(self) -> Iterator[VideoFrame]:
        """Decode packet by packet: a bad packet costs its pictures and is counted, not the stream."""
        for packet in self._packets():
            if packet.size:
                self._num_packets += 1
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                self.corrupt_frames += 1

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        try:
            yield from self._container.demux(self._stream)
        except av.error.FFmpegError as error:
            self.failure = _reason(error)


class _Clock:
    """Presentation times from pts; where a frame has none, from its predecessor."""

    def __init__(self, stream: VideoStream) -> None:
        self._time_base = stream.time_base or Fraction(1, 1000)
        rate = stream.average_rate or stream.guessed_rate
        self._nominal_seconds = float(1 / rate) if rate else _DEFAULT_FRAME_SECONDS
        self._zero_ticks: int | None = None
        self._previous: TimedFrame | None = None

    def stamp(self, frame: VideoFrame) -> TimedFrame | None:
        """Return the frame with its time, or None where its time lies before its predecessor's."""
        ticks = frame.pts if frame.pts is not None else frame.dts
        if self._zero_ticks is None:
            self._zero_ticks = ticks if ticks is not None else 0
        if ticks is not None:
            start = float((ticks - self._zero_ticks) * self._time_base)
        else:
            start = self._previous.end_seconds if self._previous else 0.0
        if self._previous is not None and start < self._previous.start_seconds:
            return None
        duration = float(frame.duration * self._time_base) if frame.duration else self._nominal_seconds
        self._previous = TimedFrame(frame, start, duration)
        return self._previous

    def ticks(self, seconds: float) -> int:
        """Time of the video to the stream's clock, for seeking."""
        return (self._zero_ticks or 0) + int(max(0.0, seconds) / self._time_base)

    def forget_previous(self) -> None:
        """Accept earlier times again, after a seek."""
        self._previous = None


def _open_container(path: Path) -> InputContainer:
    if not path.exists():
        raise VideoError(f"{path}: no such file")
    if path.is_dir():
        raise VideoError(f"{path}: is a folder, not a video")
    try:
        return av.open(
            str(path.absolute()),  # absolute: a colon or leading dash in a name is no protocol or option
            options={"protocol_whitelist": "file,crypto,data"},
            metadata_errors="ignore",
        )
    except (av.error.FFmpegError, OSError) as error:
        what = "empty file" if path.stat().st_size == 0 else f"not a readable video ({_reason(error)})"
        raise VideoError(f"{path}: {what}") from error


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    usable = [s for s in container.streams.video if not _is_cover_picture(s) and s.codec_context is not None]
    if not usable:
        kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
        raise VideoError(f"{path}: no video stream (the file holds {', '.join(kinds)})")
    best = container.streams.best("video")
    return best if isinstance(best, VideoStream) and best in usable else usable[0]


def _is_cover_picture(stream: VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
