"""Audio track of a file to samples on the time line of its pictures: time 0 is the first presented frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from tsm_runtime.audio.track import choose_track, describe_tracks
from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.video.opening import SOUND_FORMATS, open_file
from tsm_runtime.video.reader import VideoReader, check_file, reason_of
from tsm_runtime.wording import counted

Samples = npt.NDArray[np.float32]
Span = tuple[float, float]

SAMPLE_RATE = 16_000
"""Samples per second after resampling, of all tracks."""

_JITTER_SECONDS = 0.03
"""Timestamps this far from where the last samples ended are rounding (Matroska's are whole milliseconds)."""

_LONGEST_GAP_SECONDS = 60.0
"""A longer step in the timestamps counts as a gap only where the container is long enough for it."""

_SILENT = 1e-4
"""Peak below -80 dBFS."""


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
        return not self.samples.size or float(np.abs(self.samples).max()) < _SILENT


def picture_zero(path: Path) -> float | None:
    """Return the time of the first presented frame on the container's clock; None: there is no picture."""
    try:
        with VideoReader(path) as reader:
            return reader.zero_seconds if next(reader.frames(), None) is not None else None
    except VideoError:
        return None


def read_sound(path: Path, *, channels: int = 1, track: str = "", rate: int = SAMPLE_RATE) -> Sound | None:
    """Read an audio track, mixed to one or two channels.

    Args:
        path: a video, or a file that holds sound alone: its first sample is then at time 0.
        channels: 1: mono; 2: stereo.
        track: see `choose_track`.
        rate: of the samples returned.

    Returns:
        The sound; None where the file has no audio track.

    Raises:
        VideoError: the file cannot be opened.
        UsageError: the requested track is not there.
    """
    with _open(path) as container:
        try:
            stream = choose_track(container, track)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
        if stream is None:
            return None
        warnings = []
        if not track and len(container.streams.audio) > 1:
            number = [one.index for one in container.streams.audio].index(stream.index)
            warnings.append(f"several audio tracks, {describe_tracks(container)}; taken: {number}")
        decoding = _Decoding(container, stream, rate, channels)
        placing = _Placing(rate=rate, channels=channels, zero_seconds=picture_zero(path))
        claimed = (container.duration or 0) / av.time_base
        for start_seconds, samples in decoding.pieces():
            placing.add(start_seconds, samples, claimed)
        return placing.sound([*warnings, *decoding.warnings()])


def _open(path: Path) -> InputContainer:
    try:
        check_file(path)
        return open_file(path, formats=SOUND_FORMATS)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"{path}: not a readable video or sound ({reason_of(error)})") from error


@dataclass(slots=True)
class _Decoding:
    """Decoder and resampler of one track.

    More than two channels are mixed to stereo by swresample, stereo to mono as the mean of both.
    """

    container: InputContainer
    stream: AudioStream
    rate: int
    channels: int
    num_corrupt: int = 0
    failure: str = ""

    def pieces(self) -> Iterator[tuple[float | None, Samples]]:
        """Yield resampled (C, n) pieces, each with its time on the container's clock where it has one."""
        resampler, expected = self._resampler(), None
        for frame in self._frames():
            start = None if frame.pts is None or not frame.time_base else float(frame.pts * frame.time_base)
            jumps = None not in (start, expected) and abs(start - expected) > _JITTER_SECONDS  # type: ignore[operator]
            if jumps:  # the samples held back belong before the jump
                yield from self._resampled(resampler, None, None)
                resampler = self._resampler()
            frame.pts = None
            try:
                yield from self._resampled(resampler, frame, start)
            except (av.error.FFmpegError, ValueError):  # the format changes in the middle
                self.num_corrupt += 1
                resampler = self._resampler()
            length = frame.samples / (frame.sample_rate or self.rate)
            expected = None if start is None and expected is None else (start or expected or 0.0) + length
        yield from self._resampled(resampler, None, None)

    def _resampler(self) -> av.AudioResampler:
        layout = "mono" if self.stream.codec_context.channels == 1 else "stereo"
        return av.AudioResampler(format="fltp", layout=layout, rate=self.rate)

    def _resampled(
        self, resampler: av.AudioResampler, frame: AudioFrame | None, start: float | None
    ) -> Iterator[tuple[float | None, Samples]]:
        try:
            frames = resampler.resample(frame)
        except ValueError:
            if frame is not None:
                raise
            frames = []  # nothing came in, so nothing is held back
        for number, out in enumerate(frames):
            samples = np.nan_to_num(np.asarray(out.to_ndarray(), np.float32), posinf=1.0, neginf=-1.0)
            mixed = samples.mean(axis=0, keepdims=True) if self.channels == 1 else samples
            mixed = np.broadcast_to(mixed, (self.channels, samples.shape[1]))
            yield start if number == 0 else None, np.clip(mixed, -1.0, 1.0)

    def _frames(self) -> Iterator[AudioFrame]:
        for packet in chain(self._packets(), [None]):
            try:
                yield from self.stream.decode(packet)
            except av.error.FFmpegError:
                self.num_corrupt += 1

    def _packets(self) -> Iterator[av.Packet[AudioStream]]:
        try:
            for packet in self.container.demux(self.stream):
                if packet.size:
                    yield packet
        except av.error.FFmpegError as error:
            self.failure = reason_of(error)

    def warnings(self) -> Iterator[str]:
        """Yield messages about parts that did not decode."""
        if self.num_corrupt:
            yield f"sound: {counted(self.num_corrupt, 'packet')} did not decode"
        if self.failure:
            yield f"sound: the track breaks off ({self.failure})"


