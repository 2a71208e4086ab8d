"""The TensorRT runner on a real GPU: a package moves real memory, TensorRT's double launches a real kernel.

Needs a CUDA device, pycuda and nvcc; without them the tests are skipped, or fail where TSM_REQUIRE_GPU=1.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fakes import BrightnessBackend
from kernel_double import PLAN, WATCHED, KernelDouble, current_context, kernel_bundle
from tensorrt_contract import CONTRACTS
from tensorrt_double import NUM_FRAMES, SIZE

from tsm_runtime.backends.base import Scores
from tsm_runtime.backends.cuda.device_clips import new_clips
from tsm_runtime.backends.cuda.driver import PrimaryContext
from tsm_runtime.backends.cuda.memory import DeviceError, DeviceMemory
from tsm_runtime.backends.cuda.opening import open_device
from tsm_runtime.backends.tensorrt.backend import TensorrtBackend
from tsm_runtime.errors import BackendError, RunError

pytestmark = pytest.mark.gpu

NEWEST = "tensorrt-11.4.0.106"
ATOL = 1e-5
"""The kernel's expf in float32 against NumPy's in float64."""


@pytest.fixture(params=["pycuda", "bindings"])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A GPU that a package can use, by the package's name, or no test."""
    monkeypatch.setenv("TSM_CUDA", request.param)
    try:
        open_device(0).close()
        importlib.import_module("pycuda.compiler")  # compiles the kernel, whatever moves memory
    except (BackendError, ImportError) as error:
        if os.environ.get("TSM_REQUIRE_GPU") == "1":
            raise
        pytest.skip(f"no GPU for this test: {error}")
    return str(request.param)


@pytest.fixture
def memory(gpu: str) -> Iterator[DeviceMemory]:
    memory = open_device(0)
    yield memory
    memory.close()


