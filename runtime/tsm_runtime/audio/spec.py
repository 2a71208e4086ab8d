"""How sound is cut and turned into log-mel frames; equal in training and deployment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
Span = tuple[float, float]

SAMPLE_RATE = 16_000
"""Samples per second after resampling, of all tracks."""

STEP_SECONDS = 0.04
"""From one picture of sound to the next, see `audio.pictures`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MelSpec:
    """How sound becomes log-mel frames.

    Args:
        num_bands: of the mel scale.
        window_seconds: length of a Hann window.
        hop_seconds: between the middles of two frames.
        low_hertz: lower edge of the first band.
        high_hertz: upper edge of the last band.
        floor: is added to a magnitude before its logarithm.
    """

    num_bands: int = 64
    window_seconds: float = 0.025
    hop_seconds: float = 0.010
    low_hertz: float = 125.0
    high_hertz: float = 7500.0
    floor: float = 0.01


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

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """Frames, bands and channels of a picture of sound, see `audio.pictures`."""
        return self.num_frames, self.num_bands, self.channels
