"""Two figures in one picture and very short actions; and what is drawn without them stays what it was."""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.formats.ground_truth import read_ground_truth
from tsm_runtime.results import Segment
from tsm_train.synthetic.dataset import draw_dataset
from tsm_train.synthetic.figure import random_body
from tsm_train.synthetic.places import SCENES
from tsm_train.synthetic.plan import (
    ACTION_FRAMES,
    IDLE_FRAMES,
    REVERSED_FRAMES,
    SHORT_FRAMES,
    Step,
    random_plan,
    true_segments,
)
from tsm_train.synthetic.poses import ACTIONS, pose_at, rest_pose
from tsm_train.synthetic.settings import State, random_manner, random_setting
from tsm_train.synthetic.video import draw_frames, draw_video

DEMO_SEED = 20_000  # of benchmarks/make_demo.py


def steps(*spans: tuple[str | None, int, int]) -> list[Step]:
    state, manner = State(seated=False, holding=False), random_manner(np.random.default_rng(0))
    return [Step(action=a, start=i, stop=j, before=state, manner=manner) for a, i, j in spans]


def as_frames(segments: list[Segment]) -> list[tuple[str, int, int]]:
    return [(s.label, round(s.start_seconds * 25), round(s.end_seconds * 25)) for s in segments]


def seconds_of_overlap(segments: list[Segment]) -> float:
    return sum(
        max(0.0, min(a.end_seconds, b.end_seconds) - max(a.start_seconds, b.start_seconds))
        for a, b in itertools.combinations(segments, 2)
    )


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([("waving", 2, 9)], [("kicking", 4, 6)], [("waving", 2, 9), ("kicking", 4, 6)]),
        ([("waving", 2, 9)], [("waving", 4, 12)], [("waving", 2, 12)]),
        ([("waving", 2, 9)], [("waving", 4, 6)], [("waving", 2, 9)]),
        ([("waving", 2, 9)], [("waving", 9, 12)], [("waving", 2, 12)]),
        ([("waving", 2, 9)], [("waving", 10, 12)], [("waving", 2, 9), ("waving", 10, 12)]),
        ([("waving", 2, 5), ("waving", 8, 12)], [("waving", 4, 9)], [("waving", 2, 12)]),
        ([("waving", 3, 7)], [("kicking", 3, 7)], [("kicking", 3, 7), ("waving", 3, 7)]),
        ([(None, 0, 25)], [(None, 0, 25)], []),
    ],
)
def test_the_truth_of_two_plans(
    first: list[tuple[str | None, int, int]],
    second: list[tuple[str | None, int, int]],
    expected: list[tuple[str, int, int]],
) -> None:
    assert as_frames(true_segments([steps(*first), steps(*second)])) == expected
    assert as_frames(true_segments([steps(*second), steps(*first)])) == expected


def test_truth_covers_exactly_the_frames_in_which_a_figure_acts() -> None:
    for seed in range(30):
        rngs = [np.random.default_rng([seed, number]) for number in range(2)]
        plans = [random_plan(rng, 500, short=0.5) for rng in rngs]
        acted = {(s.action, f) for plan in plans for s in plan if s.action for f in range(s.start, s.stop)}
        found = as_frames(true_segments(plans))
        assert {(label, f) for label, start, stop in found for f in range(start, stop)} == acted
        for label in ACTIONS:  # segments of a label neither overlap nor touch
            mine = sorted((start, stop) for name, start, stop in found if name == label)
            assert all(a[1] < b[0] for a, b in itertools.pairwise(mine))


def test_a_share_of_the_actions_is_short() -> None:
    plans = [random_plan(np.random.default_rng(seed), 750, short=0.4) for seed in range(200)]
    acts = [step for plan in plans for step in plan if step.action]
    lengths = np.array([step.stop - step.start for step in acts])
    short = lengths <= SHORT_FRAMES[1]
    assert lengths.min() == SHORT_FRAMES[0]
    assert lengths[~short].min() >= min(REVERSED_FRAMES[0], ACTION_FRAMES[0])
    assert short.mean() == pytest.approx(0.4, abs=0.03)
    names = [
        {s.action for s, is_short in zip(acts, short, strict=True) if is_short is which}
        for which in (np.True_, np.False_)
    ]
    assert names == [set(ACTIONS), set(ACTIONS)]
    idle = [step.stop - step.start for plan in plans for step in plan[:-1] if step.action is None]
    assert (min(idle), max(idle)) == IDLE_FRAMES


@pytest.mark.parametrize("action", ["waving", "clapping"])
def test_a_short_action_reaches_as_far_as_a_long_one(action: str) -> None:
    """In the middle of 0.2 s the arms are where they are in the middle of 3 s, not on their way there."""
    rng = np.random.default_rng(1)
    setting, state = random_setting(rng, random_body(rng)), State(seated=False, holding=False)
    manner, rest = random_manner(rng), rest_pose(setting, state)
    reach = [
        max(
            float(np.abs(pose - rest).max())
            for progress in np.linspace(0.4, 0.6, 21)
            for pose in [pose_at(action, progress, seconds=s, setting=setting, before=state, manner=manner)]
        )
        for s in (0.2, 3.0)
    ]
    assert reach[0] == pytest.approx(reach[1], rel=0.2)


