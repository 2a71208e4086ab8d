"""A GPU of the host's memory that does nothing before it must, and reports code that relies on more.

It stands where `tsm_runtime.backends.cuda.memory.DeviceMemory` does.
Work that is submitted to a stream runs when a caller waits for it, or before, as `hurry` decides: results
must not depend on that. Copies access their buffers when they run, so a buffer that is reused or freed
too early gives wrong results and is reported.
"""

from __future__ import annotations

import ctypes
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.cuda.gpu import Gpu
from tsm_runtime.backends.cuda.memory import DeviceError

OTHERS = "memory of others"


class ContractError(AssertionError):
    """The code under test did what CUDA or TensorRT does not allow."""


@dataclass(eq=False)
class Operation:
    """Something submitted to a stream.

    Args:
        stream: where.
        run: what it does.
        uses: what must be there until it is done.
        after: an operation of another stream that must be done before.
    """

    stream: FakeStream
    run: Callable[[], None]
    uses: tuple[object, ...] = ()
    after: Operation | None = None
    done: bool = False


@dataclass(eq=False)
class FakeBuffer:
    device: FakeDevice
    address: int
    data: npt.NDArray[np.uint8]
    kind: str = "device memory"

    @property
    def num_bytes(self) -> int:
        return len(self.data)

    def free(self) -> None:
        self.device.give_back(self.kind, self)


@dataclass(eq=False)
class FakePinned:
    device: FakeDevice
    array: npt.NDArray[Any]

    def free(self) -> None:
        self.device.give_back("pinned memory", self)


@dataclass(eq=False)
class FakeEvent:
    device: FakeDevice
    marked: Operation | None = None

    def record(self, stream: FakeStream) -> None:
        self.marked = stream.submit(lambda: None, self)

    def synchronize(self) -> None:
        self.device.require_active("event.synchronize")
        if self.marked is not None:
            self.device.force(self.marked)

    def free(self) -> None:
        self.device.give_back("event", self)


@dataclass(eq=False)
class FakeStream:
    device: FakeDevice
    handle: int
    queue: deque[Operation] = field(default_factory=deque)

    def submit(self, run: Callable[[], None], *uses: object, after: Operation | None = None) -> Operation:
        operation = Operation(self, run, uses, after)
        self.device.require_active("a stream")
        self.device.require(self in self.device.live["stream"], "a stream that was given back is used")
        self.queue.append(operation)
        self.device.hurry_on()
        return operation

    def wait(self, event: FakeEvent) -> None:
        self.submit(lambda: None, event, after=event.marked)

    def synchronize(self) -> None:
        self.device.require_active("stream.synchronize")
        self.device.log.append("synchronize")
        if self.queue:
            self.device.force(self.queue[-1])
        self.device.raise_broken()

    def free(self) -> None:
        self.device.require(not self.queue, "a stream is given back with work in it")
        self.device.give_back("stream", self)


@dataclass(frozen=True, eq=False)
class Span:
    """Bytes of a buffer, or of memory that is not this GPU's own."""

    owner: object
    data: npt.NDArray[np.uint8]


