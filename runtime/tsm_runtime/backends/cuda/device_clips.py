"""Clips that lie on the GPU, where `ClipBuilder` and backends else have an array."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.cuda.driver import PrimaryContext


class Drawable(Protocol):
    """A picture that is made where it is wanted."""

    def draw(self, address: int) -> None:
        """Write size * size * 3 bytes of RGB to an address on the GPU."""
        ...


class ClipMemory(Protocol):
    """Where clips lie; what it does is done when it returns."""

    def upload(self, address: int, data: npt.NDArray[np.uint8]) -> None:
        """Copy an array of the host's memory to an address."""
        ...

    def copy(self, target: int, source: int, num_bytes: int) -> None:
        """Copy from one address to another."""
        ...


class DeviceClips:
    """A uint8 array on the GPU, dense, or a part of one along its first axis.

    What of numpy's arrays clips need: shape, dtype, length, parts, and pictures put into their places.

    Args:
        shape: ends with (size, size, 3).
        address: of the first byte.
        memory: where that is.
        owner: keeps the memory there as long as a part is used.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        shape: tuple[int, ...],
        address: int,
        memory: ClipMemory,
        owner: object = None,
    ) -> None:
        self.shape, self.address, self._memory, self._owner = shape, address, memory, owner

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
        return DeviceClips(shape, self.address + start * step, self._memory, self._owner or self)

    def __setitem__(self, place: int, picture: Drawable | npt.NDArray[np.uint8]) -> None:
        """Draw a picture in its place, or copy one of the host's memory there."""
        target = self[place]
        if not isinstance(picture, np.ndarray):
            picture.draw(target.address)
        elif picture.shape != target.shape or picture.dtype != np.uint8:
            raise ValueError(f"expected uint8 {target.shape}, got {picture.dtype} {picture.shape}")
        else:
            self._memory.upload(target.address, picture)

    def take(self, parts: Sequence[DeviceClips]) -> None:
        """Copy others here, one after another, as `numpy.concatenate` does into an array.

        Raises:
            ValueError: they are not as many as there are places, or of another shape.
        """
        shapes = [part.shape for part in parts]
        if sum(map(len, parts)) != len(self) or any(shape[1:] != self.shape[1:] for shape in shapes):
            raise ValueError(f"expected parts that make up {self.shape}, got {shapes}")
        address = self.address
        for part in parts:
            self._memory.copy(address, part.address, part.nbytes)
            address += part.nbytes


class _OwnClips(DeviceClips):
    """Clips in memory of their own."""

    def __init__(self, shape: tuple[int, ...], context: PrimaryContext) -> None:
        super().__init__(shape, context.allocate(math.prod(shape)), context)
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
