"""Sound beside the pictures of a live run: of a file, read as far as it is needed, or of a stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from av import AudioStream
from av.container import InputContainer
from av.packet import Packet

from tsm_runtime.audio.decoding import Piece, TrackDecoder
from tsm_runtime.audio.growing import GrowingTrack
from tsm_runtime.audio.patches import Patches, first_frames
from tsm_runtime.audio.placing import Placing
from tsm_runtime.audio.reader import TrackReader, is_silent
from tsm_runtime.audio.spec import SAMPLE_RATE, SoundSpec
from tsm_runtime.audio.track import choose_track
from tsm_runtime.errors import UsageError

_MOST_KEPT_SECONDS = 300.0
"""Older sound is dropped also where the pictures stop, so that memory stays bounded."""

_MOST_WAITING_SECONDS = 10.0
"""So much sound is kept until the time of the first picture is known."""


class Listening(Protocol):
    """Sound of an open stream, on the time line of its pictures."""

    def is_known(self, end_seconds: float) -> bool:
        """Return whether all sound before a time is known, or no more comes."""
        ...

    def patches(self, middles: npt.NDArray[np.float64]) -> Patches:
        """Return the sound around some moments as far as it is known; the next ones must not be earlier."""
        ...

    def close(self) -> None:
        """Close what was opened for it; further calls do nothing."""
        ...


class _Kept:
    """A growing track of which only the newest part is kept."""

    def __init__(self, spec: SoundSpec, placing: Placing) -> None:
        self.spec = spec
        self.track = GrowingTrack(spec, placing)
        self.is_over = False

    def is_known(self, end_seconds: float) -> bool:
        return self.is_over or self.track.known_frames * self.spec.hop_seconds >= end_seconds

    def finish(self) -> None:
        if not self.is_over:
            self.track.finish()
        self.is_over = True

    def forget_old(self) -> None:
        oldest = self.track.known_frames - round(_MOST_KEPT_SECONDS / self.spec.hop_seconds)
        self.track.forget(max(0, oldest))

    def patches(self, middles: npt.NDArray[np.float64]) -> Patches:
        found = self.track.track().patches(middles)
        if is_silent(self.track.peak):
            found = Patches(found.log_mel, np.zeros_like(found.is_heard))
        self.track.forget(int(first_frames(middles, self.spec).min()))
        return found


class FileListening:
    """Sound of a file; `is_known` reads what is missing.

    Args:
        path: a video.
        spec: how sound is cut.

    Raises:
        VideoError: the file cannot be opened.
        UsageError: the requested track is not there.
    """

    def __init__(self, path: Path, spec: SoundSpec) -> None:
        self._reader = TrackReader(path, channels=spec.channels, track=spec.track)
        self._pieces = self._reader.pieces()
        self._kept = _Kept(spec, self._reader.placing)
        self.has_track = self._reader.has_track

    def is_known(self, end_seconds: float) -> bool:
        """Read up to a time; return True."""
        while not self._kept.is_known(end_seconds):
            piece = next(self._pieces, None)
            if piece is None:
                self._kept.finish()
            else:
                self._kept.track.add(*piece)
        return True

    def patches(self, middles: npt.NDArray[np.float64]) -> Patches:
        """Return the sound around some moments."""
        return self._kept.patches(middles)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


class StreamListening:
    """Sound of a stream whose packets arrive between those of its pictures.

    Args:
        stream: the track.
        spec: how sound is cut.
    """

    def __init__(self, stream: AudioStream, spec: SoundSpec) -> None:
        self.index = stream.index
        self.zero: Callable[[], float | None] = lambda: None
        """Returns the time of the first picture on the container's clock, once it is known."""
        self._decoder = TrackDecoder(stream, spec.channels)
        self._placing = Placing(rate=SAMPLE_RATE, zero_seconds=None)
        self._kept = _Kept(spec, self._placing)
        self._waiting: list[Piece] = []
        self._num_waiting = 0

    def take(self, packet: Packet[AudioStream] | None, elapsed_seconds: float) -> None:
        """Take the next packet; None: the end of the stream.

        Args:
            packet: of the track.
            elapsed_seconds: since the stream was opened; a gap that long is believed.
        """
        for piece in self._decoder.pieces(packet):
            self._waiting.append(piece)
            self._num_waiting += piece[1].shape[1]
        zero = self.zero()
        if zero is None:
            while self._num_waiting > _MOST_WAITING_SECONDS * SAMPLE_RATE:
                self._num_waiting -= self._waiting.pop(0)[1].shape[1]
            return
        self._placing.zero_seconds = zero  # it moves when the clock restarts
        for start, samples in self._waiting:
            self._kept.track.add(*self._placing.place(start, samples, elapsed_seconds))
        self._kept.forget_old()
        self._waiting.clear()
        self._num_waiting = 0
        if packet is None:
            self._kept.finish()

    def is_known(self, end_seconds: float) -> bool:
        """Return whether all sound before a time has arrived, or the stream is over."""
        return self._kept.is_known(end_seconds)

    def patches(self, middles: npt.NDArray[np.float64]) -> Patches:
        """Return the sound around some moments as far as it has arrived."""
        return self._kept.patches(middles)

    def close(self) -> None:
        """Do nothing: the stream belongs to its reader."""


def listen(container: InputContainer, spec: SoundSpec) -> StreamListening | None:
    """Return the listening for an open stream; None: it has no audio track, or not the requested one."""
    try:
        stream = choose_track(container, spec.track)
    except UsageError:
        return None
    return None if stream is None else StreamListening(stream, spec)
