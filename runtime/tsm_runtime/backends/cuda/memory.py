"""Protocols for GPU memory, page-locked buffers, streams and events, as used to run a plan.

TensorRT takes addresses and stream handles as plain integers, so nothing else of the runtime knows which
library they come from: pycuda or cuda.bindings.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy.typing as npt

from tsm_runtime.backends.cuda.gpu import Gpu

ALIGNMENT = 512
"""Bytes that the address of every tensor of a plan is to be a multiple of."""


class DeviceError(Exception):
    """The GPU refused a call, in its own words.

    Args:
        message: the words.
        out_of_memory: whether they say that memory does not suffice.
    """

    def __init__(self, message: str, *, out_of_memory: bool = False) -> None:
        super().__init__(message)
        self.out_of_memory = out_of_memory


class DeviceBuffer(Protocol):
    """Memory on the GPU, owned by the caller that allocated it."""

    address: int
    num_bytes: int

    def free(self) -> None:
        """Give the memory back; nothing that was submitted may still use it."""
        ...


class PinnedBuffer(Protocol):
    """Page-locked memory of the host, which copies read and write while the program goes on."""

    array: npt.NDArray[Any]

    def free(self) -> None:
        """Give the memory back; `array` must not be touched afterwards."""
        ...


class DeviceEvent(Protocol):
    """A mark in a stream."""

    def record(self, stream: DeviceStream) -> None:
        """Mark what has been submitted to a stream so far."""
        ...

    def synchronize(self) -> None:
        """Wait until the marked work is done; at once if nothing was marked yet."""
        ...

    def free(self) -> None:
        """Give the event back."""
        ...


class DeviceStream(Protocol):
    """Work that the GPU does in order, beside that of other streams."""

    handle: int
    """What `execute_async_v3` takes; not 0, the default stream, which waits for all others."""

    def wait(self, event: DeviceEvent) -> None:
        """Let what is submitted from now on begin after the marked work of another stream."""
        ...

    def synchronize(self) -> None:
        """Wait until all submitted work is done."""
        ...

    def free(self) -> None:
        """Give the stream back."""
        ...


class DeviceMemory(Protocol):
    """One GPU. Every call but `active` and `close` is made within `active()`; all raise DeviceError."""

    gpu: Gpu
    library: str
    """What the driver is called through."""

    def active(self) -> AbstractContextManager[None]:
        """Make this GPU the one that the calling thread works with, until the block ends."""
        ...

    def allocate(self, num_bytes: int) -> DeviceBuffer:
        """Take memory on the GPU, aligned to `ALIGNMENT` bytes at least."""
        ...

    def pin(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> PinnedBuffer:
        """Take page-locked memory of the host, contiguous, its content undefined."""
        ...

    def stream(self) -> DeviceStream:
        """Make a stream that does not wait for the default one."""
        ...

    def event(self) -> DeviceEvent:
        """Make an event whose `synchronize` sleeps instead of spinning: decoding needs the cores."""
        ...

    def upload(self, address: int, source: npt.NDArray[Any], stream: DeviceStream) -> None:
        """Submit a copy to the GPU; `source`, a contiguous part of a pinned array, stays until it is done."""
        ...

    def download(self, target: npt.NDArray[Any], address: int, stream: DeviceStream) -> None:
        """Submit a copy from the GPU into a contiguous part of a pinned array."""
        ...

    def copy(self, target: int, source: int, num_bytes: int, stream: DeviceStream) -> None:
        """Submit a copy from one place on the GPU to another; any addresses, also within what was taken."""
        ...

    def close(self) -> None:
        """Leave the GPU, when everything that was taken has been given back; may be called twice."""
        ...
