"""Confidences at a temperature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsm_runtime.fusion.calibration import calibration_error, fit_temperature
from tsm_runtime.results import BACKGROUND, FrameScores, Segment
from tsm_runtime.segments.decoding.decode import decode_frames
from tsm_runtime.segments.decoding.settings import Decoding
from tsm_runtime.segments.temperature import at_temperature, segment_at_temperature

FRAMES = FrameScores(
    indices=np.arange(4),
    step_seconds=0.5,
    action=np.array([[0.8, 0.2], [0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32),
)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_logit_is_divided(temperature: float) -> None:
    expected = 1 / (1 + math.exp(-math.log(0.8 / 0.2) / temperature))
    assert at_temperature(np.array([0.8]), temperature)[0] == pytest.approx(expected)


@given(st.lists(st.floats(0, 1, width=32), min_size=2, unique=True), st.floats(0.1, 10))
def test_the_order_is_never_reversed(scores: list[float], temperature: float) -> None:
    given_scores = np.sort(np.array(scores))
    changed = at_temperature(given_scores, temperature)
    assert ((changed >= 0) & (changed <= 1)).all()
    assert (np.diff(changed) >= 0).all()


def test_decoded_segments_have_it() -> None:
    plain = decode_frames(FRAMES, ("walk", BACKGROUND), Decoding())
    warm = decode_frames(FRAMES, ("walk", BACKGROUND), Decoding(temperature=3.0))
    assert warm == [segment_at_temperature(segment, 3.0) for segment in plain]
    assert [segment.score for segment in warm] != [segment.score for segment in plain]
    segment = Segment(label="a", start_seconds=0.0, end_seconds=1.0, score=0.3)
    assert segment_at_temperature(segment, 1.0) is segment


def test_a_temperature_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match="decoding: temperature 0: expected more than 0"):
        Decoding(temperature=0.0)


def test_the_calibration_error_is_the_mean_distance_over_bins() -> None:
    """Two bins: 0.9 where half are hits, four times, and 0.2 where none is, once; 1.0 is in the last bin."""
    score = np.array([0.92, 0.92, 0.96, 1.0, 0.2])
    hit = np.array([True, False, True, False, False])
    assert calibration_error(score, hit) == pytest.approx(4 / 5 * (0.95 - 0.5) + 1 / 5 * 0.2)
    assert calibration_error(np.array([]), np.array([], bool)) == 0.0


def test_a_fitted_temperature_lowers_the_error() -> None:
    rng = np.random.default_rng(0)
    true = rng.uniform(0.05, 0.95, 4000)
    hit = rng.random(4000) < true
    proud = at_temperature(true, 0.4)
    temperature = fit_temperature(proud, hit)
    assert temperature == pytest.approx(2.5, rel=0.15)
    assert calibration_error(at_temperature(proud, temperature), hit) < calibration_error(proud, hit) / 3
