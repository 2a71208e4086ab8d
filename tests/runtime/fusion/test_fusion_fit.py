"""Fitting an ensemble: the fast table against the evaluation of files, and the reported gain."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes import seg
from hypothesis import given, settings
from hypothesis import strategies as st

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.bootstrap import map_of_replicates
from tsm_runtime.evaluation.protocol import evaluate
from tsm_runtime.fusion.calibration import (
    calibrate_segments,
    calibrated,
    fit_temperature,
    negative_log_likelihood,
)
from tsm_runtime.fusion.fit import Setting, Trials, fit_ensemble, search
from tsm_runtime.fusion.fit_table import FitTable, gain_over, gather_fit_table, judge, mean_ap
from tsm_runtime.fusion.fuse import fuse_segments
from tsm_runtime.fusion.options import FusionOptions
from tsm_runtime.results import Segment

Videos = dict[str, list[Segment]]

segments = st.builds(
    lambda label, start, length, score: seg(label, start / 4, (start + length) / 4, score / 10),
    st.sampled_from("abc"),
    st.integers(0, 20),
    st.integers(1, 10),
    st.integers(0, 10),
)
videos = st.dictionaries(st.sampled_from("uvwx"), st.lists(segments, max_size=6), max_size=4)
truths = videos.filter(lambda found: any(s.label in "ab" for listed in found.values() for s in listed))


def setting(weights: tuple[float, ...], iou: float = 0.5, min_score: float = 0.0) -> Setting:
    return Setting(weights=weights, iou=iou, min_score=min_score, temperatures=(1.0,) * len(weights))


def judged_by_files(truth: Videos, members: list[Videos], chosen: Setting, **options: Any) -> float:
    """The long way: fuse each video and evaluate; videos that no member has are not judged."""
    there = {v for member in members for v in member}
    how = FusionOptions(iou=chosen.iou, min_score=chosen.min_score, **options)
    fused = {v: fuse_segments([m.get(v) for m in members], chosen.weights, how) for v in there}
    return evaluate({v: s for v, s in truth.items() if v in there}, fused).average_map


@pytest.mark.parametrize("method", ["paper", "wbf", "soft-nms-linear"])
@settings(max_examples=60)
@given(
    truth=truths,
    members=st.lists(videos, min_size=2, max_size=3),
    iou=st.sampled_from([0.0, 0.3, 0.5, 0.8]),
    min_score=st.sampled_from([0.0, 0.15]),
    denominator=st.sampled_from(["all", "present"]),
)
def test_a_trial_is_what_evaluating_the_files_gives(
    method: Any, truth: Videos, members: list[Videos], iou: float, min_score: float, denominator: Any
) -> None:
    try:
        table = gather_fit_table(members, truth)
    except UsageError:
        return
    trials = Trials(table, FusionOptions(method=method, denominator=denominator))
    for weights in ((0.5, 0.3, 0.2), (0.1, 0.2, 0.7), (0.5, 0.3, 0.2)):  # the last comes from the memory
        chosen = setting(weights[: len(members)], iou, min_score)
        expected = judged_by_files(truth, members, chosen, method=method, denominator=denominator)
        assert trials.value(chosen) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60)
@given(truth=truths, member=videos, data=st.data())
def test_a_resample_is_what_evaluating_copies_of_videos_gives(
    truth: Videos, member: Videos, data: st.DataObject
) -> None:
    try:
        gather_fit_table([member], truth)
    except UsageError:
        return
    names = sorted(set(truth) & set(member))
    # Different scores: in a copied set the order of ties would mix the copies.
    ranks = iter(data.draw(st.permutations(range(100))))
    member = {video: [replace(s, score=next(ranks) / 100) for s in member[video]] for video in member}
    table = gather_fit_table([member], truth)
    times = [data.draw(st.integers(0, 2)) for _ in names]
    copies = [(f"{name} {k}", name) for name, count in zip(names, times, strict=True) for k in range(count)]
    true = {copy: truth[name] for copy, name in copies}
    found = {copy: fuse_segments([member[name]], None, FusionOptions(iou=1)) for copy, name in copies}
    judged = judge(table, table.member(0))
    value = map_of_replicates(judged, np.array(times)[:, np.newaxis]).mean()
    expected = evaluate(true, found).average_map if any(true.values()) else 0.0
    assert value == pytest.approx(expected, abs=1e-9)


def drawn(
    rng: np.random.Generator, num_videos: int, noises: tuple[float, ...]
) -> tuple[Videos, list[Videos]]:
    """Videos of ten instances, found by members with as much noise in bounds and labels."""
    truth: Videos = {}
    members: list[Videos] = [{} for _ in noises]
    for number in range(num_videos):
        video = f"video {number}"
        truth[video] = [seg("ab"[k % 2], 10 * k, 10 * k + 5) for k in range(10)]
        for member, noise in zip(members, noises, strict=True):
            member[video] = []
            for true in truth[video]:
                start, end = (
                    np.array([true.start_seconds, true.end_seconds]) + rng.normal(0, noise, 2)
                ).tolist()
                start = max(0.0, start)
                label = true.label if rng.random() > noise / 4 else "c" if rng.random() < 0.5 else "a"
                member[video].append(seg(label, start, max(end, start + 0.1), float(rng.uniform(0.2, 1))))
    return truth, members


@pytest.fixture(scope="module")
def table() -> FitTable:
    truth, members = drawn(np.random.default_rng(5), 12, (0.2, 1.5))
    return gather_fit_table(members, truth)


GRID = {"ious": (0.5, 1.0), "min_scores": (0.0,)}


def test_the_search_prefers_the_better_member_and_never_loses(table: FitTable) -> None:
    options = FusionOptions()
    found, _ = search(table, options, **GRID)  # type: ignore[arg-type]
    trials = Trials(table, options)
    assert found.weights[0] > found.weights[1]
    assert sum(found.weights) == pytest.approx(1, abs=1e-3)
    assert trials.value(found) > trials.value(setting((0.5, 0.5)))
    assert found == search(table, options, **GRID)[0]  # type: ignore[arg-type]


def test_nothing_leaves_its_start_without_a_gain() -> None:
    truth = {v: [seg("a", 0, 1), seg("a", 5, 9)] for v in "uv"}
    same = {v: [seg("a", 0, 1, 0.9), seg("a", 5, 9, 0.8)] for v in "uv"}
    found, _ = search(gather_fit_table([same, same], truth), FusionOptions(iou=0.4, min_score=0.1))
    assert found == setting((0.5, 0.5), 0.4, 0.1)


def test_the_fit_estimates_its_gain(table: FitTable) -> None:
    fit = fit_ensemble(table, FusionOptions(), folds=3, seed=1, **GRID)  # type: ignore[arg-type]
    assert fit == fit_ensemble(table, FusionOptions(), folds=3, seed=1, **GRID)  # type: ignore[arg-type]
    assert (fit.num_videos, fit.num_instances, fit.num_folds) == (12, 120, 3)
    assert fit.member_maps[0] > fit.member_maps[1]
    assert fit.member_maps[0] == pytest.approx(mean_ap(table, table.member(0)))
    assert fit.equal == pytest.approx(Trials(table, FusionOptions()).value(setting((0.5, 0.5))))
    assert fit.in_sample >= fit.equal
    assert fit.cross_validated == pytest.approx(fit.equal + fit.over_equal.value)
    assert fit.cross_validated == pytest.approx(max(fit.member_maps) + fit.over_best.value)
    for gain in (fit.over_best, fit.over_equal):
        assert gain.low <= gain.value <= gain.high


def test_the_interval_is_narrow_for_equal_sides_and_clear_for_unequal_ones(table: FitTable) -> None:
    good, bad = (judge(table, table.member(number)) for number in range(2))
    same = gain_over(good, good, np.random.default_rng(0))
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert not same.is_clear
    assert gain_over(good, bad, np.random.default_rng(0)).low > 0
    assert gain_over(bad, good, np.random.default_rng(0)).high < 0


def test_labels_and_videos_that_the_truth_lacks_are_left_out() -> None:
    truth = {"u": [seg("a", 0, 1)], "unseen": [seg("a", 0, 1), seg("z", 0, 1)]}
    member = {"u": [seg("a", 0, 1, 0.5), seg("b", 0, 1, 0.9)], "other": [seg("a", 0, 1, 0.9)]}
    table = gather_fit_table([member, {}], truth)
    assert (table.num_videos, len(table.truth), len(table.candidates.start)) == (1, 1, 1)
    assert mean_ap(table, table.member(0)) == 1


@pytest.mark.parametrize(
    ("truth", "message"),
    [({"w": [seg("a", 0, 1)]}, "no video of the ground truth"), ({"u": []}, "no instance")],
)
def test_nothing_to_fit_to(truth: Videos, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        gather_fit_table([{"u": [seg("a", 0, 1)]}], truth)


def test_one_video_cannot_be_cross_validated(table: FitTable) -> None:
    only = gather_fit_table([{"u": [seg("a", 0, 1)]}], {"u": [seg("a", 0, 1)]})
    with pytest.raises(UsageError, match="one video only"):
        fit_ensemble(only, FusionOptions())
    with pytest.raises(UsageError, match="folds 1"):
        fit_ensemble(table, FusionOptions(), folds=1)


# --- calibration ----------------------------------------------------------------------------------


def test_a_temperature_acts_on_the_logit() -> None:
    # logit(0.8) = ln 4; half of it is ln 2, whose sigmoid is 2/3; twice is ln 16: 16/17
    score = np.array([0.8, 0.5, math.nan])
    assert calibrated(score, 2.0)[:2].tolist() == [round(2 / 3, 6), 0.5]
    assert calibrated(score, 0.5)[0] == round(16 / 17, 6)
    assert np.isnan(calibrated(score, 2.0)[2])
    assert calibrated(score, 1.0) is score
    assert calibrated(np.array([0.0, 1.0]), 2.0).tolist() == [0.000999, 0.999001]  # sqrt of 1e-6 odds


def test_the_likelihood_by_hand() -> None:
    value = negative_log_likelihood(np.array([0.8, 0.8]), np.array([True, False]), 1.0)
    assert value == pytest.approx(-(math.log(0.8) + math.log(0.2)) / 2)


@pytest.mark.parametrize("share", [0.6, 0.75, 0.9])
def test_the_fitted_temperature_makes_scores_frequencies(share: float) -> None:
    # All scores are 0.8; `share` of them is true: sigmoid(ln 4 / T) = share, so T = ln 4 / logit(share).
    hit = np.arange(100) < 100 * share
    expected = math.log(4) / math.log(share / (1 - share))
    assert fit_temperature(np.full(100, 0.8), hit) == pytest.approx(expected, abs=2e-4)


def test_temperatures_stay_in_their_range() -> None:
    assert fit_temperature(np.full(9, 0.8), np.ones(9, dtype=bool)) == pytest.approx(0.1, abs=1e-3)
    assert fit_temperature(np.full(9, 0.8), np.zeros(9, dtype=bool)) == pytest.approx(10, abs=1e-3)
    assert fit_temperature(np.zeros(0), np.zeros(0, dtype=bool)) == 1


def test_a_score_that_is_no_probability() -> None:
    assert calibrate_segments({"u": [seg("a", 0, 1, 0.8)]}, 2.0)["u"][0].score == round(2 / 3, 6)
    with pytest.raises(UsageError, match=r"video 'u': score 1\.5 is no probability"):
        calibrate_segments({"u": [seg("a", 0, 1, 1.5)]}, 2.0)


def test_calibration_of_the_fit_is_that_of_the_members_own_hits() -> None:
    # Member 1 says 0.8 and is right in 3 of 4, member 2 says 0.8 and is right in 9 of 10.
    truth = {f"v{k}": [seg("a", 0, 1)] for k in range(20)}
    wrong = seg("a", 5, 6, 0.8)
    right = seg("a", 0, 1, 0.8)
    members = [
        {video: [wrong if k % 4 == 0 else right] for k, video in enumerate(truth)},
        {video: [wrong if k % 10 == 0 else right] for k, video in enumerate(truth)},
    ]
    found, calibrated_table = search(
        gather_fit_table(members, truth), FusionOptions(), calibrate=True, **GRID
    )  # type: ignore[arg-type]
    assert found.temperatures == pytest.approx(
        (math.log(4) / math.log(3), math.log(4) / math.log(9)), abs=2e-4
    )
    for column, share in zip(calibrated_table.candidates.confidence.T, (0.75, 0.9), strict=True):
        assert column[~np.isnan(column)] == pytest.approx(share, abs=1e-4)
