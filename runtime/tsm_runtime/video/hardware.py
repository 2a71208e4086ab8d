"""The interface of a decoder on a GPU, as the reader uses it; `models.nvdec` implements it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from av.codec.hwaccel import HWAccel
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

    def prepare(self, stream: VideoStream, path: Path | str, trouble: str = "") -> None:
        """Configure the decoding of an open stream.

        Args:
            stream: stream of an open container.
            path: path of the file.
            trouble: FFmpeg's reason why it cannot use the GPU for this file, or empty.

        Raises:
            VideoError: the GPU cannot decode this coding, and the CPU is not allowed.
        """
        ...
