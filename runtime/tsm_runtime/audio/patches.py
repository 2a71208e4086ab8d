"""Sound input of an interval: the log-mel frames around its middle, and whether sound was recorded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from tsm_runtime.audio.mel import LogMel, MelSpec, log_mel
from tsm_runtime.audio.reader import Sound, read_sound

_LEAST_RECORDED = 0.5
"""Share of a patch that must have been recorded for its interval to count as heard."""


class SoundSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the sound of an interval is cut; equal in training and deployment."""

    channels: Literal[1, 2] = 1
    """1: the mean of all channels. 2: that, and by how much the left one is louder than the right one, as the
    difference of their log-mel values."""
    window_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=60)] = 1.0
    """Of sound around the middle of an interval."""
    num_bands: Annotated[int, msgspec.Meta(ge=8, le=256)] = 64
    mel_window_seconds: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.025
    hop_seconds: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.010
    low_hertz: Annotated[float, msgspec.Meta(ge=0)] = 125.0
    high_hertz: Annotated[float, msgspec.Meta(gt=0, le=8000)] = 7500.0
    floor: Annotated[float, msgspec.Meta(gt=0)] = 0.01
    track: str = ""
    """Number of the audio track from 0, or its language; empty: the best one."""

    def __post_init__(self) -> None:
        if self.low_hertz >= self.high_hertz:
            raise ValueError(f"low_hertz {self.low_hertz:g} is not below high_hertz {self.high_hertz:g}")

    @property
    def mel(self) -> MelSpec:
        """How sound becomes log-mel frames."""
        return MelSpec(
            num_bands=self.num_bands,
            window_seconds=self.mel_window_seconds,
            hop_seconds=self.hop_seconds,
            low_hertz=self.low_hertz,
            high_hertz=self.high_hertz,
            floor=self.floor,
        )

    @property
    def num_frames(self) -> int:
        """Log-mel frames of a patch."""
        return max(1, round(self.window_seconds / self.hop_seconds))

    @property
    def patch_shape(self) -> tuple[int, int, int]:
        """Channels, frames and bands of a patch."""
        return self.channels, self.num_frames, self.num_bands


@dataclass(frozen=True, slots=True)
class Patches:
    """Sound of N intervals.

    Args:
        log_mel: (N, C, F, M) float32; where nothing was recorded, log(floor).
        is_heard: (N,) float32: 1 where at least half of the patch was recorded, else 0.
    """

    log_mel: LogMel
    is_heard: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundTrack:
    """Log-mel frames of a whole video, half a megabyte a minute in mono.

    Args:
        frames: (C, J, M) float16.
        recorded: (J,) whether a frame was recorded.
        spec: how they were computed.
    """

    frames: npt.NDArray[np.float16]
    recorded: npt.NDArray[np.bool_]
    spec: SoundSpec

    @classmethod
    def silent(cls, spec: SoundSpec) -> SoundTrack:
        """Return the track of a video without sound."""
        return cls(
            frames=np.zeros((spec.channels, 0, spec.num_bands), np.float16),
            recorded=np.zeros(0, np.bool_),
            spec=spec,
        )

    @classmethod
    def of(cls, sound: Sound, spec: SoundSpec) -> SoundTrack:
        """Compute the frames of a sound, which has as many channels as the spec."""
        mel = spec.mel
        frames = [log_mel(np.ascontiguousarray(sound.samples.mean(axis=0)), mel, sound.rate)]
        if spec.channels == 2:
            left, right = (log_mel(channel, mel, sound.rate) for channel in sound.samples)
            frames.append(left - right)
        recorded = np.zeros(len(frames[0]), np.bool_)
        for begin, end in sound.spans:
            recorded[round(begin / spec.hop_seconds) : round(end / spec.hop_seconds)] = True
        return cls(frames=np.stack(frames).astype(np.float16), recorded=recorded, spec=spec)

    def patches(self, middles: npt.NDArray[np.float64]) -> Patches:
        """Return the sound around some moments.

        Args:
            middles: (N,) seconds of the video.
        """
        spec, count = self.spec, self.frames.shape[1]
        begins = np.round(middles / spec.hop_seconds - spec.num_frames / 2).astype(np.int64)
        places = begins[:, None] + np.arange(spec.num_frames)
        inside = (places >= 0) & (places < count)
        recorded = inside.copy()
        recorded[inside] = self.recorded[places[inside]]
        log_mels = np.zeros((len(middles), *spec.patch_shape), np.float32)
        log_mels[:, 0] = math.log(spec.floor)
        rows, columns = np.nonzero(recorded)
        log_mels[rows, :, columns] = self.frames[:, places[rows, columns]].transpose(1, 0, 2)
        is_heard = recorded.mean(axis=1) >= _LEAST_RECORDED
        return Patches(log_mels, is_heard.astype(np.float32))


def read_track(path: Path, spec: SoundSpec) -> tuple[SoundTrack, tuple[str, ...]]:
    """Read the log-mel frames of a video's sound.

    Returns:
        The track, without frames where the video has no sound or a silent one, and warnings.

    Raises:
        VideoError: the file cannot be opened.
        UsageError: the requested track is not there.
    """
    sound = read_sound(path, channels=spec.channels, track=spec.track)
    if sound is None:
        return SoundTrack.silent(spec), ("no audio track; scored by its pictures alone",)
    if sound.is_silent:
        return SoundTrack.silent(spec), (*sound.warnings, "scored by its pictures alone")
    return SoundTrack.of(sound, spec), sound.warnings
