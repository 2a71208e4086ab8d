"""Frame times to clips: which frame fills which place of which interval.

Interval k is [k*t, (k+1)*t) seconds and gets T frames, at k*t + (i + 1/2) * t/T for i = 0..T-1. Over a whole
video these moments are one even grid, (s + 1/2) * t/T with s = k*T + i: `s` is called a slot below.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import numpy.typing as npt

from tsm_runtime.crop import Crop

__all__ = [
    "TIME_TOLERANCE_SECONDS",
    "ClipBatch",
    "ClipBuilder",
    "ClipSpec",
    "count_intervals",
    "frame_indices",
]

TIME_TOLERANCE_SECONDS = 1e-6

Picture = npt.NDArray[np.uint8]


def count_intervals(duration_seconds: float, interval_seconds: float) -> int:
    """Return floor(L / t + 1e-6): the number of whole intervals (paper, 3.2)."""
    return math.floor(duration_seconds / interval_seconds + TIME_TOLERANCE_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSpec:
    """What a model takes: T = `num_frames` pictures of `size` x `size` for every `interval_seconds` = t.

    With a `crop` the pictures are of this half of the video's, as for one eye of a binocular recording.

    Raises:
        ValueError: a value is not positive, or there is no such half.
    """

    interval_seconds: float
    num_frames: int = 8
    size: int = 256
    crop: Crop = ""

    def __post_init__(self) -> None:
        if not (self.interval_seconds > 0 and self.num_frames > 0 and self.size > 0):
            raise ValueError(f"interval_seconds, num_frames and size must be positive, got {self}")
        if self.crop not in get_args(Crop):
            raise ValueError(f"crop {self.crop!r}; expected left, right or nothing")

    @property
    def slot_seconds(self) -> float:
        """Time between two sampled moments."""
        return self.interval_seconds / self.num_frames

    def first_slot(self, start_seconds: float) -> int:
        """Return the first slot whose moment is not before a frame that starts at `start_seconds`."""
        return max(0, math.ceil((start_seconds - TIME_TOLERANCE_SECONDS) / self.slot_seconds - 0.5))

    def moments(self, interval: int) -> npt.NDArray[np.float64]:
        """Return the (T,) times in seconds at which the frames of an interval are taken."""
        slots = interval * self.num_frames + np.arange(self.num_frames, dtype=np.float64)
        return (slots + 0.5) * self.slot_seconds


@dataclass(frozen=True, slots=True)
class ClipBatch:
    """Clips ready for a backend, owned by whoever receives them.

    Args:
        indices: (N,) int64 interval numbers, increasing.
        frames: (N, T, size, size, 3) uint8 RGB.
        spec: T, size, and the length of the intervals.
    """

    indices: npt.NDArray[np.int64]
    frames: npt.NDArray[np.uint8]
    spec: ClipSpec

    def __post_init__(self) -> None:
        size = self.spec.size
        expected = (len(self.indices), self.spec.num_frames, size, size, 3)
        if self.frames.shape != expected or self.frames.dtype != np.uint8:
            raise ValueError(f"expected uint8 {expected}, got {self.frames.dtype} {self.frames.shape}")

    @property
    def end_seconds(self) -> float:
        """End of the last interval."""
        return (int(self.indices[-1]) + 1) * self.spec.interval_seconds


@dataclass(slots=True)
class ClipBuilder:
    """Fills batches of clips from frames that arrive in order of time; asks only for pictures it needs.

    Args:
        spec: what the model takes.
        batch_size: N of a full batch.
        first_interval: intervals before this one are left out.
        stop_interval: first interval left out at the end; None: all that the video has.
    """

    spec: ClipSpec
    batch_size: int
    first_interval: int = 0
    stop_interval: int | None = None
    gaps: list[tuple[float, float]] = field(default_factory=list, init=False)
    """Stretches of the asked part longer than t without a new frame, [start, end) in seconds."""
    breaks: set[int] = field(default_factory=set, init=False)
    """Interval numbers k such that a gap lies across k*t."""
    _ready: list[tuple[int, Picture]] = field(default_factory=list, init=False)
    _filling: dict[int, Picture] = field(default_factory=dict, init=False)
    _known_seconds: float = field(default=0.0, init=False)

    def push(
        self, start_seconds: float, end_seconds: float, picture: Callable[[], Picture]
    ) -> Iterator[ClipBatch]:
        """Take the frame shown in [start, end), where end is the start of the next frame.

        Args:
            start_seconds: presentation time of the frame.
            end_seconds: presentation time of its successor.
            picture: gives the (size, size, 3) uint8 picture; called at most once, and only if needed.

        Yields:
            Batches that became full.
        """
        slots = self.take_slots(start_seconds, end_seconds)
        if slots:
            self._fill(slots, picture())
        self._known_seconds = max(self._known_seconds, end_seconds)
        yield from self._full_batches()

    def take_slots(self, start_seconds: float, end_seconds: float) -> list[int]:
        """Return the slots of asked intervals that show a frame, and note gaps; part of `push`.

        Alone it is for whom pictures go elsewhere than into clips: once per frame, in order of time.
        """
        return [
            slot
            for part in self._slot_ranges(start_seconds, end_seconds)
            for slot in range(max(part.start, self._first_slot), min(part.stop, self._stop_slot))
        ]

    def finish(self) -> Iterator[ClipBatch]:
        """Give out what is complete but did not fill a batch; an interval cut off by the end is dropped."""
        if self._ready:
            yield self._pop_batch(len(self._ready))
        self._filling.clear()

    @property
    def _first_slot(self) -> int:
        return self.first_interval * self.spec.num_frames

    @property
    def _stop_slot(self) -> int:
        return sys.maxsize if self.stop_interval is None else self.stop_interval * self.spec.num_frames

    def _slot_ranges(self, start_seconds: float, end_seconds: float) -> list[range]:
        """Return the slots that show this frame; intervals without any frame of their own are left out."""
        t, num_frames = self.spec.interval_seconds, self.spec.num_frames
        first, stop = self.spec.first_slot(start_seconds), self.spec.first_slot(end_seconds)
        if end_seconds - start_seconds <= t + TIME_TOLERANCE_SECONDS:
            return [range(first, stop)]
        before = count_intervals(start_seconds, t) + 1  # end of the interval in which this frame begins
        after = count_intervals(end_seconds, t)  # the interval in which the next frame begins
        if before == after:
            self.breaks.add(after)  # no interval is lost, so the gap must be told to the merge
        stop_seconds = math.inf if self.stop_interval is None else self.stop_interval * t
        if end_seconds > self.first_interval * t and start_seconds < stop_seconds:
            self.gaps.append((start_seconds, end_seconds))
        return [range(first, min(stop, before * num_frames)), range(max(first, after * num_frames), stop)]

    def _fill(self, slots: list[int], picture: Picture) -> None:
        num_frames, size = self.spec.num_frames, self.spec.size
        for slot in slots:
            interval, place = divmod(slot, num_frames)
            if interval not in self._filling:
                self._filling[interval] = np.empty((num_frames, size, size, 3), np.uint8)
            self._filling[interval][place] = picture

    def _full_batches(self) -> Iterator[ClipBatch]:
        complete = count_intervals(self._known_seconds, self.spec.interval_seconds)
        for interval in sorted(k for k in self._filling if k < complete):
            self._ready.append((interval, self._filling.pop(interval)))
        while len(self._ready) >= self.batch_size:
            yield self._pop_batch(self.batch_size)

    def _pop_batch(self, size: int) -> ClipBatch:
        taken, self._ready = self._ready[:size], self._ready[size:]
        indices, clips = zip(*taken, strict=True)
        return ClipBatch(np.array(indices, np.int64), np.stack(clips), self.spec)


def frame_indices(times: npt.NDArray[np.float64], moments: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return which frame is on screen at each moment: the last with time <= moment + 1e-6.

    Args:
        times: (F,) presentation times in seconds, not decreasing, F >= 1.
        moments: times in seconds; before the first frame the first one is taken.
    """
    found = np.searchsorted(times, moments + TIME_TOLERANCE_SECONDS, side="right") - 1
    return np.maximum(found, 0).astype(np.int64)
