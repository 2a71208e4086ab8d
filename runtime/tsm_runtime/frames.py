"""One picture of a video as the model sees it: resized by swscale, upright, RGB.

Training and deployment both go through `FrameConverter`, so that a frame has the same pixels in both.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from av import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

__all__ = ["RESIZE_FLAG", "FrameConverter"]

RESIZE_FLAG = "bilinear"
"""The swscale flag of every resize; stored in the bundle, and a bundle with another one is refused."""


class FrameConverter:
    """Resizes frames to `size` x `size` RGB, aspect not kept. Not thread-safe: one per thread.

    Args:
        size: edge of the square picture in pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        """Return the (size, size, 3) uint8 RGB picture, turned upright by the frame's display matrix."""
        resized = self._reformatter.reformat(
            frame,
            width=self.size,
            height=self.size,
            format="rgb24",
            interpolation=Interpolation.BILINEAR,
            threads=1,  # more threads cost more than they gain at this size
        )
        picture = resized.to_ndarray()
        quarter_turns = round(frame.rotation / 90) % 4
        # The target is square, so turning after the resize gives the same picture and moves fewer bytes.
        return np.rot90(picture, quarter_turns) if quarter_turns else picture
