"""The bounded queue between capture and scoring, which counts and drops whole intervals."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tsm_runtime.audio.patches import Patches

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Moment:
    """When an item became known.

    Args:
        seconds: stream time reached.
        wall_offset: POSIX time minus stream time up to here; nan for a source without wall time.
        arrived: `time.monotonic()` at the arrival of the frame that made it known.
    """

    seconds: float
    wall_offset: float
    arrived: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Base of all items in the queue."""

    at: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened(Item):
    """The source is open, for the first time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip(Item):
    """A whole interval of a feed.

    Args:
        feed: number of the feed.
        index: number of the interval.
        frames: uint8, of the feed's `ClipSpec.clip_shape`.
        after_gap: as in `IntervalMerger.push`.
        sound: that around it, of one interval; None: no model of the feed hears.
    """

    feed: int
    index: int
    frames: Pixels
    after_gap: bool
    sound: Patches | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture(Item):
    """A frame that fills `num_places` places of an interval, for models that take one frame per call."""

    feed: int
    index: int
    pixels: Pixels
    num_places: int
    after_gap: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed(Item):
    """All intervals of a feed before `stop` are over; missing ones do not follow."""

    feed: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped(Item):
    """`number` intervals of a feed that were removed unscored, the last of which is `stop` - 1."""

    feed: int
    start: int
    stop: int
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap(Item):
    """No new frame for longer than an interval of a feed."""

    feed: int
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Break(Item):
    """The stream was lost, or its clock jumped."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Item):
    """The stream is back; `at` is the moment of its first frame."""

    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnded(Item):
    """The last item.

    Args:
        reason: why the stream ended, for a person.
        complete: False if the stream did not reach its own end.
        error: to be raised.
    """

    reason: str
    complete: bool = True
    error: BaseException | None = None


@dataclass(slots=True)
class _Feed:
    queued: dict[int, int] = field(default_factory=dict)
    """Interval to the number of its items in the queue, in order."""
    dropped_to: int = -1
    """Highest dropped interval: further items of it are dropped too."""


class Backlog:
    """A queue between one thread that captures and one that scores.

    It holds at most `capacity` intervals per feed. When one more arrives, a `Dropped` replaces the oldest
    one; without dropping, `put` waits instead.

    Args:
        capacity: intervals per feed, 1 or more.
        drop: whether to drop intervals.
        at_once: by feed, how many intervals one frame may complete. A higher number than the capacity takes
            its place: otherwise a machine that is fast enough would drop some of them.
        arrived: set whenever an item is appended, for a thread that waits for several queues.
    """

    def __init__(
        self,
        capacity: int,
        *,
        drop: bool,
        at_once: Mapping[int, int] | None = None,
        arrived: threading.Event | None = None,
    ) -> None:
        self._capacity = capacity
        self._at_once = at_once or {}
        self.drops = drop
        """Whether intervals are dropped; a capture that needs none to be switches it off before it reads."""
        self._items: deque[Item] = deque()
        self._feeds: dict[int, _Feed] = {}
        self._changed = threading.Condition()
        self._arrived = arrived or threading.Event()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the queue is closed: no further item is taken."""
        return self._closed

    def __len__(self) -> int:
        """Items in the queue."""
        return len(self._items)

    def put(self, item: Item) -> bool:
        """Append an item; return False if the queue is closed."""
        with self._changed:
            if isinstance(item, Clip | Picture) and not self._make_room(item):
                return not self._closed
            self._items.append(item)
            self._arrived.set()
            self._changed.notify_all()
            return not self._closed

    def take(self, most: int, timeout_seconds: float) -> list[Item]:
        """Return the next item, or up to `most` queued clips of one feed; empty after the timeout."""
        until = time.monotonic() + timeout_seconds
        with self._changed:
            while not self._items:
                left = until - time.monotonic()
                if left <= 0:
                    return []
                self._changed.wait(left)
            first = self._items.popleft()
            taken = [first, *(self._more(first, most - 1) if isinstance(first, Clip) else ())]
            for item in taken:
                if isinstance(item, Clip | Picture):
                    self._forget(item)
            self._changed.notify_all()
            return taken

    def close(self) -> None:
        """Let `put` return at once from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _make_room(self, item: Clip | Picture) -> bool:
        """Make room for an item; return False if the item is to be discarded."""
        feed = self._feeds.setdefault(item.feed, _Feed())
        if item.index <= feed.dropped_to or self._closed:
            return False
        capacity = max(self._capacity, self._at_once.get(item.feed, 1))
        while item.index not in feed.queued and len(feed.queued) >= capacity:
            if self.drops:
                self._drop_oldest(item.feed, feed)
                continue
            self._changed.wait()
            if self._closed:
                return False
        feed.queued[item.index] = feed.queued.get(item.index, 0) + 1
        return True

    def _drop_oldest(self, number: int, feed: _Feed) -> None:
        index = next(iter(feed.queued))
        del feed.queued[index]
        feed.dropped_to = index
        earlier: Dropped | None = None
        kept: deque[Item] = deque()
        for item in self._items:
            if isinstance(item, Dropped) and item.feed == number:
                earlier = item
            elif isinstance(item, Passed) and item.feed == number and item.stop <= index + 1:
                continue  # the `Dropped` implies it
            elif isinstance(item, Clip | Picture) and (item.feed, item.index) == (number, index):
                if earlier is None or earlier.stop <= index:
                    earlier = _dropped(item, earlier)
                    kept.append(earlier)
            else:
                kept.append(item)
        self._items = kept

    def _more(self, first: Clip, most: int) -> list[Clip]:
        """Remove and return further clips of the same feed, up to the next break."""
        found: list[Clip] = []
        for item in self._items:
            if len(found) == most or isinstance(item, Break | Resumed | StreamEnded):
                break
            if isinstance(item, Clip) and item.feed == first.feed:
                found.append(item)
        taken = {id(item) for item in found}
        self._items = deque(item for item in self._items if id(item) not in taken)
        return found

    def _forget(self, item: Clip | Picture) -> None:
        queued = self._feeds[item.feed].queued
        if queued[item.index] == 1:
            del queued[item.index]
        else:
            queued[item.index] -= 1


def _dropped(item: Clip | Picture, earlier: Dropped | None) -> Dropped:
    return Dropped(
        at=item.at,
        feed=item.feed,
        start=item.index if earlier is None else earlier.start,
        stop=item.index + 1,
        number=1 + (0 if earlier is None else earlier.number),
    )
