"""onnxruntime on the CPU: calls at a time give the same scores in order, and nothing is left behind."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from fakes import BrightnessBackend, brightness_member
from hypothesis import given, settings
from hypothesis import strategies as st
from media import write_levels
from tiny_bundle import write_tiny_bundle

from tsm_runtime.backends.base import Scores
from tsm_runtime.backends.onnxruntime import OnnxruntimeBackend, open_session
from tsm_runtime.backends.runner import BatchRunner, calling_in_parallel
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.errors import OutOfMemoryError, RunError
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run


class SlowBackend(BrightnessBackend):
    """Sleeps now and then, so that calls overtake one another, and counts how many there are at a time."""

    parallel_calls = 2

    def __init__(self, sleeps: list[float], fails_at: int = -1, memory: int = 10**9) -> None:
        super().__init__(name="slow")
        self.sleeps, self.fails_at, self.memory = sleeps, fails_at, memory
        self.lock = threading.Lock()
        self.num_calls = self.now = self.most = 0

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        with self.lock:
            number, self.num_calls = self.num_calls, self.num_calls + 1
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.sleeps[number % len(self.sleeps)])
        with self.lock:
            self.now -= 1
        if number == self.fails_at:
            raise RunError("slow: broke off")
        if len(frames) > self.memory:
            raise OutOfMemoryError("slow: too many")
        return super().infer(frames)


def scored(backend: BrightnessBackend, clips: npt.NDArray[np.uint8], batch: int) -> list[float]:
    """First action's score of all clips, in the order in which they come."""
    found: list[float] = []
    with calling_in_parallel([backend]) as (calls,):
        runner = BatchRunner(calls)
        for start in range(0, len(clips), batch):
            runner.submit(clips[start : start + batch], lambda s: found.extend(s.action[:, 0].tolist()))
        runner.finish()
    return found


def clips_of(number: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (number, 1, 1, 1, 3), np.uint8)


def score_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("score")]


@settings(max_examples=25, deadline=None)
@given(
    number=st.integers(1, 9),
    batch=st.integers(1, 3),
    sleeps=st.lists(st.sampled_from([0.0, 0.002, 0.006]), min_size=1, max_size=4),
    memory=st.sampled_from([1, 2, 10**9]),
)
@pytest.mark.filterwarnings("ignore")
def test_scores_come_in_order(number: int, batch: int, sleeps: list[float], memory: int) -> None:
    clips = clips_of(number)
    expected = BrightnessBackend().infer(clips).action[:, 0].tolist()
    assert scored(SlowBackend(sleeps, memory=memory), clips, batch) == expected
    assert score_threads() == []


def test_two_calls_are_under_way_at_a_time() -> None:
    slow = SlowBackend([0.02])
    scored(slow, clips_of(6), 1)
    assert (slow.most, slow.num_calls) == (2, 6)


def test_models_of_an_ensemble_share_the_calls() -> None:
    backends = [SlowBackend([0.02]) for _ in range(3)]
    lock = threading.Lock()
    for backend in backends:
        backend.lock = lock
    running: list[int] = []

    def watch(scores: Scores) -> None:
        running.append(sum(backend.now for backend in backends))

    with calling_in_parallel(backends) as calls:
        runners = [BatchRunner(call) for call in calls]
        for _ in range(4):
            for runner in runners:
                runner.submit(clips_of(1), watch)
        for runner in runners:
            runner.finish()
    assert len(running) == 12
    assert max(running) <= 2


def test_a_fault_ends_the_run_and_all_threads(tmp_path: Path) -> None:
    video = write_levels(tmp_path / "v.mkv", [(20, 1.0), (235, 1.0)] * 4)
    member = replace(brightness_member(), backend=SlowBackend([0.0, 0.01], fails_at=3))
    with pytest.raises(RunError, match="broke off"):
        run(video, member, Options())
    assert score_threads() == []


def test_a_run_finds_what_it_finds_call_by_call(tmp_path: Path) -> None:
    video = write_levels(tmp_path / "v.mkv", [(20, 1.0), (128, 0.7), (235, 1.0)] * 3)
    plain = brightness_member()
    parallel = replace(plain, backend=SlowBackend([0.01, 0.0, 0.003]))
    assert run(video, parallel, Options()) == run(video, plain, Options())
    assert run(video, [parallel, parallel], Options()) == run(video, [plain, plain], Options())


@pytest.mark.parametrize(("num_threads", "calls"), [(1, 1), (2, 2), (3, 2)])
def test_onnxruntime_shares_its_threads_among_calls(tmp_path: Path, num_threads: int, calls: int) -> None:
    pytest.importorskip("onnxruntime")
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle"))
    spec = bundle.manifest.clip_spec
    clips = np.random.default_rng(0).integers(0, 256, (5, spec.num_frames, spec.size, spec.size, 3), np.uint8)
    with (
        OnnxruntimeBackend(bundle, num_threads=num_threads, parallel_calls=2) as backend,
        OnnxruntimeBackend(bundle, num_threads=num_threads) as plain,
    ):
        assert (backend.parallel_calls, plain.parallel_calls) == (calls, 1)
        found: list[npt.NDArray[np.float32]] = []
        with calling_in_parallel([backend]) as (call,):
            runner = BatchRunner(call)
            for start in range(5):
                runner.submit(clips[start : start + 1], lambda scores: found.append(scores.action))
            runner.finish()
        expected = [plain.infer(clips[start : start + 1]).action for start in range(5)]
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(expected), atol=1e-6)


def test_a_session_does_not_keep_the_file(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle"))
    session = open_session(bundle, "model.fp32.onnx")
    assert not [name for name, value in vars(session).items() if isinstance(value, bytes | bytearray)]
