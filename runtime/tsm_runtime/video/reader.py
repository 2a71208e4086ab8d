"""Container to frames with presentation time in seconds. Time 0 is the first presented frame."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tsm_runtime.errors import VideoError
from tsm_runtime.video.clock import Clock, TimedFrame
from tsm_runtime.video.hardware import HardwareDecoder
from tsm_runtime.video.opening import open_file

__all__ = ["TimedFrame", "VideoReader", "choose_stream", "reason_of"]

_SEEK_MARGINS_SECONDS = (2.0, 10.0, 60.0)
"""How far before the wanted time to land; the next one is tried where a key frame was missed."""

_LENGTH_TOLERANCE_SECONDS = 1.0
"""A video that ends this much before its header's length, or loses this much to wrong times, is not whole."""

_HEADER_STATES_LENGTH = frozenset({"asf", "avi", "flv", "matroska", "mov"})
"""Formats whose length is read from the header; of others FFmpeg guesses it from what is there."""

_MAX_PIXELS = 100_000_000
"""A picture of 12288 x 8192 takes 150 to 300 MB decoded; nothing larger is tried."""

_PIXELS_IN_THREADS = 64_000_000
"""Every decoding thread holds a picture of its own: large ones get fewer threads."""

_PIXELS_FOR_THREADS = 640 * 360
"""Smaller pictures are decoded in one thread: more would take a tenth more processor time from a model on
the same cores, and one gives some 2,000 pictures a second (benchmarks/decode.py)."""


class VideoReader:
    """Frames of the best video stream of a file, in order of presentation.

    `claimed_seconds` is the length that the header states or FFmpeg guesses, or None: good for progress,
    never for results; `claimed_rate`, in frames per second, likewise. After iteration `corrupt_frames` counts
    packets and frames that did not decode (or came with a time before their predecessor), and `failure` says
    why the video is not whole, or is None.

    Args:
        path: the file.
        nvdec: decodes on a GPU; the frames stay there.
        allow_playlists: see `opening.open_file`.

    Raises:
        VideoError: the file is missing, cannot be opened, or has no video stream.
    """

    def __init__(
        self, path: Path, nvdec: HardwareDecoder | None = None, *, allow_playlists: bool = False
    ) -> None:
        self.path = path
        self._nvdec = nvdec
        self._allow_playlists = allow_playlists
        self._open()
        self._clock = Clock(self._stream, by_dts=_times_are_guesses(self._container, self._stream))
        self._forget_counts()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the container; calling it again does nothing."""
        self._container.close()

    def frames(self, start_seconds: float = 0.0) -> Iterator[TimedFrame]:
        """Yield frames from the last one at or before `start_seconds` (or any earlier one) to the end."""
        frames = self._timed()
        first = next(frames, None)  # read in any case: it is the zero of all times
        if first is None:
            return
        if start_seconds <= _SEEK_MARGINS_SECONDS[0]:
            yield first
            yield from frames
            return
        frames.close()
        yield from self._frames_after_seek(start_seconds)

    def _frames_after_seek(self, start_seconds: float) -> Iterator[TimedFrame]:
        """Yield frames after a seek that provably came early enough, else of the whole file."""
        for margin in _SEEK_MARGINS_SECONDS:
            if margin < start_seconds and self._seek(start_seconds - margin):
                frames = self._timed()
                first = next(frames, None)
                if first is not None and self._clock.is_anchor(first, start_seconds):
                    return chain([first], frames)
                frames.close()
        self._container.close()
        self._open()
        return self._timed()

    def _seek(self, seconds: float) -> bool:
        if self._container.format.name == "mpeg":
            return False  # it times some pictures only: after a seek the others come out shifted
        try:
            self._container.seek(self._clock.ticks(seconds), stream=self._stream, backward=True)
        except (av.error.FFmpegError, OverflowError):
            return False
        return True

    def _open(self) -> None:
        self._container, trouble = _open_container(self.path, self._nvdec, self._allow_playlists)
        try:
            self._stream = choose_stream(self._container, self.path)
            if self._nvdec is not None:
                self._nvdec.prepare(self._stream, self.path, trouble)
        except VideoError:
            self._container.close()
            raise
        self.claimed_seconds = _claimed_seconds(self._container, self._stream)
        self.claimed_rate = float(self._stream.average_rate or 0) or None

    def _forget_counts(self) -> None:
        self.corrupt_frames = 0
        self.failure: str | None = None
        self._reached_seconds = 0.0  # end of the last packet of any stream, on the container's clock
        self._last_ticks: int | None = None  # of the video stream's packets

    def _timed(self) -> Generator[TimedFrame]:
        self._forget_counts()
        self._clock.restart()
        for frame in self._decoded():
            timed = self._clock.stamp(frame)
            if frame.is_corrupt or timed is None:
                self.corrupt_frames += 1
            if timed is not None:
                yield timed
        self.failure = self.failure or self._what_is_missing()

    def _decoded(self) -> Iterator[VideoFrame]:
        """Decode packet by packet: a bad packet costs its pictures and is counted, not the stream."""
        for packet in chain(self._packets(), [None]):  # None gives out what the decoder holds back
            try:
                yield from self._stream.decode(packet)
            except av.error.FFmpegError:
                self.corrupt_frames += 1

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """Yield the video's packets; those of other streams tell how far the file goes."""
        try:
            for packet in self._container.demux():
                self._note_time(packet)
                if packet.stream_index == self._stream.index and packet.size:
                    self.corrupt_frames += packet.is_corrupt  # a transport stream lost pieces here
                    yield packet  # type: ignore[misc]  # of our stream, so of its type
        except av.error.FFmpegError as error:
            self.failure = reason_of(error)

    def _note_time(self, packet: Packet[Any]) -> None:
        times = [ticks for ticks in (packet.pts, packet.dts) if ticks is not None]
        if not times or not packet.time_base:
            return
        end = float((max(times) + (packet.duration or 0)) * packet.time_base)
        self._reached_seconds = max(self._reached_seconds, end)
        if packet.stream_index == self._stream.index:
            self._last_ticks = max(times) if self._last_ticks is None else max(self._last_ticks, *times)

    def _what_is_missing(self) -> str | None:
        """Say why a file that was read to its end is not whole, or return None."""
        misplaced = self._clock.misplaced_seconds
        if misplaced > _LENGTH_TOLERANCE_SECONDS:
            return f"frames worth {misplaced:.2f} s go back in time and were left out"
        index = self._stream.index_entries
        last = index[len(index) - 1].timestamp if len(index) else None
        if last is not None and (self._last_ticks is None or last > self._last_ticks):
            return "its index names pictures that are not in the file"
        stated = _stated_seconds(self._container, self._stream)
        if stated - self._reached_seconds > _LENGTH_TOLERANCE_SECONDS:
            return "the file ends early"
        return None


