"""Page-locked memory that clips are written into, so that their copy to the GPU is the only one."""

from __future__ import annotations

import ctypes
import math
import threading
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.cuda.driver import PrimaryContext
from tsm_runtime.backends.cuda.memory import DeviceError, PinnedBuffer
from tsm_runtime.errors import BackendError, OutOfMemoryError


class Pinning(Protocol):
    """What makes page-locked memory; see `DeviceMemory`."""

    def active(self) -> AbstractContextManager[object]:
        """Make the GPU that of the calling thread, until the block ends."""
        ...

    def pin(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> PinnedBuffer:
        """Take page-locked memory, within `active()`."""
        ...


@dataclass(eq=False, slots=True)
class _DriverBuffer:
    array: npt.NDArray[Any]
    primary: PrimaryContext
    address: int

    def free(self) -> None:
        self.primary.unpin(self.address)


@dataclass(frozen=True, slots=True)
class DriverPinning:
    """Page-locked memory by the driver alone, for backends without `DeviceMemory`."""

    primary: PrimaryContext

    def active(self) -> AbstractContextManager[object]:
        """Do nothing: each call makes the GPU that of the calling thread."""
        return nullcontext()

    def pin(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> PinnedBuffer:
        """Take page-locked memory.

        Raises:
            DeviceError: the system locks no more.
        """
        num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        try:
            address = self.primary.pin(num_bytes)
        except (BackendError, OutOfMemoryError) as error:
            raise DeviceError(str(error), out_of_memory=isinstance(error, OutOfMemoryError)) from error
        memory = (ctypes.c_uint8 * num_bytes).from_address(address)
        return _DriverBuffer(np.ctypeslib.as_array(memory).view(dtype).reshape(shape), self.primary, address)


class PinnedFrames:
    """Arrays in page-locked memory, made from any thread, all given back together.

    Args:
        memory: of the GPU, left open.
    """

    def __init__(self, memory: Pinning) -> None:
        self._memory = memory
        self._lock = threading.Lock()
        self._held: ExitStack | None = ExitStack()
        self._ranges: list[tuple[int, int]] = []

    def make(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """Return an array; of plain memory where the system locks no more, or after `free`."""
        with self._lock:
            if self._held is not None:
                try:
                    with self._memory.active():
                        pinned = self._memory.pin(shape, np.uint8)
                except DeviceError:
                    return np.empty(shape, np.uint8)
                self._held.callback(pinned.free)
                self._ranges.append(_range(pinned.array))
                return pinned.array
        return np.empty(shape, np.uint8)

    def holds(self, frames: npt.NDArray[np.uint8]) -> bool:
        """Whether an array is a contiguous part of one that was made here, and can be copied as it is."""
        if not frames.size or not frames.flags.c_contiguous:
            return False
        start, stop = _range(frames)
        with self._lock:
            return any(first <= start and stop <= last for first, last in self._ranges)

    def free(self) -> None:
        """Give all arrays back; nothing that was submitted may still read them."""
        with self._lock:
            held, self._held = self._held, None
            self._ranges.clear()
            if held is not None:
                held.close()


def _range(array: npt.NDArray[np.uint8]) -> tuple[int, int]:
    start = array.__array_interface__["data"][0]
    return start, start + array.nbytes
