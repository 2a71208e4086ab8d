"""Several GPUs that share a list of videos, with a model on the CPU for each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from fakes import BrightnessBackend, brightness_member
from media import write_levels

from tsm_runtime.backends.base import Scores
from tsm_runtime.backends.cuda.device_numbers import device_numbers
from tsm_runtime.captures.selection import CapturePlan, plan_of_video
from tsm_runtime.errors import BackendError, RunError, UsageError
from tsm_runtime.pipeline.devices import Lane, run_shared
from tsm_runtime.pipeline.meter import Meter
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run_captures
from tsm_runtime.video.finding import VideoInput

NUM_VIDEOS = 6


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> list[CapturePlan]:
    """Six videos of 1 to 3.5 s; the third is none."""
    folder = tmp_path_factory.mktemp("media")
    found = []
    for number in range(NUM_VIDEOS):
        path = write_levels(folder / f"v{number}.mkv", [(20, 0.5), (235, 0.5 + 0.5 * number)])
        if number == 2:
            path.write_bytes(b"no video")
        found.append(plan_of_video(VideoInput(path, path.stem)))
    return found


class Waiting(BrightnessBackend):
    """Calls a function before each batch."""

    before: Callable[[], object] = staticmethod(lambda: None)

    def infer(self, frames: np.ndarray) -> Scores:
        self.before()
        return super().infer(frames)


def lane_of(before: Callable[[], object] = lambda: None, taken: list[str] | None = None) -> Lane:
    member = brightness_member()
    backend = Waiting()
    backend.before = before  # type: ignore[method-assign]
    object.__setattr__(member, "backend", backend)

    def lane(plans: Iterable[CapturePlan], progress: Any, meter: Meter) -> Any:
        noted = (plan for plan in plans if taken is None or taken.append(plan.capture_id) is None)
        return run_captures(noted, [member], Options(), progress=progress, meter=meter)

    return lane


def described(outcomes: Iterable[Any]) -> list[tuple[str, Any]]:
    return [
        (each.plan.capture_id, each.result and each.result.segments, [str(v.error) for v in each.videos])
        for each in outcomes
    ]


@pytest.mark.parametrize("num_lanes", [1, 2, 3])
def test_outcomes_are_those_of_one_device_in_the_same_order(plans: list[CapturePlan], num_lanes: int) -> None:
    alone, together = Meter(), Meter()
    expected = described(run_captures(plans, [brightness_member()], Options(), meter=alone))
    assert [name for name, *_ in expected] == [f"v{number}" for number in range(NUM_VIDEOS)]
    shown: list[str] = []
    found = run_shared(
        plans,
        [lane_of() for _ in range(num_lanes)],
        progress=lambda video, *_: shown.append(video.video_id),
        meter=together,
    )
    assert described(found) == expected
    assert (together.num_clips, together.num_frames) == (alone.num_clips, alone.num_frames)
    assert set(shown) == {f"v{number}" for number in range(NUM_VIDEOS) if number != 2}


def test_a_slow_device_takes_fewer_videos(plans: list[CapturePlan]) -> None:
    """The first one waits in its first batch until the other has done all that is left."""
    taken: tuple[list[str], list[str]] = ([], [])
    has_begun, rest_done = threading.Event(), threading.Event()
    slow = lane_of(lambda: (has_begun.set(), rest_done.wait(30)), taken[0])

    def fast(plans: Iterable[CapturePlan], progress: Any, meter: Meter) -> Any:
        has_begun.wait(30)
        yield from lane_of(taken=taken[1])(plans, progress, meter)
        rest_done.set()

    names = [each.plan.capture_id for each in run_shared(plans, [slow, fast])]
    assert names == [f"v{number}" for number in range(NUM_VIDEOS)]
    assert len(taken[0]) <= 2
    assert len(taken[1]) >= NUM_VIDEOS - 2


def test_an_error_of_one_device_ends_the_run(plans: list[CapturePlan]) -> None:
    def broken() -> None:
        raise RunError("GPU 1 broke off")

    with pytest.raises(RunError, match="GPU 1 broke off"):
        list(run_shared(plans, [lane_of(), lane_of(broken)]))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("device", "decode"))]


def test_closing_ends_all_devices(plans: list[CapturePlan]) -> None:
    outcomes = run_shared(plans, [lane_of(), lane_of()])
    assert next(outcomes).plan.capture_id == "v0"
    outcomes.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("device", "decode"))]


@pytest.mark.parametrize(("text", "numbers"), [("0", (0,)), ("3", (3,)), ("0,1", (0, 1)), ("1, 0", (1, 0))])
def test_devices_are_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert device_numbers(text) == numbers


@pytest.mark.parametrize("text", ["", "0,", "a", "0,0", "-1", "0;1"])
def test_other_devices_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected numbers of GPUs, such as 0 or 0,1, or all"):
        device_numbers(text)


def test_all_devices_are_those_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tsm_runtime.backends.cuda.gpu.num_gpus", lambda: 3)
    assert device_numbers("all") == (0, 1, 2)

    def none() -> int:
        raise BackendError("no GPU")

    monkeypatch.setattr("tsm_runtime.backends.cuda.gpu.num_gpus", none)
    with pytest.raises(BackendError, match="no GPU"):
        device_numbers("all")