@dataclass(slots=True, kw_only=True)
class _Placing:
    """Puts pieces at their times.

    Args:
        rate: samples per second.
        channels: of the pieces.
        zero_seconds: of the first picture on the container's clock; None: the first piece is the zero.
    """

    rate: int
    channels: int
    zero_seconds: float | None
    _placed: list[tuple[int, Samples]] = field(default_factory=list)
    _end: int | None = None  # index after the last sample placed

    def add(self, start_seconds: float | None, samples: Samples, claimed_seconds: float) -> None:
        """Place a piece; one without a time, or with an impossible one, follows the last."""
        if self.zero_seconds is None and start_seconds is not None:
            self.zero_seconds = start_seconds
        begin = self._end or 0
        if start_seconds is not None:
            stated = round((start_seconds - (self.zero_seconds or 0.0)) * self.rate)
            if self._end is None or self._is_believable(stated - begin, stated, claimed_seconds):
                begin = stated
        self._placed.append((begin, samples))
        self._end = begin + samples.shape[1]

    def _is_believable(self, step: int, stated: int, claimed_seconds: float) -> bool:
        """Whether a step in the timestamps is a gap: a small one is rounding, one back a restarted clock."""
        if step <= _JITTER_SECONDS * self.rate:
            return False
        return step <= _LONGEST_GAP_SECONDS * self.rate or stated <= (claimed_seconds + 1.0) * self.rate

    def sound(self, warnings: list[str]) -> Sound:
        """Join the pieces."""
        end = max((begin + piece.shape[1] for begin, piece in self._placed), default=0)
        samples = np.zeros((self.channels, max(end, 0)), np.float32)
        spans: list[Span] = []
        for begin, piece in self._placed:
            kept = piece[:, max(0, -begin) :]
            begin = max(begin, 0)
            samples[:, begin : begin + kept.shape[1]] = kept
            span = (begin / self.rate, (begin + kept.shape[1]) / self.rate)
            if spans and span[0] - spans[-1][1] <= _JITTER_SECONDS:
                spans[-1] = (spans[-1][0], max(span[1], spans[-1][1]))
            elif span[1] > span[0]:
                spans.append(span)
        gaps = [(a[1], b[0]) for a, b in pairwise(spans)]
        if gaps:
            warnings.append(
                f"sound: nothing was recorded in {counted(len(gaps), 'gap')}, the first {_span(gaps[0])}"
            )
        sound = Sound(samples=samples, rate=self.rate, spans=tuple(spans), warnings=tuple(warnings))
        if sound.is_silent:
            return Sound(
                samples=samples, rate=self.rate, spans=sound.spans, warnings=(*warnings, "sound: silent")
            )
        return sound


def _span(span: Span) -> str:
    return f"{span[0]:.2f} to {span[1]:.2f} s"
