"""Page-locked memory that clips are written into, so that their copy to the GPU is the only one."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.cuda.memory import DeviceError, DeviceMemory


class PinnedFrames:
    """Arrays in page-locked memory, made from any thread, all given back together.

    Args:
        memory: of the GPU, left open.
    """

    def __init__(self, memory: DeviceMemory) -> None:
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