def clips(number: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    brightness = rng.integers(0, 200, (number, 1, 1, 1, 1), np.uint8)
    return brightness + rng.integers(0, 56, (number, NUM_FRAMES, SIZE, SIZE, 3), np.uint8)


def assert_scores(found: Scores, frames: npt.NDArray[np.uint8]) -> None:
    wanted = BrightnessBackend().infer(frames)
    np.testing.assert_allclose(found.action, wanted.action, atol=ATOL)
    assert found.scene is not None
    assert wanted.scene is not None
    np.testing.assert_allclose(found.scene, wanted.scene, atol=ATOL)


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_bytes", [1, 255, 4096, 3 * 1024 * 1024 + 7])
def test_memory_moves_to_the_gpu_and_back(memory: DeviceMemory, num_bytes: int) -> None:
    sent = np.random.default_rng(num_bytes).integers(0, 256, num_bytes, np.uint8)
    with memory.active():
        out, back = memory.pin((num_bytes,), np.uint8), memory.pin((num_bytes,), np.uint8)
        buffer, stream = memory.allocate(num_bytes), memory.stream()
        assert buffer.address % 512 == 0
        assert stream.handle != 0
        out.array[:], back.array[:] = sent, 0
        memory.upload(buffer.address, out.array, stream)
        memory.download(back.array, buffer.address, stream)
        stream.synchronize()
        np.testing.assert_array_equal(back.array, sent)
        for held in (buffer, out, back, stream):
            held.free()


def test_memory_is_copied_on_the_gpu(memory: DeviceMemory) -> None:
    """From the midst of one buffer into the midst of another, in the order of the stream."""
    sent = np.random.default_rng(0).integers(0, 256, 10_000, np.uint8)
    with memory.active():
        out, back = memory.pin((10_000,), np.uint8), memory.pin((5_000,), np.uint8)
        first, second, stream = memory.allocate(10_000), memory.allocate(10_000), memory.stream()
        out.array[:] = sent
        memory.upload(first.address, out.array, stream)
        memory.copy(second.address + 3, first.address + 16, 5_000, stream)
        memory.copy(second.address, second.address + 3 + 1_000, 500, stream)
        memory.copy(first.address, second.address, 5_003, stream)
        memory.download(back.array, first.address, stream)
        stream.synchronize()
        np.testing.assert_array_equal(back.array[:500], sent[1_016:1_516])
        np.testing.assert_array_equal(back.array[503:], sent[516 : 516 + 4_497])
        for held in (first, second, out, back, stream):
            held.free()


def test_clips_of_the_driver_are_there_for_pycuda(gpu: str) -> None:
    """The memory of NVDEC's clips is good in pycuda's context too: both are the primary one."""
    context, memory = PrimaryContext(0), open_device(0)
    clips_there = new_clips((2, NUM_FRAMES, SIZE, SIZE, 3), context)
    frames = clips(2)
    for number, clip in enumerate(frames):
        for place, picture in enumerate(clip):
            clips_there[number][place] = picture
    with memory.active():
        back, stream = memory.pin(frames.shape, np.uint8), memory.stream()
        memory.download(back.array, clips_there.address, stream)
        stream.synchronize()
        np.testing.assert_array_equal(back.array, frames)
        for held in (back, stream):
            held.free()
    clips_there.free()
    memory.close()
    context.close()


def test_an_event_orders_two_streams(memory: DeviceMemory) -> None:
    with memory.active():
        out, back = memory.pin((1 << 20,), np.uint8), memory.pin((1 << 20,), np.uint8)
        buffer, copies, work = memory.allocate(1 << 20), memory.stream(), memory.stream()
        uploaded, done = memory.event(), memory.event()
        done.synchronize()  # never marked: no wait
        for value in range(20):
            out.array[:] = value
            memory.upload(buffer.address, out.array, copies)
            uploaded.record(copies)
            work.wait(uploaded)
            memory.download(back.array, buffer.address, work)
            done.record(work)
            done.synchronize()
            assert (back.array == value).all()
        for held in (uploaded, done, buffer, out, back, copies, work):
            held.free()


def test_too_much_memory_is_reported_as_such(memory: DeviceMemory) -> None:
    with memory.active():
        with pytest.raises(DeviceError, match="memory") as caught:
            memory.allocate(1 << 50)
        assert caught.value.out_of_memory
        memory.allocate(1 << 10).free()


def test_no_gpu_of_that_number_is_reported(gpu: str) -> None:
    with pytest.raises(BackendError, match=r"no GPU 4711: .*; does nvidia-smi list it"):
        open_device(4711)


def test_the_context_is_current_in_the_block_only(gpu: str) -> None:
    before = current_context()
    memory, other = open_device(0), open_device(0)
    with memory.active():
        inside = current_context()
        with other.active():
            assert current_context() == inside != before  # the primary context is one
        assert current_context() == inside
    assert current_context() == before
    memory.close()
    memory.close()
    assert current_context() == before
    with other.active():
        other.allocate(64).free()
    other.close()
    assert current_context() == before


def test_another_thread_may_close(gpu: str) -> None:
    memory = open_device(0)
    with memory.active():
        memory.allocate(64).free()
    found = []

    def work() -> None:
        with memory.active():
            memory.allocate(64).free()
        memory.close()
        found.append(current_context())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]


# --- the runner -----------------------------------------------------------------------------------


