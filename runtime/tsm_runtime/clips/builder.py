"""Frame times to clips: which frame fills which place of which interval.

Interval k is [k*s, k*s + t) seconds, where the stride s is t unless intervals overlap. It gets T frames, at
even steps of w/T through the window of w >= t seconds around its middle: k*s + t/2 - w/2 + (i + 1/2) * w/T
for i = 0..T-1. The frame of a moment is the one on screen; before the first frame it is the first, beyond the
last one the last. `slot` below is the number k*T + i of place i of interval k.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt

from tsm_runtime.clips.pool import FramePool
from tsm_runtime.clips.spec import TIME_TOLERANCE_SECONDS, ClipSpec, count_intervals

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ClipBatch:
    """Clips ready for a backend, owned by whoever receives them.

    Args:
        indices: (N,) int64 interval numbers, increasing.
        frames: (N, T, size, size, 3) uint8 RGB.
        spec: T, size, and where the intervals lie.
        memory: array that `frames` is the first part of, to be given back to the pool that it is from.
    """

    indices: npt.NDArray[np.int64]
    frames: npt.NDArray[np.uint8]
    spec: ClipSpec
    memory: npt.NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        size = self.spec.size
        expected = (len(self.indices), self.spec.num_frames, size, size, 3)
        if self.frames.shape != expected or self.frames.dtype != np.uint8:
            raise ValueError(f"expected uint8 {expected}, got {self.frames.dtype} {self.frames.shape}")

    @property
    def end_seconds(self) -> float:
        """End of the last interval."""
        return (int(self.indices[-1]) + self.spec.num_overlapping) * self.spec.stride_seconds


@dataclass(slots=True)
class ClipBuilder:
    """Fills batches of clips from frames that arrive in order of time; asks only for pictures it needs.

    Clips whose windows overlap share their pictures until they are complete.

    Args:
        spec: what the model takes.
        batch_size: N of a full batch.
        first_interval: intervals before this one are left out.
        stop_interval: first interval left out at the end; None: all that the video has.
        memory: where the arrays of batches are taken from.
    """

    spec: ClipSpec
    batch_size: int
    first_interval: int = 0
    stop_interval: int | None = None
    memory: FramePool = field(default_factory=FramePool)
    gaps: list[tuple[float, float]] = field(default_factory=list, init=False)
    """Stretches of the asked part longer than t without a new frame, [start, end) in seconds."""
    breaks: set[int] = field(default_factory=set, init=False)
    """Interval numbers k such that a gap lies between intervals k - 1 and k, none of which is left out."""
    _ready: list[int] = field(default_factory=list, init=False)
    """Complete intervals, which lie in this order at the begin of the batch."""
    _batch: Picture | None = field(default=None, init=False)
    """(batch_size, T, size, size, 3), the batch that is being filled."""
    _filling: dict[int, dict[int, Picture]] = field(default_factory=dict, init=False)
    _known_seconds: float = field(default=0.0, init=False)
    _left_out: list[range] = field(default_factory=list, init=False)
    _begun: bool = field(default=False, init=False)
    _last_picture: Callable[[], Picture] | None = field(default=None, init=False)

    def push(
        self, start_seconds: float, end_seconds: float, picture: Callable[[], Picture]
    ) -> Iterator[ClipBatch]:
        """Take the frame shown in [start, end), where end is the start of the next frame.

        Args:
            start_seconds: presentation time of the frame.
            end_seconds: presentation time of its successor.
            picture: gives the (size, size, 3) uint8 picture; called at most once, and only if needed: now, or
                when the video ends with this frame.

        Yields:
            Batches that became full.
        """
        slots = self.take_slots(start_seconds, end_seconds)
        if self.spec.margin_seconds > 0:
            picture = self._last_picture = cache(picture)
        if slots:
            self._fill(slots, picture())
        self._known_seconds = max(self._known_seconds, end_seconds)
        yield from self._full_batches()

    def take_slots(self, start_seconds: float, end_seconds: float) -> list[int]:
        """Return the slots of asked intervals that show a frame, and note gaps; part of `push`.

        Alone it is for whom pictures go elsewhere than into clips: once per frame, in order of time.
        """
        if end_seconds - start_seconds > self.spec.interval_seconds + TIME_TOLERANCE_SECONDS:
            self._note_gap(start_seconds, end_seconds)
        since = start_seconds if self._begun else start_seconds - self.spec.margin_seconds
        self._begun = True
        firsts = np.maximum(self.spec.first_intervals(since), self.first_interval)
        stops = np.minimum(self.spec.first_intervals(end_seconds), self._stop_interval)
        slots = []
        for place in np.flatnonzero(firsts < stops).tolist():
            for part in _without(range(int(firsts[place]), int(stops[place])), self._left_out):
                slots += [interval * self.spec.num_frames + place for interval in part]
        return sorted(slots)

    def restart(self, seconds: float) -> Iterator[ClipBatch]:
        """Begin anew where the video's clock does: no interval and no window reaches across.

        Yields:
            Batches that became full.
        """
        yield from self._complete_windows()
        before = self.spec.num_intervals(self._known_seconds)
        first = -count_intervals(-seconds, self.spec.stride_seconds)  # ceil
        if before == first:
            self.breaks.add(first)  # no interval is lost, so that the merging has to know
        self.first_interval = max(self.first_interval, first)
        self._filling.clear()
        self._begun = False

    def finish(self) -> Iterator[ClipBatch]:
        """Give out what is complete but did not fill a batch; an interval cut off by the end is dropped.

        Where a window reaches beyond the end, the last frame takes the places there.
        """
        yield from self._complete_windows()
        if self._ready:
            yield self._pop_batch()
        self.discard()

    def _complete_windows(self) -> Iterator[ClipBatch]:
        complete = self.spec.num_intervals(self._known_seconds)
        waiting = [clip for interval, clip in self._filling.items() if interval < complete]
        if waiting and self._last_picture is not None:
            last = self._last_picture()
            for clip in waiting:
                clip.update({place: last for place in range(self.spec.num_frames) if place not in clip})
        yield from self._full_batches()

    def discard(self) -> None:
        """Give back the memory of what was not given out."""
        self._filling.clear()
        self._ready.clear()
        self._last_picture = None
        if self._batch is not None:
            self.memory.give(self._batch)
            self._batch = None

    @property
    def next_interval(self) -> int:
        """The first interval that may still be given out, if none is ready and waits for a full batch."""
        return min((self.spec.num_intervals(self._known_seconds), *self._filling))

    @property
    def _stop_interval(self) -> float:
        return math.inf if self.stop_interval is None else self.stop_interval

    def _note_gap(self, start_seconds: float, end_seconds: float) -> None:
        """Leave out the intervals without any frame of their own; where there is none, note the break."""
        t, stride = self.spec.interval_seconds, self.spec.stride_seconds
        before = count_intervals(start_seconds, stride) + 1  # first one that begins after this frame
        after = self.spec.num_intervals(end_seconds)  # first one that ends after the next frame's begin
        if before == after:
            self.breaks.add(after)  # no interval is lost, so the gap must be told to the merge
        reach = (t + self.spec.window_seconds) / 2
        self._left_out = [out for out in self._left_out if out.stop * stride + reach > start_seconds]
        self._left_out.append(range(before, after))
        for interval in [k for k in self._filling if before <= k < after]:
            del self._filling[interval]
        stop_seconds = math.inf if self.stop_interval is None else (self.stop_interval - 1) * stride + t
        if end_seconds > self.first_interval * stride and start_seconds < stop_seconds:
            self.gaps.append((start_seconds, end_seconds))

    def _fill(self, slots: list[int], picture: Picture) -> None:
        for slot in slots:
            interval, place = divmod(slot, self.spec.num_frames)
            self._filling.setdefault(interval, {})[place] = picture

    def _full_batches(self) -> Iterator[ClipBatch]:
        complete, num_frames = self.spec.num_intervals(self._known_seconds), self.spec.num_frames
        for interval in sorted(
            k for k, clip in self._filling.items() if k < complete and len(clip) == num_frames
        ):
            self._add(interval, self._filling.pop(interval))
            if len(self._ready) == self.batch_size:
                yield self._pop_batch()

    def _add(self, interval: int, clip: dict[int, Picture]) -> None:
        """Copy a complete clip into the batch."""
        spec = self.spec
        if self._batch is None:
            self._batch = self.memory.take((self.batch_size, spec.num_frames, spec.size, spec.size, 3))
        frames = self._batch[len(self._ready)]
        for place, picture in clip.items():
            frames[place] = picture
        self._ready.append(interval)

    def _pop_batch(self) -> ClipBatch:
        memory, self._batch = self._batch, None
        taken, self._ready = self._ready, []
        assert memory is not None
        frames = memory if len(taken) == len(memory) else memory[: len(taken)]
        return ClipBatch(np.array(taken, np.int64), frames, self.spec, memory)


def _without(intervals: range, left_out: Iterable[range]) -> Iterator[range]:
    """Yield the parts of a range outside of others, which are in order and apart.

    >>> list(_without(range(2, 9), [range(0, 3), range(5, 5), range(6, 7)]))
    [range(3, 6), range(7, 9)]
    """
    start = intervals.start
    for out in left_out:
        if len(out) and out.stop > start:
            if start < min(out.start, intervals.stop):
                yield range(start, min(out.start, intervals.stop))
            start = out.stop
    if start < intervals.stop:
        yield range(start, intervals.stop)
