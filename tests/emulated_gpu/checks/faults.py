"""Faults that the emulated driver notices: planted ones, so that its silence means something."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from emulated import Emulated

from tsm_runtime.backends.cuda.memory import DeviceError, DeviceMemory
from tsm_runtime.backends.cuda.opening import open_device
from tsm_runtime.errors import BackendError


@pytest.fixture(params=["pycuda", "bindings"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeviceMemory]:
    monkeypatch.setenv("TSM_CUDA", request.param)
    memory = open_device(0)
    yield memory
    memory.close()


def test_a_copy_of_pageable_memory(memory: DeviceMemory, emulated: Emulated) -> None:
    with memory.active():
        buffer, stream = memory.allocate(64), memory.stream()
        memory.upload(buffer.address, np.zeros(64, np.uint8), stream)
        stream.synchronize()
        stream.free()
        buffer.free()
    assert emulated.new_violations() == ["cuMemcpyHtoDAsync: the source is not page-locked"]


def test_an_event_that_was_freed_early(monkeypatch: pytest.MonkeyPatch, emulated: Emulated) -> None:
    monkeypatch.setenv("TSM_CUDA", "bindings")
    memory = open_device(0)
    with memory.active():
        event, stream = memory.event(), memory.stream()
        event.record(stream)
        event.free()
        with pytest.raises(DeviceError):
            event.synchronize()
        stream.free()
    memory.close()
    assert emulated.new_violations() == ["cuEventSynchronize: the event was destroyed"]


def test_memory_that_work_still_uses(memory: DeviceMemory, emulated: Emulated) -> None:
    with memory.active():
        buffer, stream = memory.allocate(1 << 20), memory.stream()
        pinned = memory.pin((1 << 20,), np.uint8)
        for _ in range(50):
            memory.upload(buffer.address, pinned.array, stream)
        pinned.free()
        stream.synchronize()
        stream.free()
        buffer.free()
    assert "cuMemFreeHost: submitted work still uses the memory" in emulated.new_violations()


def test_a_call_without_a_context(memory: DeviceMemory, emulated: Emulated) -> None:
    with pytest.raises(DeviceError):
        memory.allocate(64)
    assert emulated.new_violations() == ["cuMemAlloc_v2: no context is current in this thread"]


def test_the_second_gpu_and_opening_anew(monkeypatch: pytest.MonkeyPatch, emulated: Emulated) -> None:
    for library in ("pycuda", "bindings"):
        monkeypatch.setenv("TSM_CUDA", library)
        for index in (1, 0, 1):
            memory = open_device(index)
            assert memory.gpu.name == f"Emulated GPU {index}"
            assert memory.library.endswith(library)
            with memory.active():
                memory.allocate(64).free()
            memory.close()
    with pytest.raises(BackendError, match="no GPU 2"):
        open_device(2)


@pytest.mark.parametrize("library", ["pycuda", "bindings"])
def test_a_program_that_ends_without_closing(library: str) -> None:
    """It ends with its own exit code."""
    program = """
import sys
from tsm_runtime.backends.cuda.opening import open_device
memory = open_device(0)
with memory.active():
    buffer, stream, event = memory.allocate(1 << 20), memory.stream(), memory.event()
sys.exit(3)
"""
    given = {**os.environ, "TSM_CUDA": library}
    done = subprocess.run([sys.executable, "-c", program], env=given, capture_output=True, text=True)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


def test_what_is_left_in_a_context(monkeypatch: pytest.MonkeyPatch, emulated: Emulated) -> None:
    monkeypatch.setenv("TSM_CUDA", "bindings")
    memory = open_device(1)
    with memory.active():
        memory.stream()
    memory.close()
    (violation,) = emulated.new_violations()
    assert "1 streams are left in the context" in violation
