"""Frames of a file with presentation times in seconds. Time 0 is the first presented frame."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tsm_runtime.closing import Closing
from tsm_runtime.errors import VideoError
from tsm_runtime.video.clock import NEW_CLOCK_SECONDS, Clock, TimedFrame
from tsm_runtime.video.contents import describe_contents
from tsm_runtime.video.decoding import PacketDecoder
from tsm_runtime.video.encryption import ENCRYPTED, is_encrypted, is_encrypted_stream, is_scrambled_file
from tsm_runtime.video.hardware import HardwareDecoder
from tsm_runtime.video.opening import open_file
from tsm_runtime.video.timing import timing_of

_SEEK_MARGINS_SECONDS = (2.0, 10.0, 60.0)
"""Seconds to seek before the requested time; the next value is tried if a key frame was missed."""

_LENGTH_TOLERANCE_SECONDS = 1.0
"""A video that ends this much before its stated length, or loses this much to wrong times, is incomplete."""

_HEADER_STATES_LENGTH = frozenset({"asf", "avi", "flv", "matroska", "mov"})
"""Formats whose header states the length; for others FFmpeg estimates it from the data."""

_MAX_PIXELS = 100_000_000
"""Maximum pixels: a decoded picture of 12288 x 8192 takes 150 to 300 MB; larger ones are refused."""

_PIXELS_IN_THREADS = 64_000_000
"""Every decoding thread holds a picture of its own: large pictures get fewer threads."""

_SMALL_STEP_SECONDS = 0.1
"""A decoding time that steps back by more indicates a restart of the clock."""

_PIXELS_FOR_THREADS = 640 * 360
"""Smaller pictures are decoded in one thread, which gives some 2,000 pictures a second
(benchmarks/decode.py); more threads would take a tenth more processor time from a model on the same cores."""


class VideoReader(Closing):
    """Frames of the best video stream of a file, in order of presentation.

    `claimed_seconds` is the length stated by the header or estimated by FFmpeg, or None; it serves progress
    bars, never results; so does `claimed_rate`, in frames per second. After iteration, `corrupt_frames` is
    the number of packets and frames that did not decode or had a wrong time, `failure` is the reason why the
    video is incomplete, or None, and `assumed_rate` is the assumed frames per second if the file states
    neither times nor a rate. `decoder` is the context that decodes.

    Args:
        path: the file.
        nvdec: decoder on a GPU; the frames stay there.
        rate: frames per second of a video without timestamps, such as raw MJPEG; ignored for others.
        allow_playlists: see `opening.open_file`.

    Raises:
        VideoError: the file is missing, cannot be opened, or has no video stream.
    """

    waits = True
    """See `sources.Connection`."""

    stream_kind = "video"
    """What is read, for messages."""

    notices: tuple[str, ...] = ()
    """What is worth a warning, one line each."""

    def __init__(
        self,
        path: Path,
        nvdec: HardwareDecoder | None = None,
        *,
        rate: float | None = None,
        allow_playlists: bool = False,
    ) -> None:
        self.path = path
        self._nvdec = nvdec
        self._allow_playlists = allow_playlists
        self._open()
        timing = timing_of(self._container, self._stream, rate)
        # Held frames would block surfaces of a GPU's decoder.
        self._clock = Clock(timing) if nvdec is None else Clock(timing, look_ahead=1)
        self._sought: int | None = None  # position of the last seek, in ticks
        self._forget_counts()

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
        self.decoder = self._stream.codec_context  # another one holds memory of the GPU

    @property
    def zero_seconds(self) -> float | None:
        """Time of the first presented frame on the container's clock, after that frame is read."""
        return self._clock.zero_seconds

    def frames(self, start_seconds: float = 0.0) -> Iterator[TimedFrame]:
        """Yield frames from the last at or before `start_seconds`, or an earlier one, to the end."""
        frames = self._timed()
        first = next(frames, None)  # always read: it defines the zero of all times
        if first is None:
            return
        if start_seconds <= _SEEK_MARGINS_SECONDS[0]:
            yield first
            yield from frames
            return
        frames.close()
        yield from self._frames_after_seek(start_seconds)

    def _frames_after_seek(self, start_seconds: float) -> Iterator[TimedFrame]:
        """Yield frames after a seek if it provably landed early enough, else frames of the whole file."""
        for margin in _SEEK_MARGINS_SECONDS:
            if margin < start_seconds and self._seek(start_seconds - margin):
                frames = self._timed()
                first = next(frames, None)
                if first is not None and self._clock.is_anchor(first, start_seconds):
                    return chain([first], frames)
                frames.close()
        self._reopen()
        return self._timed()

    def _seek(self, seconds: float) -> bool:
        if not self._has_true_times():
            return False
        ticks = self._clock.ticks(seconds)
        try:
            self._container.seek(ticks, stream=self._stream, backward=True)
        except (av.error.FFmpegError, OverflowError):
            return False
        if self.decoder is not self._stream.codec_context:
            self.decoder.flush_buffers()
        self._sought = ticks
        return True

    def _has_true_times(self) -> bool:
        """Return whether a frame found by a seek has the same time as when reading from the start."""
        if self._container.format.name == "mpeg":
            return False  # only some pictures have timestamps: after a seek the others are shifted
        timing = self._clock.timing
        if timing.by_dts and self._stream.codec_context.has_b_frames:
            return False  # the delay of the decoder varies with the position
        return not timing.clock_may_restart or _has_one_clock(self.path, self._allow_playlists)

    def _reopen(self) -> None:
        self._container.close()
        self._open()
        self._sought = None

    def _open(self) -> None:
        self._container, trouble = _open_container(self.path, self._nvdec, self._allow_playlists)
        try:
            self._stream = choose_stream(self._container, self.path)
            self._is_scrambled = is_scrambled_file(self.path, self._container, self._stream)
            self.decoder = self._stream.codec_context
            if self._nvdec is not None:
                self.decoder = self._nvdec.prepare(self._stream, self.path, trouble)
        except VideoError:
            self._container.close()
            raise
        self.claimed_seconds = _claimed_seconds(self._container, self._stream)
        self.claimed_rate = float(self._stream.average_rate or 0) or None

    def _forget_counts(self) -> None:
        self._num_corrupt = 0
        self.failure: str | None = None
        self._reached_seconds = 0.0  # end of the last packet of any stream, on the container's clock
        self._last_ticks: int | None = None  # of the video stream's packets

    def _timed(self) -> Generator[TimedFrame]:
        self._forget_counts()
        self._clock.restart()
        yield from self._clock.timed(self._decoded())
        if self._is_scrambled:  # a decoder skips such packets or turns them into noise
            self.failure = ENCRYPTED
        self.failure = self.failure or self._what_is_missing()

    def _decoded(self) -> Iterator[VideoFrame]:
        """Decode packet by packet: a bad packet is counted and loses its pictures, not the stream."""
        decoder = PacketDecoder(self.decoder)
        for packet in chain(self._packets(), [None]):  # None flushes the decoder
            frames = decoder.decode(packet)
            if frames is None and self._may_lose_frames():
                yield from self._decoded_again(decoder)
                return
            yield from self._counted(packet, frames)
        timing = self._clock.timing
        frame_ticks = timing.nominal_seconds / float(timing.time_base)
        if self._may_lose_frames() and not timing.by_dts and decoder.has_lost_end(frame_ticks):
            yield from self._decoded_again(decoder)

    def _counted(
        self, packet: Packet[VideoStream] | None, frames: Iterable[VideoFrame] | None
    ) -> Iterator[VideoFrame]:
        """Yield the frames of a packet, and count damaged packets and frames."""
        self._num_corrupt += frames is None or (packet is not None and packet.is_corrupt)
        for frame in frames or ():
            self._num_corrupt += frame.is_corrupt
            yield frame

    def _may_lose_frames(self) -> bool:
        """Return whether good frames are lost with a bad packet, as several are decoded at a time."""
        return self._nvdec is None and self._stream.codec_context.thread_count != 1

    def _decoded_again(self, before: PacketDecoder) -> Iterator[VideoFrame]:
        """Continue after the last returned frame in one thread, which loses bad packets only."""
        sought = self._sought
        self._reopen()
        self._stream.codec_context.thread_count = 1
        if sought is not None:
            self._container.seek(sought, stream=self._stream, backward=True)
            self._sought = sought
        decoder = before.continued(self.decoder)
        for packet in chain(self._packets(), [None]):
            is_new = decoder.num_packets + 1 >= before.num_packets
            frames = decoder.decode(packet)
            yield from self._counted(packet, frames) if is_new or frames is None else frames

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """Yield the video's packets; packets of other streams show how far the file extends."""
        try:
            for packet in self._container.demux():
                self._note_time(packet)
                if packet.stream_index == self._stream.index and packet.size:
                    if is_encrypted(packet):
                        self.failure = ENCRYPTED
                        return
                    yield packet  # type: ignore[misc]  # a packet of the video stream
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
        """Return the reason why a file that was read to its end is incomplete, or None."""
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
    """Open a file; also return the reason if the requested GPU cannot be used."""
    try:
        check_file(path)
        if nvdec is None:
            return open_file(path, allow_playlists=allow_playlists), ""
        try:
            with nvdec.context.current():
                return open_file(path, nvdec.accelerator(), allow_playlists=allow_playlists), ""
        except av.error.FFmpegError as error:
            # Raises an error if the file itself is at fault.
            return open_file(path, allow_playlists=allow_playlists), reason_of(error)
    except (av.error.FFmpegError, OSError) as error:
        what = describe_contents(path)
        reason = f": {what}" if what else f" ({reason_of(error)})"
        raise VideoError(f"{path}: not a readable video{reason}") from error


