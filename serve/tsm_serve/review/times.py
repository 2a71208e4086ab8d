"""Presentation times of frames, from the runtime's own reader."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from tsm_runtime.video.reader import VideoReader

BLOCK_SECONDS = 10.0
"""Times are read and kept in blocks of so many seconds."""

_BLOCKS_KEPT = 512

_Key = tuple[Path, int]


class FrameTimes:
    """When each frame of a video is on screen; blocks are decoded when needed and kept.

    Threads may use it at once; they decode one after another.
    """

    def __init__(self) -> None:
        self._blocks: OrderedDict[_Key, tuple[float, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def block(self, path: Path, number: int) -> tuple[float, ...]:
        """Return the times in [number, number + 1) * `BLOCK_SECONDS`, increasing, 0 being the first frame.

        Raises:
            VideoError: the video cannot be read.
        """
        with self._lock:
            if (path, number) not in self._blocks:
                self._blocks[path, number] = _read_block(path, number)
                while len(self._blocks) > _BLOCKS_KEPT:
                    self._blocks.popitem(last=False)
            self._blocks.move_to_end((path, number))
            return self._blocks[path, number]


def all_times(path: Path) -> list[float]:
    """Return the times of all frames, by decoding the whole video.

    Raises:
        VideoError: the video cannot be read.
    """
    with VideoReader(path) as reader:
        return [timed.start_seconds for timed in reader.frames()]


def _read_block(path: Path, number: int) -> tuple[float, ...]:
    start, end = number * BLOCK_SECONDS, (number + 1) * BLOCK_SECONDS
    times = []
    with VideoReader(path) as reader:
        for timed in reader.frames(start):
            if timed.start_seconds >= end:
                break
            if timed.start_seconds >= start:
                times.append(round(timed.start_seconds, 6))
    return tuple(times)
