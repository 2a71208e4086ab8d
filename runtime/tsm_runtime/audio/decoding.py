"""Packets of an audio track to samples of one rate, with their times on the container's clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet

from tsm_runtime.audio.spec import SAMPLE_RATE, Samples
from tsm_runtime.wording import counted

JITTER_SECONDS = 0.03
"""Timestamps this far from where the last samples ended are rounding (Matroska's are whole milliseconds)."""

Piece = tuple[float | None, Samples]
"""Second on the container's clock, where it is known, and (C, n) samples."""


@dataclass(slots=True)
class TrackDecoder:
    """Decoder and resampler of one track.

    More than two channels are mixed to stereo by swresample, stereo to mono as the mean of both.

    Args:
        stream: the track, of an open container.
        channels: of the samples returned, 1 or 2.
        rate: of the samples returned.
    """

    stream: AudioStream
    channels: int
    rate: int = SAMPLE_RATE
    num_corrupt: int = 0
    """Packets that did not decode."""
    _resampler: av.AudioResampler = field(init=False)
    _expected: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._resampler = self._new_resampler()

    def pieces(self, packet: Packet[AudioStream] | None) -> Iterator[Piece]:
        """Yield the samples that a packet completes; None: the end of the track."""
        try:
            frames = self.stream.decode(packet)
        except av.error.FFmpegError:
            self.num_corrupt += 1
            frames = []
        for frame in frames:
            yield from self._of_frame(frame)
        if packet is None:
            yield from self._resampled(None, None)

    def warnings(self) -> Iterator[str]:
        """Yield a message about packets that did not decode."""
        if self.num_corrupt:
            yield f"sound: {counted(self.num_corrupt, 'packet')} did not decode"

    def _of_frame(self, frame: AudioFrame) -> Iterator[Piece]:
        start = None if frame.pts is None or not frame.time_base else float(frame.pts * frame.time_base)
        expected = self._expected
        if start is not None and expected is not None and abs(start - expected) > JITTER_SECONDS:
            yield from self._resampled(None, None)  # the samples held back belong before the jump
            self._resampler = self._new_resampler()
        frame.pts = None
        try:
            yield from self._resampled(frame, start)
        except (av.error.FFmpegError, ValueError):  # the format changes in the middle
            self.num_corrupt += 1
            self._resampler = self._new_resampler()
        length = frame.samples / (frame.sample_rate or self.rate)
        self._expected = None if start is None and expected is None else (start or expected or 0.0) + length

    def _new_resampler(self) -> av.AudioResampler:
        layout = "mono" if self.stream.codec_context.channels == 1 else "stereo"
        return av.AudioResampler(format="fltp", layout=layout, rate=self.rate)

    def _resampled(self, frame: AudioFrame | None, start: float | None) -> Iterator[Piece]:
        try:
            frames = self._resampler.resample(frame)
        except ValueError:
            if frame is not None:
                raise
            frames = []  # nothing came in, so nothing is held back
        for number, out in enumerate(frames):
            samples = np.nan_to_num(np.asarray(out.to_ndarray(), np.float32), posinf=1.0, neginf=-1.0)
            mixed = samples.mean(axis=0, keepdims=True) if self.channels == 1 else samples
            mixed = np.broadcast_to(mixed, (self.channels, samples.shape[1]))
            yield start if number == 0 else None, np.clip(mixed, -1.0, 1.0)
