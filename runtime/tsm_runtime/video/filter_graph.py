"""One FFmpeg filter graph that takes frames of one kind and is built again for another kind."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import av
from av import VideoFrame
from av.filter import Graph

from tsm_runtime.errors import VideoError

Filters = tuple[tuple[str, str], ...]
"""Name and arguments of each filter, in order."""


class FrameFilter:
    """Filters frames one by one. Not thread-safe: one per thread."""

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._key: tuple[object, ...] = ()

    def __call__(self, frame: VideoFrame, filters: Filters, trouble: str) -> VideoFrame:
        """Return the filtered frame; times and colours are kept.

        Args:
            frame: of any size and pixel format.
            filters: that it passes.
            trouble: beginning of the message if FFmpeg cannot do that with this pixel format.

        Raises:
            VideoError: FFmpeg cannot filter it.
        """
        key = (frame.width, frame.height, frame.format.name, filters)
        try:
            if self._graph is None or key != self._key:
                self._graph, self._key = _graph(frame, filters), key
            self._graph.push(frame)
            cut = self._graph.pull()
        except (av.error.FFmpegError, ValueError) as error:
            raise VideoError(trouble) from error
        assert isinstance(cut, VideoFrame)  # a graph of video filters returns video frames
        # Packed formats are converted, which loses the colour properties.
        cut.colorspace, cut.color_range = frame.colorspace, frame.color_range
        return cut


def _graph(frame: VideoFrame, filters: Filters) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or Fraction(1, 1000),
    )
    chain = [source, *(graph.add(name, arguments) for name, arguments in filters), graph.add("buffersink")]
    for one, next_one in pairwise(chain):
        one.link_to(next_one)
    graph.configure()
    return graph
