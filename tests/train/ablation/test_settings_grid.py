"""Scoring once and judging a grid: the same as running each setting, and a choice without the video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import ACTIONS, BrightnessBackend, brightness_member, seg
from media import write_levels

from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import VideoError
from tsm_runtime.evaluation.bootstrap import bootstrap_difference, bootstrap_map
from tsm_runtime.evaluation.matching import match_segments
from tsm_runtime.evaluation.protocol import evaluate
from tsm_runtime.pipeline.run import run
from tsm_runtime.results import IntervalScores
from tsm_runtime.segments.rules import SegmentRules
from tsm_train.ablation.settings_grid import (
    TIOU_THRESHOLDS,
    Setting,
    choose,
    choose_without,
    judge,
    settings_of,
)
from tsm_train.ablation.stored_scores import score_videos

BASE = ClipSpec(interval_seconds=0.5, num_frames=4, size=32)
SPECS = [BASE, replace(BASE, stride_seconds=0.125), replace(BASE, window_seconds=1.0, stride_seconds=0.25)]
TRUTH = {
    "a": [seg("dark", 0.0, 1.1), seg("bright", 1.6, 2.9), seg("dark", 2.9, 3.4)],
    "dir/b": [seg("bright", 0.1, 1.0), seg("dark", 1.2, 2.4)],
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("media")
    return {
        "a": write_levels(folder / "a.mp4", [(20, 1.1), (128, 0.5), (235, 1.3), (20, 0.5), (100, 0.8)]),
        "dir/b": write_levels(folder / "b.mp4", [(235, 1.0), (128, 0.2), (20, 1.2), (128, 0.6)]),
    }


def test_a_judged_setting_finds_what_a_run_with_it_finds(videos: dict[str, Path], tmp_path: Path) -> None:
    member = brightness_member()
    scores = score_videos(member, videos, SPECS, store=tmp_path)
    for setting in settings_of(SPECS, (0.0, 0.6), (0.0, 0.75)):
        judged = judge(setting, scores, ACTIONS, TRUTH)
        whole = replace(member, spec=setting.spec, rules=setting.rules)
        found = {name: list(run(path, whole).segments) for name, path in videos.items()}
        for name, segments in judged.predictions.items():
            assert [(s.label, s.score) for s in segments] == [(s.label, s.score) for s in found[name]]
            np.testing.assert_allclose(
                [(s.start_seconds, s.end_seconds) for s in segments],
                [(s.start_seconds, s.end_seconds) for s in found[name]],
            )
        assert judged.evaluation == evaluate(TRUTH, found, TIOU_THRESHOLDS)


def test_every_video_is_scored_once(
    videos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[str] = []
    member = replace(brightness_member(), backend=BrightnessBackend())
    first = score_videos(member, videos, SPECS[:2], store=tmp_path, progress=scored.append)
    assert scored == ["a", "dir/b"]
    score_videos(member, videos, SPECS[2:], store=tmp_path, progress=scored.append)
    (tmp_path / sorted(path.name for path in tmp_path.iterdir())[0]).write_bytes(b"PK\x03\x04 cut off")
    again = score_videos(member, videos, SPECS, store=tmp_path, progress=scored.append)
    assert scored == ["a", "dir/b", "a", "dir/b", "a"]  # the last for the file that was spoilt
    for spec in SPECS[:2]:
        for name in videos:
            before, after = first[spec][name], again[spec][name]
            np.testing.assert_array_equal(before.action, after.action)
            np.testing.assert_array_equal(before.indices, after.indices)
            assert before.scene is not None
            assert after.scene is not None
            np.testing.assert_array_equal(before.scene, after.scene)


def test_breaks_and_missing_scenes_are_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tsm_train.ablation import stored_scores as scoring

    kept = IntervalScores(
        indices=np.array([1, 2, 5]), action=np.ones((3, 2), np.float32), breaks=frozenset({2, 5})
    )
    monkeypatch.setattr(scoring, "_scored", lambda *_: {BASE: kept})
    score_videos(brightness_member(), {"v": Path("v.mp4")}, [BASE], store=tmp_path)
    monkeypatch.setattr(scoring, "_scored", lambda member, path, specs, size: {} if not specs else None)
    read = score_videos(brightness_member(), {"v": Path("v.mp4")}, [BASE], store=tmp_path)[BASE]["v"]
    assert (read.breaks, read.scene, read.indices.tolist()) == (frozenset({2, 5}), None, [1, 2, 5])


def test_a_video_shorter_than_an_interval_is_reported(tmp_path: Path) -> None:
    path = write_levels(tmp_path / "v.mp4", [(20, 0.4)])
    with pytest.raises(VideoError, match=r"v\.mp4: 0\.400 s long"):
        score_videos(brightness_member(), {"v": path}, [BASE], store=tmp_path / "scores")


# --- the choice -----------------------------------------------------------------------------------


def letters(text: str) -> IntervalScores:
    """d = dark, b = bright, . = background, each with 0.9."""
    action = np.full((len(text), 3), 0.05, np.float32)
    action[np.arange(len(text)), ["db.".index(letter) for letter in text]] = 0.9
    return IntervalScores(indices=np.arange(len(text)), action=action)


def test_the_choice_and_the_choice_without() -> None:
    """In v1 and v2 a flicker has to be smoothed away; in v3 smoothing destroys what is there."""
    scores = {BASE: {"v1": letters("ddbddd.."), "v2": letters("..dddbdd"), "v3": letters("d..b..d.")}}
    truth = {
        "v1": [seg("dark", 0.0, 3.0)],
        "v2": [seg("dark", 1.0, 4.0)],
        "v3": [seg("dark", 0.0, 0.5), seg("bright", 1.5, 2.0), seg("dark", 3.0, 3.5)],
    }
    grid = settings_of([BASE], (0.0, 1.5), (0.0,))
    judged = [judge(setting, scores, ACTIONS, truth) for setting in grid]
    smooth = judged[1]
    expected = max(judged, key=lambda one: one.evaluation.average_map)
    assert choose(judged) is expected
    chosen, matching = choose_without(judged, truth)
    # Without v3 smoothing is the better one; without v1 it is as the other two say.
    assert chosen["v3"] == smooth.setting
    for name in truth:
        others = {key: value for key, value in truth.items() if key != name}
        scored = [
            evaluate(others, {k: one.predictions[k] for k in others}, TIOU_THRESHOLDS).average_map
            for one in judged
        ]
        assert chosen[name] == judged[int(np.argmax(scored))].setting
    predictions = {
        name: next(one for one in judged if one.setting == chosen[name]).predictions[name] for name in truth
    }
    again = match_segments(truth, predictions, TIOU_THRESHOLDS)
    np.testing.assert_array_equal(matching.hits, again.hits)


def test_of_equally_good_settings_the_one_that_does_least() -> None:
    scores = {spec: {"v": letters("dd..")} for spec in (BASE, SPECS[1])}
    truth = {"v": [seg("dark", 5.0, 6.0)]}  # nothing finds it
    grid = [
        Setting(spec=spec, rules=SegmentRules(smoothing_seconds=width))
        for spec in (SPECS[1], BASE)
        for width in (1.5, 0.0)
    ]
    judged = [judge(setting, scores, ACTIONS, truth) for setting in grid]
    assert choose(judged).setting == Setting(spec=BASE, rules=SegmentRules())


# --- the difference over resampled videos ---------------------------------------------------------


def test_a_difference_from_itself_is_zero_and_from_nothing_is_all() -> None:
    truth = {f"v{n}": [seg("dark", 0, 1), seg("bright", 2, 3)] for n in range(6)}
    good = {f"v{n}": [seg("dark", 0, 1, 0.9), seg("bright", 2, 2.7, 0.8)] for n in range(4)}
    found, none = (match_segments(truth, each, TIOU_THRESHOLDS) for each in (good, {}))
    zero = bootstrap_difference(found, found, replicates=50)
    assert (zero.average.low, zero.average.high) == (0.0, 0.0)
    assert bootstrap_difference(found, none, replicates=200) == bootstrap_map(found, replicates=200)
    other = match_segments({"w": truth["v0"], "x": []}, {}, TIOU_THRESHOLDS)
    with pytest.raises(ValueError, match="different videos"):
        bootstrap_difference(found, other)


def test_a_better_model_is_better_although_the_intervals_overlap() -> None:
    """What both find varies from video to video, and that cancels out in the difference."""
    rng = np.random.default_rng(0)
    truth = {f"v{n}": [seg("dark", k, k + 1) for k in range(4)] for n in range(12)}
    worse = {name: [s for s in segments if rng.random() < 0.5] for name, segments in truth.items()}
    better = {
        name: [*worse[name], *[s for s in truth[name] if s not in worse[name]][: int(name[1:]) % 2]]
        for name in truth
    }
    first, second = (match_segments(truth, each, TIOU_THRESHOLDS) for each in (better, worse))
    alone = [bootstrap_map(each, replicates=300).average for each in (first, second)]
    assert alone[0].low < alone[1].high
    assert bootstrap_difference(first, second, replicates=300).average.low > 0