def test_two_figures_act_at_the_same_time_and_alone(tmp_path: Path) -> None:
    truths = [
        draw_video(
            tmp_path / "v.mp4", seed=seed, seconds=30.0, width=32, height=32, figures=2, short=0.4
        ).segments
        for seed in range(4)
    ]
    for segments in truths:
        assert seconds_of_overlap(segments) > 0
        assert segments == sorted(segments, key=lambda s: (s.start_seconds, s.end_seconds, s.label))
        assert all(0 < s.start_seconds < s.end_seconds < 30.0 for s in segments)
        frames = np.array([[s.start_seconds * 25, s.end_seconds * 25] for s in segments])
        np.testing.assert_allclose(frames, np.round(frames), atol=1e-9)
    lengths = np.array([s.end_seconds - s.start_seconds for segments in truths for s in segments])
    assert 0.2 < np.mean(lengths < 0.41) < 0.6
    alone = [s for segments in truths for s in segments if seconds_of_overlap_with(s, segments) == 0]
    assert 0.2 < len(alone) / len(lengths) < 0.8


def seconds_of_overlap_with(one: Segment, segments: list[Segment]) -> float:
    return sum(seconds_of_overlap([one, other]) for other in segments if other is not one)


def test_each_figure_has_a_plan_and_a_half_of_the_picture() -> None:
    from tsm_train.synthetic import video

    production = video._produce(8, 400, 96, 96, "room", 2, 0.0)
    left, right = sorted(production.actors, key=lambda actor: actor.view.x)
    assert left.view.x < production.stage.width / 2 < right.view.x
    assert left.plan != right.plan
    for near, far in itertools.pairwise(production.actors):
        assert near.view.y <= far.view.y
    steps_by_frame = list(zip(*(video._step_of_each_frame(a.plan) for a in production.actors), strict=True))
    assert len(steps_by_frame) == 400
    for frame, pair in enumerate(steps_by_frame):
        assert all(step.start <= frame < step.stop for step in pair)


def pixels(frames: Iterator[npt.NDArray[np.uint8]]) -> str:
    return hashlib.sha256(b"".join(frame.tobytes() for frame in frames)).hexdigest()


def test_same_seed_same_frames() -> None:
    def drawn(**options: Any) -> str:
        return pixels(draw_frames(seed=5, seconds=1.0, width=48, height=48, **options))

    assert drawn(figures=2, short=0.4) == drawn(figures=2, short=0.4)
    assert drawn(figures=1, short=0.0) == drawn()
    assert drawn(figures=2) != drawn()


def in_blocks(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Means of 8x8 pixels, which leave out the noise that the codec does not keep."""
    height, width, _ = frame.shape
    return np.asarray(frame.reshape(height // 8, 8, width // 8, 8, 3).mean(axis=(1, 3)))


def test_the_default_still_draws_the_demo_video() -> None:
    """Whose truth and frames were stored before there was a second figure."""
    (stored,) = read_ground_truth(demo_folder() / "ground_truth.json").videos
    assert stored.duration_seconds == 30.0
    plan = random_plan(np.random.default_rng([DEMO_SEED, 0]), 750)
    assert true_segments([plan]) == list(stored.segments)
    drawn = draw_frames(seed=DEMO_SEED, seconds=30.0, width=144, height=144)
    with av.open(str(demo_folder() / "video.mp4")) as container:
        for ours, frame in zip(itertools.islice(drawn, 100), container.decode(video=0), strict=False):
            difference = in_blocks(ours) - in_blocks(frame.to_ndarray(format="rgb24"))
            assert np.abs(difference).max() < 25  # 11 by compression; 97 if it were a frame too late


def test_a_dataset_with_a_third_subset(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "seed": 9,
        "seconds": 4.0,
        "width": 32,
        "height": 32,
        "figures": 2,
        "short": 0.5,
    }
    seen: list[int] = []
    path = draw_dataset(
        tmp_path / "a", training=1, validation=1, test=2, processes=1, on_video=seen.append, **options
    )
    database = json.loads(path.read_text())["database"]
    assert [entry["subset"] for entry in database.values()] == ["training", "validation", "test", "test"]
    assert seen == [1, 2, 3, 4]
    truth = read_ground_truth(path)
    assert [len(truth.subset(name).videos) for name in ("training", "validation", "test")] == [1, 1, 2]
    assert {video.scene for video in truth.videos} <= set(SCENES)
    again = draw_dataset(tmp_path / "b", training=1, validation=0, test=1, processes=1, **options)
    kept = ("training_0000", "test_0000")
    assert json.loads(again.read_text())["database"] == {name: database[name] for name in kept}
    for name in kept:
        files = [folder.parent / "videos" / f"{name}.mp4" for folder in (path, again)]
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"figures": 3}, "expected 1 to 2 figures, got 3"),
        ({"figures": 0}, "expected 1 to 2 figures, got 0"),
        ({"short": 1.5}, "share of short actions must be from 0 to 1, got 1.5"),
        ({"test": -1}, "got 1 training, 0 validation and -1 test"),
    ],
)
def test_options_out_of_range_leave_nothing_behind(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        draw_dataset(tmp_path / "a", seed=0, training=1, validation=0, **options)
    assert not (tmp_path / "a").exists()


def test_the_command_draws_two_figures(tmp_path: Path) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tsm_train.synthetic", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    folder = tmp_path / "drawn"
    counts = ("--training", 1, "--validation", 0, "--test", 1, "--seconds", 4, "--seed", 9, "--size", "32x32")
    done = run(folder, *counts, "--figures", 2, "--short", 0.5, "--processes", 1)
    assert done.returncode == 0, done.stderr
    alone = draw_dataset(
        tmp_path / "alone",
        **{"seed": 9, "training": 1, "validation": 0, "test": 1, "seconds": 4.0, "processes": 1},
        **{"width": 32, "height": 32, "figures": 2, "short": 0.5},
    )
    assert (folder / "ground_truth.json").read_bytes() == alone.read_bytes()
    for wrong in (("--figures", 3), ("--short", 2)):
        refused = run(tmp_path / "no", *wrong)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert wrong[0] in refused.stderr
