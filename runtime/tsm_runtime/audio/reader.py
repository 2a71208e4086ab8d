"""Audio track of a file to samples on the time line of its pictures: time 0 is the first presented frame."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from tsm_runtime.audio.decoding import Piece, TrackDecoder
from tsm_runtime.audio.placing import Placing
from tsm_runtime.audio.spec import SAMPLE_RATE, Samples, Span
from tsm_runtime.audio.track import choose_track, describe_tracks
from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.video.checking import check_file
from tsm_runtime.video.opening import SOUND_FORMATS, open_file, reason_of
from tsm_runtime.video.reader import VideoReader

_SILENT = 1e-4
"""Peak below -80 dBFS."""

SILENT = "sound: silent"
"""The warning about a track whose peak is below -80 dBFS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """Samples of a track.

    Args:
        samples: (C, N) float32 in [-1, 1]; sample n is heard at n / rate seconds after the first presented
            frame. Zeros stand where nothing was recorded.
        rate: samples per second.
        spans: [start, end) in seconds of what was recorded, in order, without overlap; times before the
            first picture are cut off.
        warnings: what is wrong with the track, one line each.
    """

    samples: Samples
    rate: int
    spans: tuple[Span, ...]
    warnings: tuple[str, ...] = ()

    @property
    def duration_seconds(self) -> float:
        """End of the track in seconds."""
        return float(self.samples.shape[1] / self.rate)

    @property
    def is_silent(self) -> bool:
        """Whether the track is silent."""
        return not self.samples.size or is_silent(peak(self.samples))


def peak(samples: Samples) -> float:
    """Return the largest magnitude of some samples."""
    return float(np.abs(samples).max()) if samples.size else 0.0


def is_silent(peak_value: float) -> bool:
    """Return whether a track with this peak is silent."""
    return peak_value < _SILENT


def picture_zero(path: Path) -> float | None:
    """Return the time of the first presented frame on the container's clock; None: there is no picture."""
    try:
        with VideoReader(path) as reader:
            return reader.zero_seconds if next(reader.frames(), None) is not None else None
    except VideoError:
        return None


class TrackReader:
    """Pieces of an audio track of a file, each with its place on the time line of the pictures.

    Args:
        path: a video, or a file that holds sound alone: its first sample is then at time 0.
        channels: of the samples, 1 or 2.
        track: see `choose_track`.
        rate: of the samples.

    Raises:
        VideoError: the file cannot be opened.
        UsageError: the requested track is not there.
    """

    def __init__(self, path: Path, *, channels: int = 1, track: str = "", rate: int = SAMPLE_RATE) -> None:
        self.failure: str | None = None
        """Why the track breaks off; None: it does not."""
        self._container = _open(path)
        try:
            stream = choose_track(self._container, track)
        except UsageError as error:
            self._container.close()
            raise UsageError(f"{path}: {error}") from None
        self.claimed_seconds = (self._container.duration or 0) / av.time_base
        self._several = "" if track else _several_tracks(self._container, stream)
        self.has_track = stream is not None
        """Whether the file has an audio track."""
        self._decoder = None if stream is None else TrackDecoder(stream, channels, rate)
        self.placing = Placing(rate=rate, zero_seconds=picture_zero(path) if self.has_track else None)

    def pieces(self) -> Generator[tuple[int, Samples]]:
        """Yield the index of the first sample of each piece, and its (C, n) samples."""
        for start_seconds, samples in self._decoded():
            yield self.placing.place(start_seconds, samples, self.claimed_seconds)

    @property
    def corrupt_packets(self) -> int:
        """Number of packets so far that did not decode."""
        return 0 if self._decoder is None else self._decoder.num_corrupt

    def choice_warning(self) -> tuple[str, ...]:
        """Return a message where several tracks are there and none was requested."""
        return (self._several,) if self._several else ()

    def warnings(self) -> tuple[str, ...]:
        """Return what is wrong with the track so far, one line each."""
        lines = [*self.choice_warning(), *(() if self._decoder is None else self._decoder.warnings())]
        if self.failure:
            lines.append(f"sound: the track breaks off ({self.failure})")
        return (*lines, *self.placing.gap_warning())

    def close(self) -> None:
        """Close the file; further calls do nothing."""
        self._container.close()

    def __enter__(self) -> TrackReader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _decoded(self) -> Generator[Piece]:
        if self._decoder is None:
            return
        for packet in chain(self._packets(self._decoder), [None]):
            yield from self._decoder.pieces(packet)

    def _packets(self, decoder: TrackDecoder) -> Generator[av.Packet[av.AudioStream]]:
        try:
            for packet in self._container.demux(decoder.stream):
                if packet.size:
                    yield packet
        except av.error.FFmpegError as error:
            self.failure = reason_of(error)


def read_sound(path: Path, *, channels: int = 1, track: str = "", rate: int = SAMPLE_RATE) -> Sound | None:
    """Read an audio track, mixed to one or two channels.

    Args:
        path: a video, or a file that holds sound alone.
        channels: 1: mono; 2: stereo.
        track: see `choose_track`.
        rate: of the samples returned.

    Returns:
        The sound; None where the file has no audio track.

    Raises:
        VideoError: the file cannot be opened.
        UsageError: the requested track is not there.
    """
    with TrackReader(path, channels=channels, track=track, rate=rate) as reader:
        if not reader.has_track:
            return None
        pieces = list(reader.pieces())
        samples = np.zeros((channels, reader.placing.end), np.float32)
        for begin, piece in pieces:
            samples[:, begin : begin + piece.shape[1]] = piece
        silent = (SILENT,) if is_silent(peak(samples)) else ()
        return Sound(
            samples=samples,
            rate=rate,
            spans=tuple(reader.placing.spans),
            warnings=(*reader.warnings(), *silent),
        )


def _several_tracks(container: InputContainer, chosen: av.AudioStream | None) -> str:
    tracks = list(container.streams.audio)
    if chosen is None or len(tracks) < 2:
        return ""
    number = [one.index for one in tracks].index(chosen.index)
    return f"several audio tracks, {describe_tracks(container)}; taken: {number}"


def _open(path: Path) -> InputContainer:
    try:
        check_file(path)
        return open_file(path, formats=SOUND_FORMATS)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"{path}: not a readable video or sound ({reason_of(error)})") from error
