"""Frames of a file with presentation times in seconds. Time 0 is the first presented frame."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tsm_runtime.closing import Closing
from tsm_runtime.errors import VideoError
from tsm_runtime.video.checking import check_file, describe_media
from tsm_runtime.video.choosing import choose_stream
from tsm_runtime.video.clock import Clock, TimedFrame
from tsm_runtime.video.decoding import PacketDecoder
from tsm_runtime.video.encryption import ENCRYPTED, is_encrypted, is_scrambled_file
from tsm_runtime.video.hardware import HardwareDecoder
from tsm_runtime.video.opening import open_file, reason_of
from tsm_runtime.video.stated_times import claimed_seconds, has_one_clock, stated_seconds
from tsm_runtime.video.timing import timing_of

_SEEK_MARGINS_SECONDS = (2.0, 10.0, 60.0)
"""Seconds to seek before the requested time; the next value is tried if a key frame was missed."""

_LENGTH_TOLERANCE_SECONDS = 1.0
"""A video that ends this much before its stated length, or loses this much to wrong times, is incomplete."""


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
        return not timing.clock_may_restart or has_one_clock(self.path, self._allow_playlists)

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
        self.claimed_seconds = claimed_seconds(self._container, self._stream)
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
        stated = stated_seconds(self._container, self._stream)
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
        what = describe_media(path)
        reason = f": {what}" if what else f" ({reason_of(error)})"
        raise VideoError(f"{path}: not a readable video{reason}") from error
