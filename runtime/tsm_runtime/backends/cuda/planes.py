"""Planes of decoded pictures on the GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from av import VideoFrame

PLANES = ("y", "uv")


@dataclass(frozen=True, slots=True)
class Planes:
    """The planes of pictures of one size, each plane's pictures without gaps between them.

    Args:
        num_pictures: N.
        shapes: (rows, bytes of a row) of a picture's plane, padding included, by name.
        addresses: of the first picture's plane.
    """

    num_pictures: int
    shapes: Mapping[str, tuple[int, int]]
    addresses: Mapping[str, int]

    @classmethod
    def of(cls, frame: VideoFrame) -> Self:
        """Return the planes of a frame where they lie."""
        planes = dict(zip(PLANES, frame.planes, strict=True))
        shapes = {name: (plane.height, plane.line_size) for name, plane in planes.items()}
        return cls(1, shapes, {name: plane.buffer_ptr for name, plane in planes.items()})

    def num_bytes(self, name: str) -> int:
        """Return the bytes of one picture's plane."""
        rows, row_bytes = self.shapes[name]
        return rows * row_bytes


def copies_into(address: Mapping[str, int], pictures: Sequence[Planes]) -> list[tuple[int, int, int]]:
    """Return target, source and bytes of each copy that puts pictures of one size one after another.

    Args:
        address: of the first picture's copy, by plane.
        pictures: one each.
    """
    return [
        (address[name] + place * picture.num_bytes(name), source, picture.num_bytes(name))
        for place, picture in enumerate(pictures)
        for name, source in picture.addresses.items()
    ]
