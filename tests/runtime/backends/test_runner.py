"""Batches in flight on one backend, and what becomes of them when its memory runs short."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from fakes import BrightnessBackend, QueueBackend, Submitted
from hypothesis import given
from hypothesis import strategies as st

from tsm_runtime.backends.base import Backend, Scores
from tsm_runtime.backends.runner import BatchRunner
from tsm_runtime.errors import OutOfMemoryError, RunError


def clips(sizes: list[int], seed: int = 0) -> list[npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (size, 2, 4, 4, 3), np.uint8) for size in sizes]


def scored(backend: Backend, batches: list[npt.NDArray[np.uint8]]) -> list[tuple[int, Scores]]:
    """Number and scores of the batches, in the order in which they come."""
    found: list[tuple[int, Scores]] = []
    runner = BatchRunner(backend)
    for number, frames in enumerate(batches):
        runner.submit(frames, lambda scores, number=number: found.append((number, scores)))  # type: ignore[misc]
    runner.finish()
    return found


@given(
    sizes=st.lists(st.integers(1, 9), max_size=8),
    in_flight=st.integers(1, 4),
    memory=st.integers(1, 9),
    fails_at=st.sampled_from(["submit", "result"]),
)
def test_scores_come_in_order_whatever_is_in_flight_and_fits(
    sizes: list[int], in_flight: int, memory: int, fails_at: str
) -> None:
    batches = clips(sizes)
    backend = QueueBackend(in_flight, memory, fails_at)
    found = scored(backend, batches)
    assert [number for number, _ in found] == list(range(len(sizes)))
    for (_, scores), frames in zip(found, batches, strict=True):
        wanted = BrightnessBackend().infer(frames)
        np.testing.assert_array_equal(scores.action, wanted.action)
        np.testing.assert_array_equal(scores.scene, wanted.scene)
    assert backend.most_flying <= in_flight
    assert max(backend.batch_sizes, default=0) <= memory


def test_as_many_are_in_flight_as_the_backend_takes() -> None:
    """With two, the second batch is submitted before the first is waited for."""
    for in_flight in (1, 2, 3):
        backend = QueueBackend(in_flight)
        scored(backend, clips([2] * 6))
        assert backend.most_flying == in_flight


@pytest.mark.parametrize("fails_at", ["submit", "result"])
def test_short_memory_halves_the_batch_and_says_so_once(
    fails_at: str, caplog: pytest.LogCaptureFixture
) -> None:
    backend = QueueBackend(2, memory=3, fails_at=fails_at)
    assert len(scored(backend, clips([8, 8, 3, 1]))) == 4
    assert backend.batch_sizes == [2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1]
    assert caplog.messages == [
        "queue: no memory for a batch of 8, goes on with 4: 8 clips want too much",
        "queue: no memory for a batch of 4, goes on with 2: 4 clips want too much",
    ]


def test_no_memory_for_one_clip_is_a_failed_run() -> None:
    with pytest.raises(
        RunError, match="queue: not even a single clip fits into its memory: 1 clips want"
    ) as raised:
        scored(QueueBackend(2, memory=0), clips([4]))
    assert not isinstance(raised.value, OutOfMemoryError)


@pytest.mark.parametrize("fails_at", ["submit", "result"])
def test_another_failure_is_no_reason_to_try_again(fails_at: str) -> None:
    class Breaking(QueueBackend):
        num_calls = 0

        def _require_memory(self, frames: npt.NDArray[np.uint8]) -> None:
            Breaking.num_calls += 1
            raise RunError("the GPU fell off the bus")

    with pytest.raises(RunError, match="fell off the bus"):
        scored(Breaking(2, fails_at=fails_at), clips([4]))
    assert Breaking.num_calls == 1


@pytest.mark.parametrize("breaks", [False, True])
def test_what_is_abandoned_is_waited_for(monkeypatch: pytest.MonkeyPatch, breaks: bool) -> None:
    """Nothing is in flight afterwards, the scores are discarded, and the failure is not reported again."""
    backend = QueueBackend(3)
    result, requested = backend.result, []

    def broken(batch: Submitted) -> Scores:
        requested.append(result(batch))
        if breaks:
            raise RunError("broke off")
        return requested[-1]

    monkeypatch.setattr(backend, "result", broken)
    runner = BatchRunner(backend)
    for frames in clips([2, 2]):
        runner.submit(frames, lambda scores: pytest.fail("scores of an abandoned batch"))
    runner.abandon()
    assert not backend.flying
    runner.abandon()
    assert len(requested) == 2
