"""A GPU's memory through pycuda."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

import numpy.typing as npt

from tsm_runtime.backends.cuda.gpu import Gpu
from tsm_runtime.backends.cuda.memory import DeviceError, DeviceEvent, DeviceStream
from tsm_runtime.errors import BackendError

_Kind = TypeVar("_Kind")

_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING of cuda.h, which pycuda has no name for: such a stream waits for no other."""


class PycudaMemory:
    """The primary context of a GPU, which other libraries of the process (ONNX Runtime, FFmpeg) share.

    `pycuda.autoinit` would make a context of its own, where pointers and streams of others are invalid,
    and keep it current in the thread that imports it.

    Args:
        index: of the GPU, in CUDA's order.

    Raises:
        BackendError: pycuda is not installed, or there is no such GPU.
    """

    library = "pycuda"

    def __init__(self, index: int) -> None:
        self._cuda = _driver()
        try:
            self._cuda.init()
            device = self._cuda.Device(index)
            self.gpu = Gpu(device.name(), "{}.{}".format(*device.compute_capability()))
            self._context: Any = device.retain_primary_context()
        except self._cuda.Error as error:
            raise BackendError(
                f"no GPU {index}: {_line(error)}; does nvidia-smi list it, and what is CUDA_VISIBLE_DEVICES?"
            ) from error

    @contextmanager
    def active(self) -> Iterator[None]:
        """Push the context for the block: contexts belong to threads, and calls may come from any."""
        with _translated_errors(self._cuda):
            self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def allocate(self, num_bytes: int) -> _Buffer:
        """Take memory on the GPU."""
        with _translated_errors(self._cuda):
            return _Buffer(self._cuda.mem_alloc(num_bytes), num_bytes)

    def pin(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> _Pinned:
        """Take page-locked memory of the host."""
        with _translated_errors(self._cuda):
            return _Pinned(self._cuda.pagelocked_empty(shape, dtype))

    def stream(self) -> _Stream:
        """Make a stream that does not wait for the default one."""
        with _translated_errors(self._cuda):
            return _Stream(self._cuda, self._cuda.Stream(_NON_BLOCKING))

    def event(self) -> _Event:
        """Make an event whose waiting thread sleeps."""
        flags = self._cuda.event_flags
        with _translated_errors(self._cuda):
            return _Event(self._cuda, self._cuda.Event(flags.BLOCKING_SYNC | flags.DISABLE_TIMING))

    def upload(self, address: int, source: npt.NDArray[Any], stream: DeviceStream) -> None:
        """Submit a copy to the GPU."""
        with _translated_errors(self._cuda):
            self._cuda.memcpy_htod_async(address, source, _of(stream, _Stream).held)

    def download(self, target: npt.NDArray[Any], address: int, stream: DeviceStream) -> None:
        """Submit a copy from the GPU."""
        with _translated_errors(self._cuda):
            self._cuda.memcpy_dtoh_async(target, address, _of(stream, _Stream).held)

    def copy(self, target: int, source: int, num_bytes: int, stream: DeviceStream) -> None:
        """Submit a copy from one place on the GPU to another."""
        with _translated_errors(self._cuda):
            self._cuda.memcpy_dtod_async(target, source, num_bytes, _of(stream, _Stream).held)

    def close(self) -> None:
        """Release the primary context, from any thread; its memory goes with the last who retained it."""
        if self._context is None:
            return
        context, self._context = self._context, None
        # pycuda releases a context only in the thread that retained it or where it is current: so it is made
        # current. The driver's own stack is popped before, because releasing a primary context does not do
        # it, though pycuda counts on that: the thread would be left with a context that may be gone.
        with _translated_errors(self._cuda):
            context.push()
            _pop_in_driver()
            context.detach()


class _Buffer:
    def __init__(self, allocation: Any, num_bytes: int) -> None:
        self._allocation = allocation
        self.address = int(allocation)
        self.num_bytes = num_bytes

    def free(self) -> None:
        self._allocation.free()


class _Pinned:
    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array = array

    def free(self) -> None:
        self.array.base.free()  # type: ignore[union-attr]  # a PagelockedHostAllocation


class _Held:
    def __init__(self, cuda: ModuleType, held: Any) -> None:
        self._cuda, self.held = cuda, held

    def synchronize(self) -> None:
        with _translated_errors(self._cuda):
            self.held.synchronize()

    def free(self) -> None:
        self.held = None  # pycuda destroys it with its object


class _Event(_Held):
    def record(self, stream: DeviceStream) -> None:
        with _translated_errors(self._cuda):
            self.held.record(_of(stream, _Stream).held)


class _Stream(_Held):
    def __init__(self, cuda: ModuleType, held: Any) -> None:
        super().__init__(cuda, held)
        self.handle: int = held.handle

    def wait(self, event: DeviceEvent) -> None:
        with _translated_errors(self._cuda):
            self.held.wait_for_event(_of(event, _Event).held)


def _of(given: object, kind: type[_Kind]) -> _Kind:
    if not isinstance(given, kind):
        raise TypeError(f"expected what PycudaMemory made, got {type(given).__name__}")
    return given


def _driver() -> Any:
    try:
        import pycuda.driver
    except ImportError as error:  # not installed, or without the driver's library, which it links
        raise BackendError(
            f"plans need pycuda, which does not load ({error}): pip install 'tsm-tal[tensorrt]'"
            " on a machine with an NVIDIA driver and CUDA's toolkit, or 'tsm-tal[tensorrt-bindings]' without"
            " a toolkit"
        ) from error
    return pycuda.driver


@contextmanager
def _translated_errors(cuda: Any) -> Iterator[None]:
    """Convert exceptions of pycuda to `DeviceError`."""
    try:
        yield
    except cuda.Error as error:
        raise DeviceError(_line(error), out_of_memory=isinstance(error, cuda.MemoryError)) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _pop_in_driver() -> None:
    library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    popped = ctypes.c_void_p()
    library.cuCtxPopCurrent_v2(ctypes.byref(popped))
