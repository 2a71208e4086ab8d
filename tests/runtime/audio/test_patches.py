"""Sound of intervals: its place, its edges, and whether there is any."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from media import counted, write_video
from sounds import RATE, write_sound

from tsm_runtime.audio.growing import GrowingTrack
from tsm_runtime.audio.patches import SoundTrack
from tsm_runtime.audio.placing import Placing
from tsm_runtime.audio.spec import SoundSpec
from tsm_runtime.audio.whole_track import read_track

SPEC = SoundSpec(window_seconds=1.0)


def track_of(
    samples: np.ndarray, spans: tuple[tuple[float, float], ...] | None = None, piece: int = 1 << 30
) -> SoundTrack:
    """The track of samples that arrive in pieces of `piece` samples at most."""
    placing = Placing(rate=RATE, zero_seconds=0.0)
    track = GrowingTrack(SPEC if len(samples) == 1 else SoundSpec(channels=2), placing)
    for begin, end in spans or ((0.0, samples.shape[1] / RATE),):
        for first in range(round(begin * RATE), round(end * RATE), piece):
            part = samples[:, first : min(first + piece, round(end * RATE))]
            track.add(*placing.place(first / RATE, part))
    track.finish()
    return track.track()


def burst(begin: float, seconds: float = 6.0) -> np.ndarray:
    samples = np.zeros((1, round(seconds * RATE)), np.float32)
    samples[0, round(begin * RATE) : round((begin + 0.02) * RATE)] = 0.5
    return samples


@pytest.mark.parametrize("middle", [2.75, 3.0, 3.25])
def test_a_patch_lies_around_the_middle(middle: float) -> None:
    patches = track_of(burst(3.0)).patches(np.array([middle]))
    assert patches.log_mel.shape == (1, 1, 100, 64)
    loudest = int(patches.log_mel[0, 0].sum(axis=1).argmax())
    assert abs((loudest + 0.5) / 100 - 0.5 - (3.01 - middle)) <= 0.02


def test_edges_are_silence_and_half_a_patch_is_heard() -> None:
    patches = track_of(0.1 * np.ones((1, 2 * RATE), np.float32)).patches(np.array([-0.1, 0.1, 1.9, 2.1, 9.0]))
    assert patches.is_heard.tolist() == [0, 1, 1, 0, 0]
    assert np.allclose(patches.log_mel[4], math.log(0.01))
    assert np.allclose(patches.log_mel[1, 0, :39], math.log(0.01))


def test_what_was_not_recorded_is_not_heard() -> None:
    samples = np.random.default_rng(0).normal(size=(1, 6 * RATE)).astype(np.float32)
    patches = track_of(samples, ((0.0, 2.0), (4.0, 6.0))).patches(np.array([1.0, 3.0, 5.0]))
    assert patches.is_heard.tolist() == [1, 0, 1]


def test_the_second_channel_is_the_difference_of_levels() -> None:
    noise = np.random.default_rng(1).normal(size=2 * RATE).astype(np.float32)
    patches = track_of(np.stack([noise, noise / 4])).patches(np.array([1.0]))
    assert patches.log_mel.shape[1] == 2
    assert np.median(patches.log_mel[0, 1]) == pytest.approx(math.log(4), abs=0.05)


def test_videos_without_sound_say_so(tmp_path: Path) -> None:
    track, warnings = read_track(write_video(tmp_path / "mute.mp4", counted(10)), SPEC)
    assert warnings == ("no audio track; scored by its pictures alone",)
    assert track.patches(np.array([0.2])).is_heard.tolist() == [0]
    silent = write_sound(tmp_path / "silent.mp4", np.zeros(RATE, np.float32))
    track, warnings = read_track(silent, SPEC)
    assert warnings == ("sound: silent", "scored by its pictures alone")
    assert track.patches(np.array([0.2])).is_heard.tolist() == [0]


def test_a_spec_checks_itself() -> None:
    with pytest.raises(ValueError, match="low_hertz 800 is not below high_hertz 500"):
        SoundSpec(low_hertz=800.0, high_hertz=500.0)


def test_pieces_of_any_size_give_the_same_bits() -> None:
    samples = np.random.default_rng(2).normal(size=(2, 3 * RATE + 77)).astype(np.float32)
    spans = ((0.0, 1.0), (1.7, 3.0))
    whole = track_of(samples, spans)
    assert whole.frames.shape == (2, 300, 64)
    for piece in (160, 1024, 20_000):
        parts = track_of(samples, spans, piece)
        assert np.array_equal(parts.frames, whole.frames)
        assert np.array_equal(parts.recorded, whole.recorded)


def test_old_frames_may_go() -> None:
    placing = Placing(rate=RATE, zero_seconds=0.0)
    track = GrowingTrack(SPEC, placing)
    second = np.random.default_rng(3).normal(size=(1, RATE)).astype(np.float32)
    for number in range(200):
        track.add(*placing.place(float(number), second))
        track.forget(100 * number)
    kept = track.track()
    assert kept.frames.base is not None
    assert kept.frames.base.shape[1] <= 2048
    middles = np.array([199.2])
    repeated = track_of(np.tile(second, 10)).patches(np.array([9.2]))
    assert np.array_equal(kept.patches(middles).log_mel, repeated.log_mel)
