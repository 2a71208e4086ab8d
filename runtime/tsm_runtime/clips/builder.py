"""Assembly of frames into clips by their times.

Interval k is [k*s, k*s + t) seconds, where the stride s is t unless intervals overlap. It gets T frames, at
even steps of w/T through the window of w >= t seconds around its middle: k*s + t/2 - w/2 + (i + 1/2) * w/T
for i = 0..T-1. Each of these times takes the frame on screen, clamped to the first and last frame of the
video. A slot is the number k*T + i of place i of interval k.
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
    """Clips ready for a backend, owned by the receiver.

    Args:
        indices: (N,) int64 interval numbers, increasing.
        frames: (N, *spec.clip_shape) uint8, of a video (N, T, size, size, 3) RGB.
        spec: T, picture size, and the grid of intervals.
        memory: array that contains `frames`, to be returned to its pool.
    """

    indices: npt.NDArray[np.int64]
    frames: npt.NDArray[np.uint8]
    spec: ClipSpec
    memory: npt.NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        expected = (len(self.indices), *self.spec.clip_shape)
        if self.frames.shape != expected or self.frames.dtype != np.uint8:
            raise ValueError(f"expected uint8 {expected}, got {self.frames.dtype} {self.frames.shape}")

    @property
    def end_seconds(self) -> float:
        """End of the last interval in seconds."""
        return (int(self.indices[-1]) + self.spec.num_overlapping) * self.spec.stride_seconds


@dataclass(slots=True)
class ClipBuilder:
    """Fills batches of clips from frames that arrive in order of time; requests only the pictures it needs.

    Clips whose windows overlap share their pictures until they are complete.

    Args:
        spec: input of the model.
        batch_size: N of a full batch.
        first_interval: first interval of the requested part.
        stop_interval: end of the requested part, exclusive; None: the end of the video.
        memory: pool of the batch arrays.
    """

    spec: ClipSpec
    batch_size: int
    first_interval: int = 0
    stop_interval: int | None = None
    memory: FramePool = field(default_factory=FramePool)
    gaps: list[tuple[float, float]] = field(default_factory=list, init=False)
    """Stretches of the requested part longer than t without a new frame, [start, end) in seconds."""
    breaks: set[int] = field(default_factory=set, init=False)
    """Interval numbers k such that a gap lies between k - 1 and k and neither interval is left out."""
    _ready: list[int] = field(default_factory=list, init=False)
    """Complete intervals, in the order of the batch."""
    _batch: Picture | None = field(default=None, init=False)
    """(batch_size, *spec.clip_shape), the current batch."""
    _filling: dict[int, dict[int, Picture]] = field(default_factory=dict, init=False)
    _known_seconds: float = field(default=0.0, init=False)
    _left_out: list[range] = field(default_factory=list, init=False)
    _begun: bool = field(default=False, init=False)
    _last_picture: Callable[[], Picture] | None = field(default=None, init=False)

    def push(
        self, start_seconds: float, end_seconds: float, picture: Callable[[], Picture]
    ) -> Iterator[ClipBatch]:
        """Add the frame shown in [start, end), where end is the start of the next frame.

        Args:
            start_seconds: presentation time of the frame.
            end_seconds: presentation time of its successor.
            picture: returns the uint8 picture, of `spec.picture_shape`; called at most once, only if needed:
                during this call, or when the video ends with this frame.

        Yields:
            Full batches.
        """
        slots = self.take_slots(start_seconds, end_seconds)
        if self.spec.margin_seconds > 0:
            picture = self._last_picture = cache(picture)
        if slots:
            self._fill(slots, picture())
        self._known_seconds = max(self._known_seconds, end_seconds)
        yield from self._full_batches()

    def take_slots(self, start_seconds: float, end_seconds: float) -> list[int]:
        """Return the slots of requested intervals that show a frame, and record gaps.

        Called by `push`; callers that build no clips call it once per frame, in order of time.
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
        """Restart where the clock of the video restarts: no interval and no window crosses this time.

        Yields:
            Full batches.
        """
        yield from self._complete_windows()
        before = self.spec.num_intervals(self._known_seconds)
        first = -count_intervals(-seconds, self.spec.stride_seconds)  # ceil
        if before == first:
            self.breaks.add(first)  # no interval is lost, so the merge needs the break
        self.first_interval = max(self.first_interval, first)
        self._filling.clear()
        self._begun = False

    def finish(self) -> Iterator[ClipBatch]:
        """Yield the complete clips that did not fill a batch; drop an interval cut off by the end.

        The last frame fills the places of a window beyond the end.
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
        """Return the memory of unfinished batches to the pool."""
        self._filling.clear()
        self._ready.clear()
        self._last_picture = None
        if self._batch is not None:
            self.memory.give(self._batch)
            self._batch = None

    @property
    def next_interval(self) -> int:
        """Lowest interval that may still be returned, if no clip waits for a full batch."""
        return min((self.spec.num_intervals(self._known_seconds), *self._filling))

    @property
    def _stop_interval(self) -> float:
        return math.inf if self.stop_interval is None else self.stop_interval

    def _note_gap(self, start_seconds: float, end_seconds: float) -> None:
        """Leave out intervals without a frame of their own; if there are none, record the break."""
        t, stride = self.spec.interval_seconds, self.spec.stride_seconds
        before = count_intervals(start_seconds, stride) + 1  # first interval that starts after this frame
        after = self.spec.num_intervals(end_seconds)  # first interval that ends after the next start
        if before == after:
            self.breaks.add(after)  # no interval is lost, so the merge needs the break
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
            self._batch = self.memory.take((self.batch_size, *spec.clip_shape))
        frames = self._batch[len(self._ready)]
        if isinstance(frames, np.ndarray):
            for place, picture in clip.items():
                frames[place] = picture
        else:  # on a GPU
            frames.put_pictures(clip)
        self._ready.append(interval)

    def _pop_batch(self) -> ClipBatch:
        memory, self._batch = self._batch, None
        taken, self._ready = self._ready, []
        assert memory is not None
        frames = memory if len(taken) == len(memory) else memory[: len(taken)]
        return ClipBatch(np.array(taken, np.int64), frames, self.spec, memory)


def _without(intervals: range, left_out: Iterable[range]) -> Iterator[range]:
    """Yield the parts of a range outside of other ranges, which are sorted and disjoint.

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