def check_file(path: Path) -> None:
    """Check that a path is a file that is not empty.

    Raises:
        VideoError: it is not; the message names what was found.
    """
    if not path.exists():
        raise VideoError(f"{path}: no such file")
    if path.is_dir():
        raise VideoError(f"{path}: is a folder, not a video")
    if not path.is_file():
        raise VideoError(f"{path}: a pipe or device, not a file; run it with: tsm-live {path}")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: empty file")
    if _is_animated_webp(path):
        raise VideoError(f"{path}: animated WebP is not supported; convert it to MP4 or GIF first")


def _is_animated_webp(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(21)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)


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


def _has_one_clock(path: Path, allow_playlists: bool) -> bool:
    """Return whether decoding times have no jump; reads the file without decoding."""
    last: dict[int, float] = {}
    try:
        with open_file(path, allow_playlists=allow_playlists) as container:
            for packet in container.demux():
                if packet.dts is None or not packet.time_base:
                    continue
                now = float(packet.dts * packet.time_base)
                step = now - last.get(packet.stream_index, now)
                if not -_SMALL_STEP_SECONDS < step < NEW_CLOCK_SECONDS:
                    return False
                last[packet.stream_index] = now
    except av.error.FFmpegError:
        return False
    return True


def _claimed_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration is not None and stream.time_base:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


def _stated_seconds(container: InputContainer, stream: VideoStream) -> float:
    """Return the length in seconds stated by the header; 0 if it states none."""
    kind = container.format.name.split(",")[0]
    if kind not in _HEADER_STATES_LENGTH or (kind == "mov" and stream.frames):
        return 0.0  # a movie that is not fragmented has an exact index
    if kind == "avi" and stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)  # FFmpeg shortens the length of a truncated AVI
    return (container.duration or 0) / av.time_base


def is_cover_picture(stream: VideoStream) -> bool:
    """Return whether a stream is the cover of a recording, no video."""
    return bool(stream.disposition & Disposition.attached_pic)


def reason_of(error: Exception) -> str:
    """Return the message of an error of FFmpeg or the system, without the file name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
