"""The interface of a decoder on a GPU, as the reader uses it; `models.nvdec` implements it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream


class GpuContext(Protocol):
    """A GPU's context."""

    def current(self) -> AbstractContextManager[object]:
        """Make it the calling thread's context while a block runs."""
        ...


class HardwareDecoder(Protocol):
    """Decodes on a GPU; the frames stay there."""

    @property
    def context(self) -> GpuContext:
        """Context of the GPU."""
        ...

    def accelerator(self) -> HWAccel:
        """Return the accelerator for `av.open`, within `context.current()`."""
        ...

    def prepare(self, stream: VideoStream, path: Path | str, trouble: str = "") -> VideoCodecContext:
        """Configure the decoding of an open stream, and return the context that decodes it.

        Args:
            stream: stream of an open container.
            path: path of the file.
            trouble: FFmpeg's reason why it cannot use the GPU for this file, or empty.

        Raises:
            VideoError: the GPU cannot decode this coding, and the CPU is not allowed.
        """
        ...


def hidden_border(frame: VideoFrame, decoder: VideoCodecContext) -> tuple[int, int]:
    """Return the columns at the left and the rows at the top of a GPU's frame that are not to be shown.

    FFmpeg cuts off the right and the lower border of such frames, and leaves the others to the caller. The
    coded size holds all borders; where the decoder has gone over to pictures of another size meanwhile, the
    frame does not lie between the shown and the coded one.
    """
    left, top = frame.width - decoder.width, frame.height - decoder.height
    fits = frame.width <= decoder.coded_width and frame.height <= decoder.coded_height
    return (left, top) if left >= 0 and top >= 0 and fits else (0, 0)