def _open_container(
    path: Path, nvdec: HardwareDecoder | None, allow_playlists: bool
) -> tuple[InputContainer, str]:
    """Open a file; if the GPU was to be used and cannot be, say why."""
    try:
        if not path.exists():
            raise VideoError(f"{path}: no such file")
        if path.is_dir():
            raise VideoError(f"{path}: is a folder, not a video")
        if path.is_file() and path.stat().st_size == 0:
            raise VideoError(f"{path}: empty file")
        if nvdec is None:
            return open_file(path, allow_playlists=allow_playlists), ""
        try:
            with nvdec.context.current():
                return open_file(path, nvdec.accelerator(), allow_playlists=allow_playlists), ""
        except av.error.FFmpegError as error:
            # Raises what is wrong with the file, if that is it.
            return open_file(path, allow_playlists=allow_playlists), reason_of(error)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"{path}: not a readable video ({reason_of(error)})") from error


def choose_stream(container: InputContainer, path: Path | str) -> VideoStream:
    """Choose the video stream of an open container and set how it is decoded.

    Raises:
        VideoError: there is none, it cannot be decoded, or its pictures are too large; names `path`.
    """
    streams = [stream for stream in container.streams.video if not _is_cover_picture(stream)]
    if not streams:
        kinds = sorted({stream.type for stream in container.streams})
        raise VideoError(f"{path}: no video stream (the file holds {', '.join(kinds) or 'nothing'})")
    usable = [stream for stream in streams if stream.codec_context is not None]
    if not usable:
        raise VideoError(f"{path}: its video has a coding that this FFmpeg cannot decode")
    best = container.streams.best("video")
    stream = best if isinstance(best, VideoStream) and best in usable else usable[0]
    _limit_memory(stream, path)
    return stream


def _limit_memory(stream: VideoStream, path: Path | str) -> None:
    context = stream.codec_context
    num_pixels = context.width * context.height
    if num_pixels > _MAX_PIXELS:
        raise VideoError(f"{path}: pictures of {context.width} x {context.height} are too large to decode")
    # The size may grow in the middle of a stream, so the decoder gets the limit too.
    context.options = {**context.options, "max_pixels": str(_MAX_PIXELS)}
    context.thread_type = "AUTO"
    threads = _PIXELS_IN_THREADS // max(1, num_pixels)
    if num_pixels < _PIXELS_FOR_THREADS:
        context.thread_count = 1
    elif threads < 16:  # FFmpeg's own choice is one more than there are cores, 16 at most
        context.thread_count = max(1, min(threads, os.cpu_count() or 1))


def _times_are_guesses(container: InputContainer, stream: VideoStream) -> bool:
    # AVI has no presentation times. FFmpeg derives them from the kind of picture, but not for these codecs:
    # with B-frames their pts run back and forth.
    return container.format.name == "avi" and stream.codec_context.name in ("h264", "hevc")


def _claimed_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration is not None and stream.time_base:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


def _stated_seconds(container: InputContainer, stream: VideoStream) -> float:
    """Length by the header alone, 0 where it states none."""
    kind = container.format.name.split(",")[0]
    if kind not in _HEADER_STATES_LENGTH or (kind == "mov" and stream.frames):
        return 0.0  # a movie that is not fragmented has an index, which is exact
    if kind == "avi" and stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)  # FFmpeg shortens the length of a cut AVI
    return (container.duration or 0) / av.time_base


def _is_cover_picture(stream: VideoStream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def reason_of(error: Exception) -> str:
    """Return what an error of FFmpeg or the system says, without the name of the file."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