@pytest.fixture
def open_kernel(
    gpu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[TensorrtBackend, Any]]]:
    """Opens backends whose engine is a kernel; at the end nothing may have gone wrong."""
    opened = []

    def open_backend(contract: str = NEWEST, **options: int) -> tuple[TensorrtBackend, Any]:
        double = KernelDouble(contract, WATCHED[gpu](), **options)
        monkeypatch.setitem(sys.modules, double.module.__name__, double.module)
        opened.append(double)
        bundle = kernel_bundle(tmp_path, double, has_single=True)
        return TensorrtBackend(bundle, PLAN, memory=double.memory), double

    yield open_backend
    for double in opened:
        assert double.memory.violations == []
        assert double.memory.closed == 1
        assert double.alive == []


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_kernel_scores_as_the_host_does(open_kernel: Callable[..., Any], contract: str) -> None:
    before = current_context()
    backend, double = open_kernel(contract)
    with backend:
        for number in (1, 8, 3, 50, 7):
            assert_scores(backend.infer(clips(number, seed=number)), clips(number, seed=number))
    assert double.runs == [1, 8, 3, *[8] * 6, 2, 7]
    assert double.profiles == [int(number == 1) for number in double.runs]
    assert current_context() == before


def test_two_batches_are_submitted_while_the_gpu_works(open_kernel: Callable[..., Any]) -> None:
    """The kernel waits for the host: if `submit` waited for the kernel, this would never end."""
    backend, double = open_kernel()
    import pycuda.driver as cuda

    with backend:
        with double.memory.active():
            flag = cuda.pagelocked_empty(1, np.int32, mem_flags=cuda.host_alloc_flags.DEVICEMAP)
            double.may_run = int(flag.base.get_device_pointer())
        flag[0] = 0
        try:
            first, second = (backend.submit(clips(8, seed=seed)) for seed in (1, 2))
            assert double.runs == [8, 8]
            assert (first.num_missing, second.num_missing) == (8, 8)
        finally:
            flag[0] = 1
        assert_scores(backend.result(second), clips(8, seed=2))
        assert_scores(backend.result(first), clips(8, seed=1))
        with double.memory.active():
            flag.base.free()


def test_slow_kernels_and_a_fast_host_do_not_mix_up_batches(open_kernel: Callable[..., Any]) -> None:
    backend, double = open_kernel(cycles=2_000_000)
    with backend:
        batches = [clips(1 + seed % 8, seed) for seed in range(40)]
        pending = []
        for frames in batches:
            scratch = frames.copy()
            pending.append(backend.submit(scratch))
            scratch.fill(255)
        for frames, submitted in zip(batches, pending, strict=True):
            assert_scores(backend.result(submitted), frames)
    assert len(double.runs) == 40


def test_closing_waits_for_the_gpu(open_kernel: Callable[..., Any]) -> None:
    backend, double = open_kernel(cycles=20_000_000)
    backend.submit(clips(8))
    backend.submit(clips(8))
    backend.close()
    backend.close()
    with pytest.raises(ValueError, match="closed"):
        backend.infer(clips(1))
    assert double.runs == [8, 8]


def test_threads_share_a_backend_and_another_closes_it(open_kernel: Callable[..., Any]) -> None:
    backend, _ = open_kernel()
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for i in range(10):
                frames = clips(1 + (seed + i) % 20, seed=100 * seed + i)
                assert_scores(backend.infer(frames), frames)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in [*threads, threading.Thread(target=backend.close)]:
        if thread not in threads:
            for other in threads:
                other.join()
        thread.start()
    thread.join()
    assert failures == []


def test_one_backend_closes_while_another_goes_on(open_kernel: Callable[..., Any]) -> None:
    (first, _), (second, _) = open_kernel(), open_kernel("tensorrt-10.16.1.11")
    with second:
        with first:
            pending = second.submit(clips(5, seed=5))
            assert_scores(first.infer(clips(9)), clips(9))
        assert_scores(second.result(pending), clips(5, seed=5))
        assert_scores(second.infer(clips(20)), clips(20))


def test_a_refused_batch_is_reported_and_the_next_one_runs(open_kernel: Callable[..., Any]) -> None:
    backend, double = open_kernel()
    with backend:
        double.refuse["IExecutionContext.set_input_shape"] = "the reason"
        with pytest.raises(RunError, match="does not run a batch of 3: the reason"):
            backend.infer(clips(3))
        double.refuse.clear()
        assert_scores(backend.infer(clips(3)), clips(3))
