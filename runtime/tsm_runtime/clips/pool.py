"""Reuse of batch memory: fresh memory costs a page fault for every 4 KiB."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tsm_runtime.errors import RunError
from tsm_runtime.wording import counted


class FramePool:
    """Thread-safe pool of arrays.

    Args:
        make: allocates an array of a shape; default: in host memory.
    """

    def __init__(self, make: Callable[[tuple[int, ...]], npt.NDArray[np.uint8]] | None = None) -> None:
        self._make = make or _plain
        self._lock = threading.Lock()
        self._free: dict[tuple[int, ...], list[npt.NDArray[np.uint8]]] = {}

    def take(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """Return an array with undefined content.

        Raises:
            RunError: out of memory.
        """
        with self._lock:
            if held := self._free.get(shape):
                return held.pop()
        return self._make(shape)

    def give(self, array: npt.NDArray[np.uint8]) -> None:
        """Return an array of `take` to the pool; the caller must not use it afterwards."""
        with self._lock:
            self._free.setdefault(array.shape, []).append(array)


def _plain(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    try:
        return np.empty(shape, np.uint8)
    except MemoryError as error:
        raise RunError(
            f"no memory for a batch of {counted(shape[0], 'clip')}; choose a smaller one (--batch)"
        ) from error
