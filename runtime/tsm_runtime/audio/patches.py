"""Sound input of an interval: the log-mel frames around its middle, and whether sound was recorded."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.audio.mel import LogMel
from tsm_runtime.audio.spec import SoundSpec

_LEAST_RECORDED = 0.5
"""Share of a patch that must have been recorded for its interval to count as heard."""


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
    """Log-mel frames of a video, or of the last part of a stream; half a megabyte a minute in mono.

    Args:
        frames: (C, J, M) float16.
        recorded: (J,) whether a frame was recorded.
        spec: how they were computed.
        first: number of the first of them.
    """

    frames: npt.NDArray[np.float16]
    recorded: npt.NDArray[np.bool_]
    spec: SoundSpec
    first: int = 0

    @classmethod
    def silent(cls, spec: SoundSpec) -> SoundTrack:
        """Return the track of a video without sound."""
        return cls(
            frames=np.zeros((spec.channels, 0, spec.num_bands), np.float16),
            recorded=np.zeros(0, np.bool_),
            spec=spec,
        )

    def patches(self, middles: npt.NDArray[np.float64]) -> Patches:
        """Return the sound around some moments.

        Args:
            middles: (N,) seconds of the video.
        """
        spec, count = self.spec, self.frames.shape[1]
        places = first_frames(middles, spec)[:, None] - self.first + np.arange(spec.num_frames)
        inside = (places >= 0) & (places < count)
        recorded = inside.copy()
        recorded[inside] = self.recorded[places[inside]]
        log_mels = np.zeros((len(middles), *spec.patch_shape), np.float32)
        log_mels[:, 0] = math.log(spec.floor)
        rows, columns = np.nonzero(recorded)
        log_mels[rows, :, columns] = self.frames[:, places[rows, columns]].transpose(1, 0, 2)
        is_heard = recorded.mean(axis=1) >= _LEAST_RECORDED
        return Patches(log_mels, is_heard.astype(np.float32))


def first_frames(middles: npt.NDArray[np.float64], spec: SoundSpec) -> npt.NDArray[np.int64]:
    """Return the number of the first frame of the patch around each moment, in seconds."""
    return np.round(middles / spec.hop_seconds - spec.num_frames / 2).astype(np.int64)
