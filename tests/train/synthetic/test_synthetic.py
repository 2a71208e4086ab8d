from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tsm_train.synthetic.dataset import draw_dataset
from tsm_train.synthetic.figure import joints_of, random_body
from tsm_train.synthetic.places import SCENES
from tsm_train.synthetic.plan import (
    ACTION_FRAMES,
    IDLE_FRAMES,
    REVERSED_FRAMES,
    Step,
    allowed_actions,
    random_plan,
    state_after,
)
from tsm_train.synthetic.poses import (
    ACTIONS,
    GRASP,
    REVERSED_PAIRS,
    holding_at,
    pose_at,
    rest_pose,
    thing_place,
)
from tsm_train.synthetic.settings import BodySetting, State, random_manner, random_setting
from tsm_train.synthetic.video import draw_frames, draw_video

SMALL: dict[str, Any] = {"width": 64, "height": 48}
STATES = [State(seated=seated, holding=holding) for seated in (False, True) for holding in (False, True)]
MOMENTS = [(frame + 0.5) / 40 for frame in range(40)]


def plans(count: int, frames: int = 750) -> list[list[Step]]:
    return [random_plan(np.random.default_rng(seed), frames) for seed in range(count)]


def settings(count: int) -> list[tuple[BodySetting, np.random.Generator]]:
    rngs = [np.random.default_rng(seed) for seed in range(count)]
    return [(random_setting(rng, random_body(rng)), rng) for rng in rngs]


def digest(path: Path) -> str:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24").tobytes() for frame in container.decode(video=0)]
    return hashlib.sha256(b"".join(frames)).hexdigest()


def states_of(action: str) -> list[State]:
    return [state for state in STATES if action in allowed_actions(state)]


@pytest.mark.parametrize(("forward", "backward"), REVERSED_PAIRS)
def test_pairs_are_exact_reversals_of_each_other(forward: str, backward: str) -> None:
    for setting, rng in settings(10):
        manner = random_manner(rng)
        for before in states_of(forward):
            after = state_after(forward, before)
            assert state_after(backward, after) == before
            for progress in MOMENTS:
                mirrored = 1.0 - progress
                there = pose_at(forward, mirrored, seconds=2.0, setting=setting, before=before, manner=manner)
                back = pose_at(backward, progress, seconds=2.0, setting=setting, before=after, manner=manner)
                assert np.array_equal(there, back)
                assert holding_at(forward, mirrored, before) == holding_at(backward, progress, after)


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_leads_from_rest_to_rest(action: str) -> None:
    for setting, rng in settings(10):
        manner = random_manner(rng)
        for before in states_of(action):
            after = state_after(action, before)
            for progress, state in ((0.0, before), (1.0, after)):
                pose = pose_at(action, progress, seconds=2.0, setting=setting, before=before, manner=manner)
                np.testing.assert_allclose(pose, rest_pose(setting, state), atol=1e-9)
                assert holding_at(action, progress, before) == state.holding


def test_pose_of_an_unknown_action_is_refused() -> None:
    setting, rng = settings(1)[0]
    with pytest.raises(ValueError, match="unknown action 'flying'"):
        pose_at("flying", 0.5, seconds=2.0, setting=setting, before=STATES[0], manner=random_manner(rng))


def test_the_object_is_grasped_where_it_waits_and_on_or_above_the_ground() -> None:
    for setting, rng in settings(50):
        manner = random_manner(rng)
        pose = pose_at("picking up", GRASP, seconds=2.0, setting=setting, before=STATES[0], manner=manner)
        waits = thing_place(setting, None)
        np.testing.assert_allclose(thing_place(setting, pose), waits, atol=1e-9)
        assert waits[1] == pytest.approx(setting.thing_height - 0.02, abs=1e-3)


def test_bones_keep_their_lengths_in_every_pose() -> None:
    for setting, rng in settings(5):
        manner = random_manner(rng)
        for action in ACTIONS:
            for before, progress in itertools.product(states_of(action), MOMENTS[::5]):
                pose = pose_at(action, progress, seconds=2.0, setting=setting, before=before, manner=manner)
                joints = joints_of(setting.body, pose)
                arm, leg = setting.body.arm / 2, setting.body.leg * 1.01 / 2
                for start, end in ((joints.roots, joints.bends), (joints.bends, joints.ends)):
                    lengths = np.linalg.norm(end - start, axis=1)
                    np.testing.assert_allclose(lengths, [arm, arm, leg, leg], rtol=1e-9)


def test_plans_follow_the_states_and_idle_between_actions() -> None:
    for plan in plans(300):
        assert plan[0].start == 0
        assert plan[-1].stop == 750
        assert [step.action is None for step in plan] == [i % 2 == 0 for i in range(len(plan))]
        for step, following in itertools.pairwise(plan):
            assert step.stop == following.start
            assert following.before == state_after(step.action, step.before)
        for step in plan:
            length = step.stop - step.start
            if step.action is None:
                assert length >= IDLE_FRAMES[0]
            else:
                assert step.action in allowed_actions(step.before)
                reversed_ = any(step.action in pair for pair in REVERSED_PAIRS)
                least, most = REVERSED_FRAMES if reversed_ else ACTION_FRAMES
                assert least <= length <= most


@pytest.mark.parametrize(
    ("state", "forbidden"),
    [
        (
            State(seated=True, holding=False),
            {"sitting down", "picking up", "putting down", "jumping", "kicking"},
        ),
        (State(seated=False, holding=False), {"standing up", "putting down"}),
        (State(seated=False, holding=True), {"standing up", "picking up", "clapping"}),
    ],
)
def test_a_state_forbids(state: State, forbidden: set[str]) -> None:
    assert set(ACTIONS) - set(allowed_actions(state)) == forbidden


