"""Clips that lie on the GPU, where `ClipBuilder` and backends else have an array."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.cuda.driver import PrimaryContext


class Drawable(Protocol):
    """A picture that is made where it is wanted."""

    @property
    def kind(self) -> Hashable:
        """Return what pictures have in common that are drawn together."""
        ...

    def draw(self, following: Sequence[Any], address: int) -> None:
        """Write this picture and others of its kind, each size * size * 3 bytes of RGB, to the GPU.

        Args:
            following: the others, which come after this one.
            address: of the first.
        """
        ...


Picture = Drawable | npt.NDArray[np.uint8]


class ClipMemory(Protocol):
    """Where clips lie; what it does is done when it returns."""

    def upload(self, address: int, data: npt.NDArray[np.uint8]) -> None:
        """Copy an array of the host's memory to an address."""
        ...

    def copy(self, copies: Iterable[tuple[int, int, int]]) -> None:
        """Copy from addresses to others: target, source and number of bytes of each."""
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

    def __setitem__(self, place: int, picture: Picture) -> None:
        """Draw a picture in its place, or copy one of the host's memory there."""
        target = self[place]
        if not isinstance(picture, np.ndarray):
            picture.draw((), target.address)
        elif picture.shape != target.shape or picture.dtype != np.uint8:
            raise ValueError(f"expected uint8 {target.shape}, got {picture.dtype} {picture.shape}")
        else:
            self._memory.upload(target.address, picture)

    def put_pictures(self, pictures: Mapping[int, Picture]) -> None:
        """Put pictures in their places; those of one kind that lie side by side are drawn in one call."""
        for run in _runs(pictures):
            first, *following = (pictures[place] for place in run)
            if following and not isinstance(first, np.ndarray):
                first.draw(following, self[run[0]].address)
            else:
                self[run[0]] = first

    def take(self, parts: Sequence[DeviceClips]) -> None:
        """Copy others here, one after another, as `numpy.concatenate` does into an array.

        Raises:
            ValueError: they are not as many as there are places, or of another shape.
        """
        shapes = [part.shape for part in parts]
        if sum(map(len, parts)) != len(self) or any(shape[1:] != self.shape[1:] for shape in shapes):
            raise ValueError(f"expected parts that make up {self.shape}, got {shapes}")
        starts = itertools.accumulate((part.nbytes for part in parts), initial=self.address)
        self._memory.copy(
            [(start, part.address, part.nbytes) for start, part in zip(starts, parts, strict=False)]
        )


def _runs(pictures: Mapping[int, Picture]) -> list[list[int]]:
    """Return the places in order, those together that follow each other and hold drawings of one kind."""
    runs: list[list[int]] = []
    for place in sorted(pictures):
        before = runs[-1][-1] if runs else None
        if before == place - 1 and _are_alike(pictures[before], pictures[place]):
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


def _are_alike(one: Picture, other: Picture) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return False
    return one.kind == other.kind


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
