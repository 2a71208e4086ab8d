"""The choice of a decoding, and what cross-validation says of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tsm_runtime.results import BACKGROUND, FrameScores, Segment
from tsm_train.head.decoding_fit import candidates, fit_decoding, length_priors

LABELS = ("walk", BACKGROUND)
STEP = 0.1


def segment(start: float, end: float, label: str = "walk") -> Segment:
    return Segment(label=label, start_seconds=start, end_seconds=end)


def scored(truth: list[Segment], seconds: float, *, flicker: bool = False, shift: float = 0.0) -> FrameScores:
    """Frame scores of a nearly faultless head, whose distances know the bounds exactly."""
    count = round(seconds / STEP)
    action = np.tile(np.array([[0.1, 0.9]], np.float32), (count, 1))
    distances = np.full((count, 2), 0.3, np.float32)
    for k in range(count):
        middle = (k + 0.5) * STEP
        for s in truth:
            if s.start_seconds <= middle < s.end_seconds:
                distances[k] = middle - s.start_seconds, s.end_seconds - middle
                bad = flicker and k % 4 == 0
                action[k] = (0.4, 0.6) if bad else (0.9, 0.1)
    return FrameScores(
        indices=np.arange(count, dtype=np.int64),
        step_seconds=STEP,
        action=action,
        actionness=action[:, 0],
        distances=distances,
    )


def test_flicker_makes_a_method_that_bridges_it_win() -> None:
    truth = {f"v{i}": [segment(1.0 + i * 0.1, 3.0), segment(4.0, 5.5)] for i in range(4)}
    frames = {video: scored(segments, 6.0, flicker=True) for video, segments in truth.items()}
    fitted = fit_decoding(frames, truth, LABELS, length_priors(s for v in truth.values() for s in v))
    assert fitted.metrics["merge_map"] < 0.5
    assert fitted.metrics["fitted_map"] == pytest.approx(1.0)
    assert fitted.metrics["cv_map"] == pytest.approx(1.0)
    assert fitted.metrics["cv_gain_low"] > 0
    assert fitted.metrics["cv_map_0.95"] == pytest.approx(1.0)


def test_scores_are_calibrated_by_the_share_of_hits() -> None:
    """Of equally sure segments about half are right; what the other videos say brings the error down."""
    truth = {f"v{i}": [segment(1.0, 2.0)] for i in range(6)}
    seen = [segment(1.0, 2.0), segment(3.0, 4.0)]
    frames = {video: scored(seen, 5.0) for video in truth}
    fitted = fit_decoding(frames, truth, LABELS, ())
    assert fitted.decoding.temperature > 2
    assert fitted.metrics["cv_calibration_error_before"] == pytest.approx(0.4, abs=0.05)
    assert fitted.metrics["cv_calibration_error"] < 0.1


def test_bounds_off_the_grid_choose_refinement() -> None:
    truth = {f"v{i}": [segment(1.03, 1.78), segment(4.06, 4.64)] for i in range(3)}
    frames = {video: scored(segments, 6.0) for video, segments in truth.items()}
    fitted = fit_decoding(frames, truth, LABELS, ())
    assert fitted.decoding.refine_seconds > 0 or fitted.decoding.method == "proposals"
    assert fitted.metrics["fitted_map"] > fitted.metrics["merge_map"]


def test_where_all_are_equal_the_plain_merge_is_kept_and_one_video_has_no_cross_validation() -> None:
    truth = {"v": [segment(1.0, 2.0)]}
    fitted = fit_decoding({"v": scored(truth["v"], 3.0)}, truth, LABELS, ())
    assert (fitted.decoding.method, fitted.decoding.refine_seconds) == ("merge", 0.0)
    assert set(fitted.metrics) == {"merge_map", "fitted_map"}


def test_cross_validation_does_not_see_the_held_out_fold() -> None:
    """A setting that is luckily right on one video alone does not count for that video."""
    truth = {f"v{i}": [segment(1.0, 3.0)] for i in range(3)}
    frames = {video: scored(segments, 4.0) for video, segments in truth.items()}
    fitted = fit_decoding(frames, truth, LABELS, ())
    assert fitted.metrics["cv_map"] <= fitted.metrics["fitted_map"]


def test_length_priors_lean_on_all_actions_where_there_are_few() -> None:
    segments = [segment(0, 2.0, "long")] * 20 + [segment(0, 0.5, "short")]
    priors = {prior.label: prior for prior in length_priors(segments)}
    assert math.exp(priors["long"].mean_log) == pytest.approx(2.0, rel=0.05)
    assert 0.5 < math.exp(priors["short"].mean_log) < 2.0
    assert priors["long"].std_log >= 0.2
    assert length_priors([]) == ()


def test_without_distances_nothing_is_refined() -> None:
    assert all(c.refine_seconds == 0 and c.method != "proposals" for c in candidates((), distances=False))
