"""Log-mel frames: their times, their frequencies and their scale."""

from __future__ import annotations

import numpy as np
import pytest

from tsm_runtime.audio.mel import log_mel, mel_magnitudes
from tsm_runtime.audio.spec import SAMPLE_RATE, MelSpec

SPEC = MelSpec()


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE).astype(
        np.float32
    )


@pytest.mark.parametrize("hertz", [200.0, 1000.0, 5000.0])
def test_a_tone_is_loudest_in_its_band(hertz: float) -> None:
    def mel(frequency: float) -> float:
        return 2595 * np.log10(1 + frequency / 700)

    expected = (mel(hertz) - mel(125)) / (mel(7500) - mel(125)) * 65 - 1
    frames = mel_magnitudes(tone(hertz), SPEC)
    assert frames.shape == (100, 64)
    assert np.abs(frames[5:-5].argmax(axis=1) - expected).max() < 1


@pytest.mark.parametrize("click_seconds", [0.105, 0.5, 0.905])
def test_a_click_is_in_the_frame_of_its_time(click_seconds: float) -> None:
    samples = np.zeros(SAMPLE_RATE, np.float32)
    samples[round(click_seconds * SAMPLE_RATE)] = 1.0
    loudest = int(mel_magnitudes(samples, SPEC).sum(axis=1).argmax())
    assert abs((loudest + 0.5) * SPEC.hop_seconds - click_seconds) <= 0.5 * SPEC.hop_seconds + 1e-9


def test_silence_is_the_floor_and_scaling_adds_a_constant() -> None:
    assert np.allclose(log_mel(np.zeros(SAMPLE_RATE, np.float32), SPEC), np.log(0.01))
    noise = np.random.default_rng(0).normal(size=SAMPLE_RATE).astype(np.float32)
    louder = log_mel(noise, MelSpec(floor=1e-6)) - log_mel(noise / 2, MelSpec(floor=1e-6))
    assert np.allclose(louder, np.log(2), atol=1e-3)


def test_frames_do_not_depend_on_how_many_there_are() -> None:
    noise = np.random.default_rng(1).normal(size=50 * SAMPLE_RATE).astype(np.float32)
    assert np.allclose(log_mel(noise, SPEC)[4090:4100], log_mel(noise[: 42 * SAMPLE_RATE], SPEC)[4090:4100])
    assert log_mel(noise[:100], SPEC).shape == (0, 64)
