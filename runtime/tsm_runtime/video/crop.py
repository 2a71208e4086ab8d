"""The half of a picture that belongs to one eye: binocular video shows both side by side."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import av
from av import VideoFrame
from av.filter import Graph

from tsm_runtime.errors import VideoError

Crop = Literal["", "left", "right"]
"""Which half of the upright picture is kept; empty: all of it."""

_Half = Literal["left", "right", "top", "bottom"]


class HalfCropper:
    """Cuts frames to a half, without copying or converting pixels. Not thread-safe: one per thread.

    Of an odd number of columns the half that is cut leaves out the last one.
    """

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._key: tuple[object, ...] = ()

    def __call__(self, frame: VideoFrame, half: _Half) -> VideoFrame:
        """Return the half of a frame as it is stored, its times and colours kept.

        Raises:
            VideoError: the picture has no half, or FFmpeg cannot cut this kind.
        """
        key = (frame.width, frame.height, frame.format.name, half)
        kind = f"{frame.width} x {frame.height} {frame.format.name}"
        if min(frame.width, frame.height) < 2:
            raise VideoError(f"pictures of {kind} have no {half} half")
        try:
            if self._graph is None or key != self._key:
                self._graph, self._key = _crop_graph(frame, half), key
            self._graph.push(frame)
            cut = self._graph.pull()
        except (av.error.FFmpegError, ValueError) as error:
            raise VideoError(f"of pictures of {kind} the {half} half cannot be cut out") from error
        assert isinstance(cut, VideoFrame)  # what comes out of a graph of video filters
        # A packed format passes through a conversion, which forgets what the numbers mean.
        cut.colorspace, cut.color_range = frame.colorspace, frame.color_range
        return cut


def _crop_graph(frame: VideoFrame, half: _Half) -> Graph:
    width = frame.width // 2 if half in ("left", "right") else frame.width
    height = frame.height // 2 if half in ("top", "bottom") else frame.height
    x = width if half == "right" else 0
    y = height if half == "bottom" else 0
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or Fraction(1, 1000),
    )
    crop, sink = graph.add("crop", f"{width}:{height}:{x}:{y}:exact=1"), graph.add("buffersink")
    source.link_to(crop)
    crop.link_to(sink)
    graph.configure()
    return graph


def stored_half(crop: Literal["left", "right"], matrix: tuple[float, float, float, float]) -> _Half:
    """Return where a half of the upright picture lies in the picture as it is stored.

    Args:
        crop: of the picture as it is shown.
        matrix: a, b, c, d of the display matrix, see `tsm_runtime.video.convert.upright`.

    >>> stored_half("left", (0.0, 1.0, -1.0, 0.0))  # stored lying, shown turned clockwise by a quarter
    'bottom'
    """
    a, b, c, _ = matrix
    lying = abs(b) > abs(a)
    mirrored = (c if lying else a) < 0  # the shown columns run against the stored rows or columns
    first = (crop == "left") != mirrored
    if lying:
        return "top" if first else "bottom"
    return "left" if first else "right"