def test_classes_are_about_balanced() -> None:
    counts = Counter(step.action for plan in plans(600) for step in plan if step.action)
    shares = {action: counts[action] / counts.total() for action in ACTIONS}
    assert min(shares.values()) > 0.09, shares
    assert max(shares.values()) < 0.16, shares
    for forward, backward in REVERSED_PAIRS:
        assert shares[forward] == pytest.approx(shares[backward], rel=0.1)


def test_pairs_last_equally_long() -> None:
    lengths: dict[str | None, list[int]] = {}
    for step in itertools.chain.from_iterable(plans(600)):
        lengths.setdefault(step.action, []).append(step.stop - step.start)
    for forward, backward in REVERSED_PAIRS:
        assert np.mean(lengths[forward]) == pytest.approx(np.mean(lengths[backward]), rel=0.04)


def test_same_seed_same_frames_and_another_seed_others() -> None:
    first, same, other = (np.stack(list(draw_frames(seed=seed, seconds=0.4, **SMALL))) for seed in (5, 5, 6))
    assert first.shape == (10, 48, 64, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_a_video_has_the_stated_frames_size_and_segments(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    truth = draw_video(path, seed=11, seconds=12.0, scene="park", **SMALL)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == Fraction(25)
        frames = list(container.decode(video=0))
    assert len(frames) == 300
    assert (frames[0].width, frames[0].height) == (64, 48)
    assert [frame.time for frame in frames] == pytest.approx([i / 25 for i in range(300)])
    assert (truth.scene, truth.duration_seconds) == ("park", 12.0)
    assert truth.segments
    assert truth.segments[0].start_seconds > 0
    assert truth.segments[-1].end_seconds < 12.0
    for segment, following in itertools.pairwise(truth.segments):
        assert segment.end_seconds < following.start_seconds
    assert [file.name for file in tmp_path.iterdir()] == ["video.mp4"]


def test_the_scene_changes_the_place_and_not_the_actions(tmp_path: Path) -> None:
    truths = [
        draw_video(tmp_path / f"{scene}.mp4", seed=4, seconds=8.0, scene=scene, **SMALL) for scene in SCENES
    ]
    assert [truth.scene for truth in truths] == list(SCENES)
    assert truths[0].segments == truths[1].segments == truths[2].segments
    assert len({digest(tmp_path / f"{scene}.mp4") for scene in SCENES}) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seconds": 0.0}, "at least one frame"),
        ({"width": 63, "height": 48}, "even"),
        ({"scene": "moon"}, "unknown scene 'moon', expected one of room, street, park"),
    ],
)
def test_wrong_arguments_leave_nothing_behind(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        draw_video(tmp_path / "video.mp4", seed=1, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_fails_midway_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("tsm_train.synthetic.video._expose", fail)
    with pytest.raises(OSError, match="disk full"):
        draw_video(tmp_path / "video.mp4", seed=1, seconds=1.0, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_is_whole_and_the_same_again(tmp_path: Path) -> None:
    seen: list[int] = []
    first = draw_dataset(
        tmp_path / "a",
        seed=9,
        training=3,
        validation=1,
        seconds=4.0,
        processes=1,
        on_video=seen.append,
        **SMALL,
    )
    database = json.loads(first.read_text())["database"]
    names = ["training_0000", "training_0001", "training_0002", "validation_0000"]
    assert list(database) == names
    assert [entry["subset"] for entry in database.values()] == ["training"] * 3 + ["validation"]
    assert [entry["scene"] for entry in database.values()] == [*SCENES, SCENES[0]]
    for entry in database.values():
        assert (entry["duration"], entry["resolution"], entry["fps"]) == (4.0, "64x48", 25)
        assert {annotation["label"] for annotation in entry["annotations"]} <= set(ACTIONS)
    assert seen == [1, 2, 3, 4]
    assert sorted(file.name for file in first.parent.iterdir()) == ["ground_truth.json", "videos"]
    videos = sorted((first.parent / "videos").iterdir())
    assert [file.name for file in videos] == [f"{name}.mp4" for name in names]
    assert len({digest(file) for file in videos}) == 4

    second = draw_dataset(tmp_path / "b", seed=9, training=1, validation=1, seconds=4.0, processes=1, **SMALL)
    again = json.loads(second.read_text())["database"]
    assert again == {name: database[name] for name in ("training_0000", "validation_0000")}
    for name in again:
        assert digest(first.parent / f"videos/{name}.mp4") == digest(second.parent / f"videos/{name}.mp4")


def test_an_empty_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one video"):
        draw_dataset(tmp_path / "a", seed=0, training=0, validation=0)
    assert not (tmp_path / "a").exists()


def run_module(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tsm_train.synthetic", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_draws_with_several_processes(tmp_path: Path) -> None:
    folder = tmp_path / "drawn"
    counts = ("--training", "1", "--validation", "1", "--seconds", "4", "--seed", "9")
    done = run_module(str(folder), *counts, "--size", "64x48", "--processes", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{folder / 'ground_truth.json'}\n"
    alone = draw_dataset(
        tmp_path / "alone", seed=9, training=1, validation=1, seconds=4.0, processes=1, **SMALL
    )
    assert (folder / "ground_truth.json").read_bytes() == alone.read_bytes()


@pytest.mark.parametrize("size", ["wide", "63x48"])
def test_the_command_refuses_a_wrong_size(tmp_path: Path, size: str) -> None:
    done = run_module(str(tmp_path / "drawn"), "--size", size)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "drawn").exists()
