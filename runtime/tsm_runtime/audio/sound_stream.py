"""Pictures of the sound of a network stream, a microphone or a pipe, as it arrives."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet

from tsm_runtime.audio.decoding import Piece, TrackDecoder
from tsm_runtime.audio.growing import GrowingTrack
from tsm_runtime.audio.pictures import PictureMaker
from tsm_runtime.audio.placing import Placing
from tsm_runtime.audio.sound_reader import timed_picture
from tsm_runtime.audio.spec import SAMPLE_RATE, SoundSpec
from tsm_runtime.audio.track import choose_track
from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.video.choosing import is_cover_picture
from tsm_runtime.video.clock import TimedFrame
from tsm_runtime.video.opening import SOUND_FORMATS
from tsm_runtime.video.stream_reader import StreamSource, describe_failure, open_stream

_LONGEST_WAIT_SECONDS = 2.0
"""So much sound waits for the first picture, whose time is the zero of a stream that has pictures."""


def with_media(source: StreamSource, media: str) -> StreamSource:
    """Return a source that requests other media of an RTSP server, as "audio" or "video+audio"."""
    if "allowed_media_types" not in source.options:
        return source
    return replace(source, options={**source.options, "allowed_media_types": media})


class SoundStreamReader:
    """Pictures of the sound of a stream, see `video.sources.Connection`.

    Time 0 is the first picture of a stream that has some, else the first sample.

    Args:
        source: where the stream comes from.
        spec: how sound is cut.

    Raises:
        VideoError: the source cannot be opened or has no audio track.
    """

    def __init__(self, source: StreamSource, spec: SoundSpec) -> None:
        source = _of_sound(with_media(source, "audio"))
        self._source, self._spec = source, spec
        self._container = open_stream(source)
        try:
            self._decoder = TrackDecoder(_track_of(self._container, source.name, spec), spec.channels)
        except VideoError:
            self._container.close()
            raise
        is_camera = source.is_live and self._container.size <= 0
        self.waits = not is_camera and "hls" not in self._container.format.name
        pictures = [each for each in self._container.streams.video if not is_cover_picture(each)]
        self._picture_index = pictures[0].index if pictures else -1
        self._begun = time.monotonic()
        self.failure: str | None = None

    @property
    def corrupt_frames(self) -> int:
        """Number of packets so far that did not decode."""
        return self._decoder.num_corrupt

    def close(self) -> None:
        """Close the container; further calls do nothing."""
        self._container.close()

    def frames(self) -> Iterator[TimedFrame]:
        """Yield the pictures in order, each as soon as its sound is there."""
        placing = Placing(rate=SAMPLE_RATE, zero_seconds=None)
        track = GrowingTrack(self._spec, placing)
        maker = PictureMaker(track)
        for start_seconds, samples in self._pieces(placing):
            elapsed = time.monotonic() - self._begun  # any gap that long is one
            track.add(*placing.place(start_seconds, samples, elapsed))
            yield from map(timed_picture, maker.known())
        track.finish()
        yield from map(timed_picture, maker.known(is_end=True))

    def _pieces(self, placing: Placing) -> Iterator[Piece]:
        """Yield pieces; the first ones wait until the time of the first picture is known."""
        waiting: list[Piece] = []
        num_waiting, has_zero = 0, self._picture_index < 0
        for packet in chain(self._packets(), [None]):
            if packet is not None and packet.stream_index == self._picture_index:
                if not has_zero and packet.is_keyframe and packet.pts is not None:
                    placing.zero_seconds, has_zero = float(packet.pts * packet.time_base), True
                continue
            for piece in self._decoder.pieces(packet):
                waiting.append(piece)
                num_waiting += piece[1].shape[1]
            if has_zero or packet is None or num_waiting > _LONGEST_WAIT_SECONDS * SAMPLE_RATE:
                has_zero = True
                yield from waiting
                waiting.clear()

    def _packets(self) -> Iterator[Packet[Any]]:
        """Yield the packets of sound and, to find the zero, of pictures, until the stream ends."""
        limit, last = self._source.timeout_seconds, time.monotonic()
        try:
            for packet in self._container.demux():
                if packet.size and packet.stream_index in (self._decoder.stream.index, self._picture_index):
                    yield packet
                if packet.size and packet.stream_index == self._decoder.stream.index:
                    last = time.monotonic()
                elif limit is not None and time.monotonic() - last > limit:
                    self.failure = f"no sound came for {limit:g} s"
                    return
        except av.error.FFmpegError as error:
            self.failure = describe_failure(error, limit)


def _of_sound(source: StreamSource) -> StreamSource:
    """Return a source that may also be a recording without pictures, where formats are restricted."""
    if "format_whitelist" not in source.options:
        return source
    return replace(source, options={**source.options, "format_whitelist": ",".join(SOUND_FORMATS)})


def _track_of(container: InputContainer, name: str, spec: SoundSpec) -> av.AudioStream:
    try:
        stream = choose_track(container, spec.track)
    except UsageError as error:
        raise VideoError(f"{name}: {error}") from None
    if stream is None:
        raise VideoError(f"{name}: no audio track, and this model takes sound alone")
    return stream