class FakeDevice:
    """One GPU.

    Args:
        is_host: addresses that are not its own are the host's, as those of other doubles are.
        gpu: what it says it is.
        capacity: bytes of its memory.
        hurry: decides after each submission what is run already; None: nothing before it must.
    """

    library = "double"

    def __init__(
        self,
        *,
        gpu: Gpu = Gpu("NVIDIA H100 80GB HBM3", "9.0"),  # noqa: B008
        capacity: int = 1 << 30,
        hurry: random.Random | None = None,
        is_host: bool = False,
    ) -> None:
        self.gpu = gpu
        self.capacity = capacity
        self.hurry = hurry
        self.is_host = is_host
        self.log: list[str] = []
        self.violations: list[str] = []
        self.live: dict[str, list[Any]] = {}
        self.faults: dict[str, DeviceError] = {}
        """Call to what it raises once: `allocate`, `pin`, `upload`, `download`, `copy`."""
        self.calls_until_fault: int | None = None
        """How many calls succeed before one fails; None: all."""
        self.broken: DeviceError | None = None
        self.closed = 0
        self._streams: list[FakeStream] = []
        self._next_address = 0x7F0000000000
        self._active = threading.local()

    # --- the protocol ---------------------------------------------------------------------------------

    @contextmanager
    def active(self) -> Iterator[None]:
        self.require(not self.closed, "the GPU is used after close")
        depth = getattr(self._active, "depth", 0)
        self._active.depth = depth + 1
        try:
            yield
        finally:
            self._active.depth = depth

    def allocate(self, num_bytes: int) -> FakeBuffer:
        self._called("allocate")
        if self.used_bytes + num_bytes > self.capacity:
            raise DeviceError("cuMemAlloc failed: out of memory", out_of_memory=True)
        return self._buffer(num_bytes, "device memory")

    def pin(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> FakePinned:
        self._called("pin")
        array = np.empty(shape, dtype)
        array.view(np.uint8).fill(0xCD)
        return self.take("pinned memory", FakePinned(self, array))

    def stream(self) -> FakeStream:
        self._called("stream")
        stream = self.take("stream", FakeStream(self, 0x5000 + 16 * len(self._streams)))
        self._streams.append(stream)
        return stream

    def event(self) -> FakeEvent:
        self._called("event")
        return self.take("event", FakeEvent(self))

    def upload(self, address: int, source: npt.NDArray[Any], stream: FakeStream) -> None:
        self._called("upload")
        buffer, pinned = self.buffer_at(address, source.nbytes), self._pinned_of(source)
        before = source.copy()

        def run() -> None:
            same = np.array_equal(source, before)
            self.require(same, "page-locked memory is written before its copy to the GPU is done")
            buffer.data[: source.nbytes] = source.reshape(-1).view(np.uint8)

        stream.submit(run, buffer, pinned)

    def download(self, target: npt.NDArray[Any], address: int, stream: FakeStream) -> None:
        self._called("download")
        buffer, pinned = self.buffer_at(address, target.nbytes), self._pinned_of(target)
        target.view(np.uint8).fill(0xFF)  # NaN for a reader that does not wait

        def run() -> None:
            target.view(np.uint8).reshape(-1)[:] = buffer.data[: target.nbytes]

        stream.submit(run, buffer, pinned)

    def copy(self, target: int, source: int, num_bytes: int, stream: FakeStream) -> None:
        self._called("copy")
        there, here = self.span_at(target, num_bytes), self.span_at(source, num_bytes)

        def run() -> None:
            there.data[:] = here.data

        stream.submit(run, there.owner, here.owner)

    def close(self) -> None:
        left = {kind: len(held) for kind, held in self.live.items() if held and kind != OTHERS}
        self.require(not left, f"the GPU is left with {left} in use")
        if not self.closed:
            self.log.append("leave the GPU")
        self.closed += 1

    # --- what the doubles and tests use ---------------------------------------------------------------

    def of_others(self, num_bytes: int) -> FakeBuffer:
        """Take memory for somebody else in the process, who may keep it beyond `close`."""
        return self._buffer(num_bytes, OTHERS)

    @property
    def used_bytes(self) -> int:
        return sum(buffer.num_bytes for buffer in self.live.get("device memory", []))

    def require(self, holds: object, words: str) -> None:
        self.note(holds, words)
        if not holds:
            raise ContractError(words)

    def note(self, holds: object, words: str) -> None:
        """Keep what is wrong for the end of the test; as `require`, for destructors, which cannot raise."""
        if not holds:
            self.violations.append(words)

    @property
    def is_active(self) -> bool:
        return getattr(self._active, "depth", 0) > 0

    def require_active(self, what: str) -> None:
        self.require(self.is_active, f"{what}: the GPU is not active in this thread")

    def take(self, kind: str, held: Any) -> Any:
        self.live.setdefault(kind, []).append(held)
        return held

    def give_back(self, kind: str, held: object) -> None:
        self.log.append(f"free {kind}")
        self.require_active(f"free {kind}")
        self.require(any(held is other for other in self.live[kind]), f"{kind} is given back twice")
        waiting = [operation for stream in self._streams for operation in stream.queue]
        used = any(held is other for operation in waiting for other in operation.uses)
        self.require(not used, f"{kind} is given back while the GPU may still use it")
        self.live[kind] = [other for other in self.live[kind] if other is not held]

    def buffer_at(self, address: int, num_bytes: int) -> FakeBuffer:
        for buffer in self.live.get("device memory", []):
            if buffer.address == address:
                self.require(num_bytes <= buffer.num_bytes, f"{num_bytes} bytes for {buffer.num_bytes}")
                return buffer  # type: ignore[no-any-return]
        self.require(False, f"no memory of this GPU begins at {address:#x}")
        raise AssertionError

    def span_at(self, address: int, num_bytes: int) -> Span:
        """Return bytes that lie anywhere in memory."""
        for buffer in self.live.get("device memory", []) + self.live.get(OTHERS, []):
            start = address - buffer.address
            if 0 <= start < buffer.num_bytes:
                words = f"{start + num_bytes} bytes for {buffer.num_bytes}"
                self.require(start + num_bytes <= buffer.num_bytes, words)
                return Span(buffer, buffer.data[start : start + num_bytes])
        self.require(self.is_host, f"no memory of this GPU begins at {address:#x}")
        block = (ctypes.c_uint8 * num_bytes).from_address(address)
        return Span(None, np.ctypeslib.as_array(block))

    def stream_of(self, handle: int) -> FakeStream:
        self.require(handle != 0, "the default stream is used, which waits for all others")
        found = [stream for stream in self._streams if stream.handle == handle]
        self.require(found, f"{handle:#x} is no stream of this GPU")
        return found[0]

    def force(self, operation: Operation) -> None:
        """Run what must be done before an operation is, and it."""
        while not operation.done:
            self.raise_broken()
            first = operation.stream.queue[0]
            if first.after is not None:
                self.force(first.after)
            self._run_first(operation.stream)

    def hurry_on(self) -> None:
        """Run some of what could run."""
        while self.hurry is not None and self.hurry.random() < 0.5:
            ready = [s for s in self._streams if s.queue and (not s.queue[0].after or s.queue[0].after.done)]
            if not ready:
                return
            self._run_first(self.hurry.choice(ready))

    def raise_broken(self) -> None:
        if self.broken is not None:
            for stream in self._streams:
                stream.queue.clear()  # nothing runs any more
            raise self.broken

    def _run_first(self, stream: FakeStream) -> None:
        operation = stream.queue.popleft()
        operation.done = True  # what fails does not come back
        if self.broken is None:
            operation.run()
        self.raise_broken()

    def _buffer(self, num_bytes: int, kind: str) -> FakeBuffer:
        garbage = np.full(num_bytes, 0xCD, np.uint8)
        buffer = FakeBuffer(self, self._next_address, garbage, kind)
        self._next_address += -(-num_bytes // 256) * 256 + 256
        return self.take(kind, buffer)  # type: ignore[no-any-return]

    def _called(self, call: str) -> None:
        self.require_active(call)
        if self.calls_until_fault is not None:
            self.calls_until_fault -= 1
            if self.calls_until_fault < 0:
                self.calls_until_fault = None
                raise DeviceError(f"{call} failed: unknown error")
        if call in self.faults:
            raise self.faults.pop(call)
        self.raise_broken()

    def _pinned_of(self, array: npt.NDArray[Any]) -> FakePinned:
        self.require(array.flags.c_contiguous, "a copy of memory with gaps")
        for pinned in self.live.get("pinned memory", []):
            if np.may_share_memory(pinned.array, array):
                return pinned  # type: ignore[no-any-return]
        self.require(False, "a copy of memory that is not page-locked: the program would wait for it")
        raise AssertionError
