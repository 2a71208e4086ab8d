"""The doubles of GPU and library notice what they are there to notice."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from cuda_double import ContractError, FakeDevice
from tensorrt_double import TensorrtDouble, plan_for

FRAMES = (1, 4, 32, 32, 3)
SIZES = {"frames": 4 * 32 * 32 * 3, "action_scores": 12, "scene_scores": 8}


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def active(device: FakeDevice) -> Iterator[FakeDevice]:
    with device.active():
        yield device


@pytest.fixture
def context(active: FakeDevice) -> Any:
    """An execution context that is ready to run, with the addresses set."""
    double = TensorrtDouble("tensorrt-11.4.0.106", active)
    runtime = double.module.Runtime(double.module.Logger())
    engine = runtime.deserialize_cuda_engine(plan_for(double.version).encode())
    context = engine.create_execution_context()
    assert context.set_input_shape("frames", FRAMES)
    for name, size in SIZES.items():
        assert context.set_tensor_address(name, active.allocate(size).address)
    return context


def noticed(device: FakeDevice, words: str, action: Callable[[], object]) -> None:
    with pytest.raises(ContractError, match=words):
        action()
    assert len(device.violations) == 1
    assert words in device.violations[0]


def test_calls_outside_the_active_gpu(device: FakeDevice) -> None:
    noticed(device, "allocate: the GPU is not active in this thread", lambda: device.allocate(1))


def test_memory_that_is_given_back_twice(active: FakeDevice) -> None:
    buffer = active.allocate(16)
    buffer.free()
    noticed(active, "given back twice", buffer.free)


def test_memory_that_is_given_back_too_early(active: FakeDevice) -> None:
    pinned, buffer, stream = active.pin((16,), np.uint8), active.allocate(16), active.stream()
    active.upload(buffer.address, pinned.array, stream)
    for held in (pinned, buffer):
        with pytest.raises(ContractError, match="given back while the GPU may still use it"):
            held.free()
    stream.synchronize()
    pinned.free()
    buffer.free()


def test_pinned_memory_that_is_written_too_early(active: FakeDevice) -> None:
    pinned, buffer, stream = active.pin((16,), np.uint8), active.allocate(16), active.stream()
    active.upload(buffer.address, pinned.array, stream)
    pinned.array[3] += 1
    noticed(active, "written before its copy to the GPU is done", stream.synchronize)


def test_results_that_are_read_too_early_are_no_numbers(active: FakeDevice) -> None:
    pinned, buffer, stream = active.pin((4,), np.float32), active.allocate(16), active.stream()
    buffer.data[:] = 0
    active.download(pinned.array, buffer.address, stream)
    assert np.isnan(pinned.array).all()
    stream.synchronize()
    assert (pinned.array == 0).all()


def test_copies_of_memory_that_is_not_pinned_or_not_there(active: FakeDevice) -> None:
    pinned, buffer, stream = active.pin((16,), np.uint8), active.allocate(8), active.stream()
    for address, source in (
        (buffer.address, np.zeros(8, np.uint8)),
        (buffer.address, pinned.array),  # too long
        (buffer.address + 1, pinned.array[:4]),
        (buffer.address, pinned.array[::4]),
    ):
        with pytest.raises(ContractError):
            active.upload(address, source, stream)


def test_what_is_left_at_the_end(device: FakeDevice) -> None:
    with device.active():
        device.allocate(16)
    noticed(device, "left with {'device memory': 1} in use", device.close)


def test_streams_run_in_any_order_but_their_own() -> None:
    """Without a wait between the streams the copies' order is open; with it, it is fixed."""
    found: dict[bool, set[int]] = {True: set(), False: set()}
    for wait in found:
        for seed in range(40):
            device = FakeDevice(hurry=random.Random(seed))
            with device.active():
                out, back = device.pin((1,), np.uint8), device.pin((1,), np.uint8)
                buffer, first, second = device.allocate(1), device.stream(), device.stream()
                out.array[:], buffer.data[:] = 1, 0
                event = device.event()
                device.upload(buffer.address, out.array, first)
                event.record(first)
                if wait:
                    second.wait(event)
                device.download(back.array, buffer.address, second)
                second.synchronize()
                found[wait].add(int(back.array[0]))
    assert found == {True: {1}, False: {0, 1}}


def test_running_on_the_default_stream(active: FakeDevice, context: Any) -> None:
    noticed(active, "the default stream is used", lambda: context.execute_async_v3(0))


def test_running_on_two_streams(active: FakeDevice, context: Any) -> None:
    context.execute_async_v3(active.stream().handle)
    other = active.stream().handle
    noticed(active, "one context on two streams", lambda: context.execute_async_v3(other))


def test_running_with_memory_that_is_gone(active: FakeDevice, context: Any) -> None:
    active.live["device memory"][0].free()
    stream = active.stream().handle
    noticed(active, "no memory of this GPU begins at", lambda: context.execute_async_v3(stream))


def test_running_with_too_little_memory(active: FakeDevice, context: Any) -> None:
    assert context.set_input_shape("frames", (2, *FRAMES[1:]))
    stream = active.stream().handle
    noticed(active, "bytes for", lambda: context.execute_async_v3(stream))


def test_deleting_what_still_runs(active: FakeDevice) -> None:
    double = TensorrtDouble("tensorrt-11.4.0.106", active)
    runtime = double.module.Runtime(double.module.Logger())
    context = runtime.deserialize_cuda_engine(plan_for(double.version).encode()).create_execution_context()
    context.set_input_shape("frames", FRAMES)
    for name, size in SIZES.items():
        context.set_tensor_address(name, active.allocate(size).address)
    context.execute_async_v3(active.stream().handle)
    del context
    assert active.violations == ["a context is deleted while the GPU runs it"]


def test_a_batch_outside_the_profile_is_refused_as_the_library_does(context: Any) -> None:
    assert not context.set_input_shape("frames", (9, *FRAMES[1:]))
    assert not context.set_input_shape("frames", (1, 8, 32, 32, 3))
