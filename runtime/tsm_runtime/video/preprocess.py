"""Inputs of `preprocess.onnx` for a picture, so that its output equals that of swscale."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from av import VideoFrame

from tsm_runtime.errors import VideoError
from tsm_runtime.video.convert import FrameConverter, display_matrix
from tsm_runtime.video.crop import Crop, stored_half

PREPROCESS_MODEL = "preprocess.onnx"

VIEW_SHAPES = {"sample_bytes": (1,), "part": (4,), "colour": (3, 4), "turn": (3,)}
"""Inputs of `preprocess.onnx` that are not planes, by name."""

_SAMPLE_BYTES = {"nv12": 1, "p010le": 2, "p016le": 2}
"""Pixel formats of NVDEC for 4:2:0 of 8, 10 and 12 bits."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureView:
    """Inputs of `preprocess.onnx` beside the two planes, all float32.

    Args:
        sample_bytes: (1,), 1: samples are bytes (NV12); 2: the high bits of 16, low byte first (P010, P016).
        part: (4,) x, y, width, height of the visible part, in luma pixels of the stored picture.
        colour: (3, 4), RGB = colour @ (Y, U, V, 1), over 0 to 255.
        turn: (3,), 1 or 0: transpose, then reverse the rows, then the columns.
    """

    sample_bytes: Floats
    part: Floats
    colour: Floats
    turn: Floats

    def __post_init__(self) -> None:
        shapes = {name: value.shape for name, value in self.inputs().items()}
        if shapes != VIEW_SHAPES:
            raise ValueError(f"expected shapes {VIEW_SHAPES}, got {shapes}")

    def inputs(self) -> dict[str, Floats]:
        """Return the inputs by their names in the graph."""
        return {name: getattr(self, name) for name in VIEW_SHAPES}


def view_of(frame: VideoFrame, size: int, crop: Crop = "", hidden: tuple[int, int] = (0, 0)) -> PictureView:
    """Return the orientation, crop and colours of a frame.

    Args:
        frame: decoded frame, on the GPU or not; pixels are not read.
        size: edge of the output picture in pixels.
        crop: see `FrameConverter`.
        hidden: columns at the left and rows at the top that are not part of the picture.

    Raises:
        VideoError: the picture cannot be halved.
    """
    left, top = hidden
    a, b, c, d = matrix = display_matrix(frame)
    lying = abs(b) > abs(a)
    columns, rows = (c, b) if lying else (a, d)
    return PictureView(
        sample_bytes=np.array([sample_bytes(frame) or 1], np.float32),
        part=_part(frame.width - left, frame.height - top, crop, matrix)
        + np.array([left, top, 0, 0], np.float32),
        colour=measured_colour(frame.colorspace, frame.color_range, odd=size % 2 == 1),
        turn=np.array([lying, rows < 0, columns < 0], np.float32),
    )


def sample_bytes(frame: VideoFrame) -> int | None:
    """Return the bytes per sample of a picture, on the GPU or not; None if the graph does not support it."""
    lies_as = frame.sw_format if frame.sw_format is not None else frame.format
    return _SAMPLE_BYTES.get(lies_as.name)


def _part(width: int, height: int, crop: Crop, matrix: tuple[float, float, float, float]) -> Floats:
    if not crop:
        return np.array([0, 0, width, height], np.float32)
    if crop not in ("left", "right"):
        raise VideoError("windows of panoramas are cut out on the CPU")
    half = stored_half(crop, matrix)
    if min(width, height) < 2:
        raise VideoError(f"pictures of {width} x {height} have no {half} half")
    if half in ("left", "right"):
        width, x, y = width // 2, width // 2 if half == "right" else 0, 0
    else:
        height, x, y = height // 2, 0, height // 2 if half == "bottom" else 0
    return np.array([x, y, width, height], np.float32)


_LUMA, _CHROMA = range(61, 191, 8), range(109, 149, 5)
"""Values that every colour matrix maps to 0 to 255."""


@lru_cache(maxsize=64)
def measured_colour(colorspace: int, color_range: int, *, odd: bool = False) -> Floats:
    """Return the (3, 4) float32 matrix nearest to swscale's conversion of a colour space and range.

    The matrix is measured (least squares over plain pictures) and not taken from ITU-R BT.601 or BT.709:
    swscale's tables for limited range are up to 1.8 levels darker than the standards, and an unspecified
    colour space has no standard.

    Args:
        colorspace: see `VideoFrame.colorspace`.
        color_range: see `VideoFrame.color_range`.
        odd: the output size is odd, so that swscale computes instead of using tables.
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
    colour.flags.writeable = False  # the array is shared
    return colour
