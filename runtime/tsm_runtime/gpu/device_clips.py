"""Clips that lie on the GPU, where `ClipBuilder` and backends else have an array."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tsm_runtime.gpu.driver import PrimaryContext

__all__ = ["DeviceClips", "Drawable", "new_clips"]


class Drawable(Protocol):
    """A picture that is made where it is wanted."""

    def draw(self, address: int) -> None:
        """Write size * size * 3 bytes of RGB to an address on the GPU."""
        ...


class DeviceClips:
    """A uint8 array on the GPU, dense, or a part of one along its first axis.

    What of numpy's arrays clips need: shape, dtype, length, parts, and pictures put into their places.

    Args:
        shape: ends with (size, size, 3).
        address: of the first byte.
        upload: copies a picture of the host's memory to an address.
        owner: keeps the memory there as long as a part is used.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        shape: tuple[int, ...],
        address: int,
        upload: Callable[[int, npt.NDArray[np.uint8]], None],
        owner: object = None,
    ) -> None:
        self.shape, self.address, self._upload, self._owner = shape, address, upload, owner

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice) -> DeviceClips:
        """Return one entry, or a range of them."""
        step = math.prod(self.shape[1:])
        if isinstance(key, slice):
            start, stop, stride = key.indices(len(self))
            if stride != 1:
                raise ValueError("parts of clips on the GPU are without gaps")
            shape = (max(0, stop - start), *self.shape[1:])
        else:
            start, shape = range(len(self))[key], self.shape[1:]
        return DeviceClips(shape, self.address + start * step, self._upload, self._owner or self)

    def __setitem__(self, place: int, picture: Drawable | npt.NDArray[np.uint8]) -> None:
        """Draw a picture in its place, or copy one of the host's memory there."""
        target = self[place]
        if not isinstance(picture, np.ndarray):
            picture.draw(target.address)
        elif picture.shape != target.shape or picture.dtype != np.uint8:
            raise ValueError(f"expected uint8 {target.shape}, got {picture.dtype} {picture.shape}")
        else:
            self._upload(target.address, picture)


class _OwnClips(DeviceClips):
    """Clips in memory of their own."""

    def __init__(self, shape: tuple[int, ...], context: PrimaryContext) -> None:
        super().__init__(shape, context.allocate(math.prod(shape)), context.upload)
        self._context = context

    def free(self) -> None:
        """Give the memory back; a second call does nothing."""
        if self.address:
            self._context.free(self.address)
            self.address = 0


def new_clips(shape: tuple[int, ...], context: PrimaryContext) -> Any:
    """Return clips in new memory, with a `free`.

    Raises:
        OutOfMemoryError: there is not so much.
    """
    return _OwnClips(shape, context)
