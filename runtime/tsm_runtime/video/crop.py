"""Cropping to the half of one eye: binocular video shows both eyes side by side."""

from __future__ import annotations

from typing import Literal

from av import VideoFrame

from tsm_runtime.errors import VideoError
from tsm_runtime.video.filter_graph import FrameFilter
from tsm_runtime.video.panorama import ALL_WINDOWS, Window

Crop = Literal["", "left", "right"] | Window
"""Half of the upright picture, or window of a panorama, that is kept; empty: the whole picture."""

CROPS: tuple[str, ...] = ("", "left", "right", *ALL_WINDOWS)

_Half = Literal["left", "right", "top", "bottom"]


class HalfCropper:
    """Crops frames to a half, without copying or converting pixels. Not thread-safe: one per thread.

    An odd number of columns loses the last column.
    """

    def __init__(self) -> None:
        self._filter = FrameFilter()

    def __call__(self, frame: VideoFrame, half: _Half) -> VideoFrame:
        """Return a half of the stored frame; times and colours are kept.

        Raises:
            VideoError: the picture cannot be halved, or FFmpeg cannot crop its pixel format.
        """
        kind = f"{frame.width} x {frame.height} {frame.format.name}"
        if min(frame.width, frame.height) < 2:
            raise VideoError(f"pictures of {kind} have no {half} half")
        width = frame.width // 2 if half in ("left", "right") else frame.width
        height = frame.height // 2 if half in ("top", "bottom") else frame.height
        x = width if half == "right" else 0
        y = height if half == "bottom" else 0
        crop = ("crop", f"{width}:{height}:{x}:{y}:exact=1")
        return self._filter(frame, (crop,), f"of pictures of {kind} the {half} half cannot be cut out")


def stored_half(crop: Literal["left", "right"], matrix: tuple[float, float, float, float]) -> _Half:
    """Return the half of the stored picture that is a given half of the upright picture.

    Args:
        crop: half of the upright picture.
        matrix: a, b, c, d of the display matrix, see `tsm_runtime.video.convert.upright`.

    >>> stored_half("left", (0.0, 1.0, -1.0, 0.0))  # shown rotated clockwise by a quarter turn
    'bottom'
    """
    a, b, c, _ = matrix
    lying = abs(b) > abs(a)
    mirrored = (c if lying else a) < 0  # the shown columns run against the stored rows or columns
    first = (crop == "left") != mirrored
    if lying:
        return "top" if first else "bottom"
    return "left" if first else "right"
