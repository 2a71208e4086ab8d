"""Conversion of frames to model input: resized by swscale, upright, RGB.

Training and deployment both go through `FrameConverter`, so that a frame has the same pixels in both.
"""

from __future__ import annotations

import math
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av import VideoFrame
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.reformatter import Interpolation, VideoReformatter

from tsm_runtime.errors import VideoError
from tsm_runtime.video.crop import Crop, HalfCropper, stored_half
from tsm_runtime.video.panorama import WindowCropper, is_window

RESIZE_FLAG = "bilinear"
"""swscale flag of every resize; stored in the bundle, and a bundle with another flag is refused."""

Picture = npt.NDArray[np.uint8]


class FrameConverter:
    """Resizes frames to `size` x `size` RGB, aspect not kept. Not thread-safe: one per thread.

    Args:
        size: edge of the square picture in pixels.
        crop: keep only this half or window of the upright picture, cut out before the resize.
    """

    def __init__(self, size: int, crop: Crop = "") -> None:
        self.size = size
        self.crop = crop
        self._cropper = HalfCropper()
        self._window = WindowCropper(crop, size) if is_window(crop) else None
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Picture:
        """Return the (size, size, 3) uint8 RGB picture, turned upright by the frame's display matrix.

        Raises:
            VideoError: swscale does not support the pixel format, or the picture cannot be cropped.
        """
        matrix = display_matrix(frame)
        part = self._part(frame, matrix)
        try:
            resized = self._reformatter.reformat(
                part,
                width=self.size,
                height=self.size,
                format="rgb24",
                interpolation=Interpolation.BILINEAR,
                threads=1,  # more threads cost more than they gain at this size
            )
        except (av.error.FFmpegError, ValueError) as error:
            kind = f"{frame.width} x {frame.height} {frame.format.name}"
            raise VideoError(f"pictures of {kind} cannot be converted to RGB") from error
        # The target is square: rotation after the resize gives the same picture and moves fewer bytes.
        return _turned(np.asarray(resized.to_ndarray(), dtype=np.uint8), matrix)

    def _part(self, frame: VideoFrame, matrix: tuple[float, float, float, float]) -> VideoFrame:
        if self._window is not None:
            return self._window(frame, matrix)
        if self.crop == "left" or self.crop == "right":
            return self._cropper(frame, stored_half(self.crop, matrix))
        return frame


def upright(picture: Picture, frame: VideoFrame) -> Picture:
    """Return a picture rotated and mirrored by the display matrix, to the nearest quarter turn.

    The matrix (a, b, u, c, d, v, x, y, w) takes column p and row q to column a*p + c*q and row b*p + d*q
    (ISO/IEC 14496-12, 8.3.2); `frame.rotation` gives the rotation without the mirroring.
    """
    return _turned(picture, display_matrix(frame))


def _turned(picture: Picture, matrix: tuple[float, float, float, float]) -> Picture:
    a, b, c, d = matrix
    if abs(b) > abs(a):
        picture, a, d = picture.transpose(1, 0, 2), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def display_matrix(frame: VideoFrame) -> tuple[float, float, float, float]:
    """Return a, b, c, d of a frame's display matrix, see `upright`."""
    try:
        # frame.side_data creates a reference cycle of frame and container: large pictures would stay in
        # memory until the garbage collector runs.
        container: Any = SideDataContainer  # PyAV's stub lacks its argument and its keys
        side_data = container(frame)
        matrix = side_data.get(Type.DISPLAYMATRIX)
    except ValueError:  # PyAV fails on unknown side data; this gives the rotation only
        clockwise = math.radians(-frame.rotation)
        return math.cos(clockwise), math.sin(clockwise), -math.sin(clockwise), math.cos(clockwise)
    if matrix is None:
        return 1.0, 0.0, 0.0, 1.0
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    return a, b, c, d
