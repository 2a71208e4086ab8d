"""What `preprocess.onnx` is told of a picture, so that it does what swscale would do with it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from av import VideoFrame

from tsm_runtime.crop import Crop, stored_half
from tsm_runtime.errors import VideoError
from tsm_runtime.frames import FrameConverter, display_matrix

__all__ = ["PREPROCESS_MODEL", "PictureView", "measured_colour", "view_of"]

PREPROCESS_MODEL = "preprocess.onnx"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureView:
    """Inputs of `preprocess.onnx` beside the two planes, all float32.

    Args:
        part: (4,) x, y, width, height of what is shown, in luma pixels of the stored picture.
        colour: (3, 4), RGB = colour @ (Y, U, V, 1), over 0 to 255.
        turn: (3,), 1 or 0: transpose, then reverse the rows, then the columns.
    """

    part: Floats
    colour: Floats
    turn: Floats

    def __post_init__(self) -> None:
        shapes = self.part.shape, self.colour.shape, self.turn.shape
        if shapes != ((4,), (3, 4), (3,)):
            raise ValueError(f"expected shapes (4,), (3, 4) and (3,), got {shapes}")

    def inputs(self) -> dict[str, Floats]:
        """Return them by the graph's names."""
        return {"part": self.part, "colour": self.colour, "turn": self.turn}


def view_of(frame: VideoFrame, size: int, crop: Crop = "") -> PictureView:
    """Return how a frame is to be seen: upright, its half, in its colours.

    Args:
        frame: decoded, on the GPU or not; pixels are not read.
        size: edge of the wanted picture.
        crop: as of `FrameConverter`.

    Raises:
        VideoError: the picture has no such half.
    """
    a, b, c, d = matrix = display_matrix(frame)
    lying = abs(b) > abs(a)
    columns, rows = (c, b) if lying else (a, d)
    return PictureView(
        part=_part(frame.width, frame.height, crop, matrix),
        colour=measured_colour(frame.colorspace, frame.color_range, odd=size % 2 == 1),
        turn=np.array([lying, rows < 0, columns < 0], np.float32),
    )


def _part(width: int, height: int, crop: Crop, matrix: tuple[float, float, float, float]) -> Floats:
    if not crop:
        return np.array([0, 0, width, height], np.float32)
    half = stored_half(crop, matrix)
    if min(width, height) < 2:
        raise VideoError(f"pictures of {width} x {height} have no {half} half")
    if half in ("left", "right"):
        width, x, y = width // 2, width // 2 if half == "right" else 0, 0
    else:
        height, x, y = height // 2, 0, height // 2 if half == "bottom" else 0
    return np.array([x, y, width, height], np.float32)


_LUMA, _CHROMA = range(61, 191, 8), range(109, 149, 5)
"""Values that no colour matrix takes out of 0 to 255."""


@lru_cache(maxsize=64)
def measured_colour(colorspace: int, color_range: int, *, odd: bool = False) -> Floats:
    """Return the (3, 4) float32 matrix that is nearest to what swscale does with a colour space and range.

    It is measured (least squares over plain pictures) and not taken from ITU-R BT.601 or BT.709: swscale's
    tables for limited range come out up to 1.8 levels darker than these say, and what it does with a space
    that is not told is its own choice.

    Args:
        colorspace: as `VideoFrame.colorspace`.
        color_range: as `VideoFrame.color_range`.
        odd: the size of the output is odd: swscale then computes and does not look up.
    """
    convert = FrameConverter(9 if odd else 8)
    frame = VideoFrame(16, 16, "yuv420p")
    frame.colorspace, frame.color_range = colorspace, color_range
    given, found = [], []
    for yuv in itertools.product(_LUMA, _CHROMA, _CHROMA):
        for plane, value in zip(frame.planes, yuv, strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        given.append((*yuv, 1))
        found.append(convert(frame)[0, 0])
    solution = np.linalg.lstsq(np.array(given, np.float64), np.array(found, np.float64), rcond=None)[0]
    colour: Floats = np.ascontiguousarray(solution.T, np.float32)
    colour.flags.writeable = False  # it is shared
    return colour
