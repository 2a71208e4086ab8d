"""Models that hear, for tests: by the loudness of sound, alone or beside pictures; and sound for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from fakes import BrightnessBackend, member_of
from sounds import RATE

from tsm_runtime.audio.patches import Patches
from tsm_runtime.audio.spec import SoundSpec
from tsm_runtime.backends.base import Scores
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.models.member import Member
from tsm_runtime.models.sound_branch import SoundBranch

SPEC = SoundSpec(window_seconds=0.6)
ALONE = ClipSpec(interval_seconds=0.5, num_frames=4, size=0, sound=SPEC)
SEEN = ClipSpec(interval_seconds=0.5, num_frames=4, size=16)


class FeaturesBackend(BrightnessBackend):
    """Also gives features."""

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        scores = super().infer(frames)
        return scores._replace(features=np.repeat(scores.action[:, None], frames.shape[1], axis=1))


class LoudBranch(SoundBranch):
    """Scores an interval by how loud it is, where it is heard; else as its pictures."""

    def __init__(self) -> None:
        self.spec = SPEC

    def infer(self, features: npt.NDArray[np.float32], patches: Patches) -> Scores:
        share = np.clip((patches.log_mel[:, 0].mean((1, 2)) + 4.6) / 6, 0, 1)
        loud = np.stack([1 - share, share, 0 * share], axis=1).astype(np.float32)
        heard = patches.is_heard[:, None]
        action = heard * loud + (1 - heard) * features
        return Scores(action, np.repeat([[0.5, 0.5]], len(features), axis=0).astype(np.float32))


def sound_member() -> Member:
    """Takes sound alone, and scores it by its loudness."""
    return member_of(ALONE)


def hearing_member() -> Member:
    """Takes pictures, and the sound around them."""
    return replace(member_of(SEEN), backend=FeaturesBackend(), sound=LoudBranch())


def bursts(seconds: float = 8.0, seed: int = 0) -> npt.NDArray[np.float32]:
    """Noise that begins and ends at any time, between silences."""
    rng = np.random.default_rng(seed)
    samples = np.zeros(round(seconds * RATE), np.float32)
    for begin in np.arange(0.3, seconds - 1.5, 1.7):
        begin += rng.uniform(0, 0.4)
        part = samples[round(begin * RATE) : round((begin + rng.uniform(0.5, 1.2)) * RATE)]
        part += (0.5 * rng.normal(size=len(part))).clip(-1, 1).astype(np.float32)
    return samples
