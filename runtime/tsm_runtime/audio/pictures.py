"""Sound as pictures: what a model of sound alone gets in place of the frames of a video.

A picture is the log-mel frames around a moment, (F, M, C) uint8: F frames in time, M bands, C channels.
Level 0 is silence, log(floor), or not recorded; 24 levels are one unit of the natural logarithm (0.36 dB a
level). A second channel, the difference of left and right, has level 128 where both are equally loud, and 12
levels a unit. Time is cut into steps of 40 ms, like a video of 25 frames per second: picture k shows the
sound around the middle of step k, and steps that were not recorded have none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.audio.growing import GrowingTrack
from tsm_runtime.audio.patches import SoundTrack, first_frames
from tsm_runtime.audio.spec import STEP_SECONDS, SoundSpec

LEVELS_PER_NAT = 24.0
"""Levels of a picture for one unit of the natural logarithm."""

MIDDLE_LEVEL = 128.0
"""Level of a second channel where left and right are equally loud."""

DIFFERENCE_LEVELS_PER_NAT = 12.0
"""Levels of a second channel for one unit of the natural logarithm."""

Picture = npt.NDArray[np.uint8]


def as_picture(log_mel: npt.NDArray[np.float32], spec: SoundSpec) -> Picture:
    """Return the (F, M, C) uint8 picture of (C, F, M) log-mel frames."""
    levels = np.empty_like(log_mel)
    levels[0] = (log_mel[0] - math.log(spec.floor)) * LEVELS_PER_NAT
    levels[1:] = MIDDLE_LEVEL + log_mel[1:] * DIFFERENCE_LEVELS_PER_NAT
    return np.ascontiguousarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8).transpose(1, 2, 0))


@dataclass(frozen=True, slots=True)
class SoundPicture:
    """A picture of a step.

    Args:
        number: of the step.
        pixels: (F, M, C) uint8.
        duration_seconds: length of the step; the last one of a track may be shorter.
    """

    number: int
    pixels: Picture
    duration_seconds: float

    @property
    def start_seconds(self) -> float:
        """Begin of the step."""
        return self.number * STEP_SECONDS


class PictureMaker:
    """Makes the pictures of a track that grows; each is made once, in order.

    Args:
        track: which may forget what no later picture needs.
    """

    def __init__(self, track: GrowingTrack) -> None:
        self._track = track
        self._next = 0

    def known(self, *, is_end: bool = False) -> Iterator[SoundPicture]:
        """Yield the further pictures that are known.

        Args:
            is_end: nothing follows: silence takes its place.
        """
        spec, track = self._track.spec, self._track.track()
        per_step = STEP_SECONDS / spec.hop_seconds
        while True:
            begin, end = round(self._next * per_step), round((self._next + 1) * per_step)
            middle = np.array([(self._next + 0.5) * STEP_SECONDS])
            last = int(first_frames(middle, spec)[0]) + spec.num_frames
            if is_end:
                end = min(end, self._track.end_frame)
            is_over = end <= begin if is_end else max(last, end) > self._track.known_frames
            if is_over:
                break
            if _is_recorded(track, begin, end):
                pixels = as_picture(track.patches(middle).log_mel[0], spec)
                seconds = min(STEP_SECONDS, end * spec.hop_seconds - self._next * STEP_SECONDS)
                yield SoundPicture(self._next, pixels, seconds)
            self._next += 1
            self._track.forget(int(first_frames(middle, spec)[0]))


def _is_recorded(track: SoundTrack, begin: int, end: int) -> bool:
    part = track.recorded[max(0, begin - track.first) : max(0, end - track.first)]
    return bool(part.size) and float(part.mean()) >= 0.5
