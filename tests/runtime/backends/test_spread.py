"""Batches spread over several backends: each has its share, results keep their order, errors lose nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fakes import BrightnessBackend, QueueBackend
from media import write_levels

from tsm_runtime import load, run
from tsm_runtime.backends.base import Backend, Scores
from tsm_runtime.backends.runner import BatchRunner
from tsm_runtime.backends.spread import SpreadBackend
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.errors import BackendError, RunError, UsageError
from tsm_runtime.models import several_gpus
from tsm_runtime.models.choice import BackendRequest
from tsm_runtime.pipeline.options import Options


def batches(number: int, size: int = 2) -> list[npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (size, 4, 32, 32, 3), np.uint8) for _ in range(number)]


def scored(backend: Backend, given: list[npt.NDArray[np.uint8]]) -> list[Scores]:
    """What the pipeline's runner hands out for some batches."""
    found: list[Scores] = []
    runner = BatchRunner(backend)
    for batch in given:
        runner.submit(batch, found.append)
    runner.finish()
    return found


def assert_scores(found: list[Scores], given: list[npt.NDArray[np.uint8]]) -> None:
    wanted = [BrightnessBackend().infer(batch) for batch in given]
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.action, other.action)


def test_batches_are_shared_and_results_are_in_order() -> None:
    parts = [QueueBackend(2), QueueBackend(3)]
    spread = SpreadBackend(parts)
    assert (spread.in_flight, spread.device, spread.name) == (5, "gpu", "queue and queue")
    given = batches(11)
    assert_scores(scored(spread, given), given)
    assert sum(len(part.batch_sizes) for part in parts) == 11
    assert min(len(part.batch_sizes) for part in parts) >= 4
    assert [part.most_flying for part in parts] == [2, 3]


@pytest.mark.parametrize("fails_at", ["submit", "result"])
def test_without_memory_on_one_all_batches_are_given_again(fails_at: str) -> None:
    parts = [QueueBackend(2, memory=4), QueueBackend(2, memory=1, fails_at=fails_at)]
    given = batches(7, size=4)
    assert_scores(scored(SpreadBackend(parts), given), given)
    assert all(part.batch_sizes for part in parts)
    assert [part.flying for part in parts] == [[], []]


def test_all_are_closed_even_where_one_fails() -> None:
    class Stuck(QueueBackend):
        def close(self) -> None:
            super().close()
            raise RunError("stuck")

    parts = [QueueBackend(), Stuck(), QueueBackend()]
    with pytest.raises(RunError, match="stuck"):
        SpreadBackend(parts).close()
    assert [part.num_closed for part in parts] == [1, 1, 1]


# --- load(device=) --------------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, QueueBackend]]:
    """Backends that were opened, each with the number of its GPU; there is none of number 7."""
    found: list[tuple[int, QueueBackend]] = []

    def open_here(bundle: Bundle, request: BackendRequest) -> Backend:
        if request.device == 7:
            raise BackendError("no GPU 7")
        backend = QueueBackend()
        backend.device = "gpu"
        found.append((request.device, backend))
        return backend

    monkeypatch.setattr(several_gpus, "open_requested", open_here)
    return found


@pytest.mark.parametrize("device", ["0,2", [0, 2], (0, 2)])
def test_a_model_on_several_gpus_finds_the_same(
    tiny_bundle: Path, tmp_path: Path, opened: list[tuple[int, QueueBackend]], device: Any
) -> None:
    video = write_levels(tmp_path / "v.mp4", [(20, 1.0), (128, 0.5), (235, 1.5)])
    options = Options(batch_size=1)
    with load(tiny_bundle, device=device) as model:
        found = run(video, model, options)
    assert [number for number, _ in opened] == [0, 2]
    assert all(backend.batch_sizes and backend.num_closed == 1 for _, backend in opened)
    with load(tiny_bundle) as one:
        assert found.segments == run(video, one, options).segments


def test_a_missing_gpu_closes_the_others(tiny_bundle: Path, opened: list[tuple[int, QueueBackend]]) -> None:
    with pytest.raises(BackendError, match="no GPU 7"):
        load(tiny_bundle, device="0,7")
    assert [backend.num_closed for _, backend in opened] == [1]
    with pytest.raises(UsageError, match="device '0,0': expected numbers of GPUs"):
        load(tiny_bundle, device="0,0")


def test_a_model_on_the_cpu_is_opened_once(tiny_bundle: Path) -> None:
    with load(tiny_bundle, device="0,1", num_threads=1) as model:
        assert " and " not in model.name
