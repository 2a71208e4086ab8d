"""Turns frames into items of the backlog: clips or single pictures, for each grid of intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.online import OnlineBackend
from tsm_runtime.clips.builder import ClipBuilder
from tsm_runtime.clips.spec import ClipSpec, count_intervals
from tsm_runtime.live.backlog import Clip, Gap, Item, Moment, Passed, Picture
from tsm_runtime.models.member import Member

Pixels = npt.NDArray[np.uint8]


class Feed:
    """The intervals of one grid, for models that take whole clips or one frame per call.

    Intervals, gaps and breaks are those of `ClipBuilder`.

    Args:
        number: identifies the feed within its stream.
        spec: the clips that the models take.
        by_frame: yield single pictures instead of clips.
    """

    def __init__(self, number: int, spec: ClipSpec, *, by_frame: bool = False) -> None:
        self.number = number
        self.spec = spec
        self.by_frame = by_frame
        self._passed = 0  # intervals before this one were yielded, or will not follow
        self.restart(0.0)

    def restart(self, start_seconds: float) -> None:
        """Begin with the first whole interval after a new origin, as at the start and after a break."""
        first = -count_intervals(-start_seconds, self.spec.stride_seconds)  # ceil
        self._builder = ClipBuilder(self.spec, 1, first_interval=first)

    def push(
        self, start_seconds: float, end_seconds: float, picture: Callable[[], Pixels], at: Moment
    ) -> Iterator[Item]:
        """Take the frame shown in [start, end), where end is the start of the next frame.

        Args:
            start_seconds: stream time of the frame.
            end_seconds: stream time of its successor.
            picture: returns the (size, size, 3) uint8 picture; called at most once, and only if needed.
            at: the moment of the frame.

        Yields:
            Items in order.
        """
        if self.by_frame:
            yield from self._pictures(self._builder.take_slots(start_seconds, end_seconds), picture, at)
        else:
            for batch in self._builder.push(start_seconds, end_seconds, picture):
                yield from self._clip(int(batch.indices[0]), batch.frames[0], at)
        for gap_start, gap_end in self._builder.gaps:
            yield Gap(at=at, feed=self.number, start_seconds=gap_start, end_seconds=gap_end)
        self._builder.gaps.clear()  # else they would grow without bound
        # A clip whose window reaches beyond its interval waits for it.
        over = self.spec.num_intervals(end_seconds) if self.by_frame else self._builder.next_interval
        if over > self._passed:
            self._passed = over
            yield Passed(at=at, feed=self.number, stop=over)

    def finish(self, at: Moment) -> Iterator[Item]:
        """Yield what is complete at a break or the end; an interval that it cuts off is dropped."""
        for batch in self._builder.finish():
            yield from self._clip(int(batch.indices[0]), batch.frames[0], at)

    def _clip(self, index: int, frames: Pixels, at: Moment) -> Iterator[Item]:
        self._passed = index + 1
        yield Clip(at=at, feed=self.number, index=index, frames=frames, after_gap=self._is_after_gap(index))

    def _pictures(self, slots: list[int], picture: Callable[[], Pixels], at: Moment) -> Iterator[Item]:
        if not slots:
            return
        pixels = picture()
        for index, places in groupby(slots, key=lambda slot: slot // self.spec.num_frames):
            yield Picture(
                at=at,
                feed=self.number,
                index=index,
                pixels=pixels,
                num_places=len(list(places)),
                after_gap=self._is_after_gap(index),
            )

    def _is_after_gap(self, index: int) -> bool:
        breaks = self._builder.breaks
        breaks.difference_update({number for number in breaks if number < index})
        return index in breaks


def feeds_of(members: Sequence[Member]) -> tuple[list[Feed], dict[int, list[int]]]:
    """Return one feed for each kind of input, and the numbers of its members."""
    numbers: dict[tuple[object, bool], int] = {}
    feeds: list[Feed] = []
    members_of: dict[int, list[int]] = {}
    for member, each in enumerate(members):
        single = by_frame(each)
        number = numbers.setdefault((each.spec, single), len(feeds))
        if number == len(feeds):
            feeds.append(Feed(number, each.spec, by_frame=single))
        members_of.setdefault(number, []).append(member)
    return feeds, members_of


def by_frame(member: Member) -> bool:
    """Whether a member gets single frames: its model is online, and no frame is in several intervals."""
    return isinstance(member.backend, OnlineBackend) and member.spec.num_open == 1
