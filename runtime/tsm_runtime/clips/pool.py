"""Memory of batches, used again and again: fresh memory costs a page fault for every 4 KiB."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tsm_runtime.errors import RunError


class FramePool:
    """Arrays that are taken and given back, from any thread.

    Args:
        make: makes an array of a shape where none is at hand; default: of plain memory.
    """

    def __init__(self, make: Callable[[tuple[int, ...]], npt.NDArray[np.uint8]] | None = None) -> None:
        self._make = make or _plain
        self._lock = threading.Lock()
        self._free: dict[tuple[int, ...], list[npt.NDArray[np.uint8]]] = {}

    def take(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """Return an array whose content is undefined.

        Raises:
            RunError: there is no memory for it.
        """
        with self._lock:
            if held := self._free.get(shape):
                return held.pop()
        return self._make(shape)

    def give(self, array: npt.NDArray[np.uint8]) -> None:
        """Take back an array that `take` returned; nobody may use it any more."""
        with self._lock:
            self._free.setdefault(array.shape, []).append(array)


def _plain(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    try:
        return np.empty(shape, np.uint8)
    except MemoryError as error:
        raise RunError(
            f"no memory for a batch of {shape[0]} clips; choose a smaller one (--batch)"
        ) from error
