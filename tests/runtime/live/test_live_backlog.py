"""The queue between capture and scoring, and how frames become its items."""

from __future__ import annotations

import math
import threading
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsm_runtime.clips.builder import ClipBuilder
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.live.backlog import (
    Backlog,
    Break,
    Clip,
    Dropped,
    Gap,
    Item,
    Moment,
    Passed,
    Picture,
    StreamEnded,
)
from tsm_runtime.live.feeds import Feed

AT = Moment(0.0, math.nan, 0.0)
PIXELS = np.zeros((2, 2, 3), np.uint8)
SPEC = ClipSpec(interval_seconds=0.5, num_frames=4, size=2)


def clip(index: int, feed: int = 0) -> Clip:
    return Clip(at=AT, feed=feed, index=index, frames=PIXELS[None], after_gap=False)


def picture(index: int, feed: int = 0) -> Picture:
    return Picture(at=AT, feed=feed, index=index, pixels=PIXELS, num_places=1, after_gap=False)


def passed(stop: int, feed: int = 0) -> Passed:
    return Passed(at=AT, feed=feed, stop=stop)


def shown(item: Item) -> object:
    """A short form: (kind, feed, numbers)."""
    match item:
        case Clip(feed=feed, index=index) | Picture(feed=feed, index=index):
            return type(item).__name__, feed, index
        case Passed(feed=feed, stop=stop):
            return "Passed", feed, stop
        case Dropped(feed=feed, start=start, stop=stop, number=number):
            return "Dropped", feed, start, stop, number
    return type(item).__name__


def all_of(backlog: Backlog, most: int = 1) -> list[object]:
    found: list[object] = []
    while items := backlog.take(most, 0.0):
        found += map(shown, items)
    return found


def test_clips_of_a_feed_that_wait_are_one_batch() -> None:
    backlog = Backlog(9, drop=False)
    for item in (clip(0), passed(3), clip(3), clip(0, 1), clip(4), clip(5), Break(at=AT, reason=""), clip(7)):
        assert backlog.put(item)
    assert list(map(shown, backlog.take(3, 0.0))) == [("Clip", 0, 0), ("Clip", 0, 3), ("Clip", 0, 4)]
    assert all_of(backlog, 9) == [("Passed", 0, 3), ("Clip", 1, 0), ("Clip", 0, 5), "Break", ("Clip", 0, 7)]
    assert len(backlog) == 0


def test_the_oldest_that_wait_are_dropped_as_one() -> None:
    backlog = Backlog(2, drop=True)
    backlog.put(clip(0, 1))
    for index in range(6):
        backlog.put(clip(index))
        backlog.put(passed(index + 1))
    # `Passed` items of dropped intervals are removed too: else the queue would grow without a consumer.
    assert all_of(backlog) == [
        ("Clip", 1, 0),
        ("Dropped", 0, 0, 4, 4),
        ("Clip", 0, 4),
        ("Passed", 0, 5),
        ("Clip", 0, 5),
        ("Passed", 0, 6),
    ]


def test_what_one_frame_completes_is_not_dropped() -> None:
    """Of a feed whose windows overlap; others keep a batch."""
    backlog = Backlog(1, drop=True, at_once={1: 3})
    for index in range(4):
        backlog.put(clip(index))
        backlog.put(clip(index, 1))
    assert all_of(backlog) == [
        ("Dropped", 1, 0, 1, 1),
        ("Clip", 1, 1),
        ("Dropped", 0, 0, 3, 3),
        ("Clip", 1, 2),
        ("Clip", 0, 3),
        ("Clip", 1, 3),
    ]


def test_an_interval_is_dropped_with_all_its_pictures() -> None:
    """The first one was already begun: what still comes of it goes too."""
    backlog = Backlog(2, drop=True)
    backlog.put(picture(0))
    assert list(map(shown, backlog.take(1, 0.0))) == [("Picture", 0, 0)]
    for index in (0, 0, 1, 2, 2, 0, 3):
        backlog.put(picture(index))
    assert all_of(backlog) == [
        ("Dropped", 0, 0, 2, 2),
        ("Picture", 0, 2),
        ("Picture", 0, 2),
        ("Picture", 0, 3),
    ]


@settings(max_examples=100)
@given(st.integers(1, 4), st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=60))
def test_every_interval_is_taken_or_reported_as_dropped(capacity: int, turns: list[tuple[int, bool]]) -> None:
    """In any order of `put` and `take`, each interval is taken or reported as dropped, once."""
    backlog, given_to, found = Backlog(capacity, drop=True), [0, 0, 0], []
    for feed, taking in turns:
        if taking:
            found += backlog.take(2, 0.0)
        else:
            backlog.put(clip(given_to[feed], feed))
            given_to[feed] += 1
        assert len([item for item in backlog._items if isinstance(item, Clip)]) <= 3 * capacity
        assert len(backlog) <= 3 * (capacity + 1)
    while items := backlog.take(2, 0.0):
        found += items
    for feed, number in enumerate(given_to):
        came: list[int] = []
        for item in found:
            if isinstance(item, Clip) and item.feed == feed:
                came.append(item.index)
            if isinstance(item, Dropped) and item.feed == feed:
                assert item.number == item.stop - item.start
                came += range(item.start, item.stop)
        assert came == list(range(number))


def test_put_waits_where_nothing_may_be_dropped() -> None:
    backlog, done = Backlog(1, drop=False), threading.Event()
    backlog.put(clip(0))

    def give() -> None:
        backlog.put(clip(1))
        done.set()

    thread = threading.Thread(target=give)
    thread.start()
    assert not done.wait(0.05)
    assert all_of(backlog)[0] == ("Clip", 0, 0)
    assert done.wait(60)
    thread.join()
    assert len(backlog) <= 1


def test_a_closed_backlog_lets_everybody_go() -> None:
    backlog, answers = Backlog(1, drop=False), []
    backlog.put(clip(0))
    thread = threading.Thread(target=lambda: answers.append(backlog.put(clip(1))))
    thread.start()
    backlog.close()
    thread.join(60)
    assert answers == [False]
    assert not backlog.put(StreamEnded(at=AT, reason=""))


# --- feeds ----------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from([0.0, 0.02, 0.05, 0.11, 0.2, 0.43, 0.6, 1.3]), min_size=1, max_size=40),
    st.booleans(),
)
def test_intervals_are_those_of_the_clip_builder(steps: list[float], by_frame: bool) -> None:
    times = np.cumsum([0.0, *steps]).tolist()
    builder, feed = ClipBuilder(SPEC, 1), Feed(0, SPEC, by_frame=by_frame)
    batches, items = [], []
    for number, (start, end) in enumerate(pairwise(times)):
        pixels = np.full((2, 2, 3), number, np.uint8)
        batches += builder.push(start, end, partial(np.copy, pixels))
        items += feed.push(start, end, partial(np.copy, pixels), Moment(end, math.nan, 0.0))
    items += feed.finish(AT)
    expected = {int(batch.indices[0]): batch.frames[0, :, 0, 0, 0].tolist() for batch in batches}
    found: dict[int, list[int]] = {}
    over = 0
    for item in items:
        if isinstance(item, Clip):
            found[item.index] = item.frames[:, 0, 0, 0].tolist()
        if isinstance(item, Picture):
            assert item.index >= over  # nothing comes of an interval that was over
            found.setdefault(item.index, []).extend([int(item.pixels[0, 0, 0])] * item.num_places)
        if isinstance(item, Passed):
            over = item.stop
    assert {index: frames for index, frames in found.items() if not by_frame or index < over} == expected
    after_gap = {item.index for item in items if isinstance(item, Clip | Picture) and item.after_gap}
    assert after_gap == builder.breaks & found.keys()
    assert [(gap.start_seconds, gap.end_seconds) for gap in items if isinstance(gap, Gap)] == builder.gaps


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from([0.02, 0.05, 0.11, 0.43, 0.5, 0.6, 1.3]), min_size=1, max_size=40),
    st.sampled_from([0.5, 1.1, 3.0]),
    st.integers(1, 8),
)
def test_a_fast_machine_drops_nothing(steps: list[float], window: float, parts: int) -> None:
    """It has scored all before the next frame comes, of which several intervals may be waiting."""
    spec = ClipSpec(
        interval_seconds=0.5, num_frames=4, size=2, window_seconds=window, stride_seconds=0.5 / parts
    )
    feed, backlog = Feed(0, spec), Backlog(1, drop=True, at_once={0: spec.num_open})
    times = np.cumsum([0.0, *steps]).tolist()
    found: list[object] = []
    for start, end in pairwise(times):
        for item in feed.push(start, end, lambda: PIXELS, Moment(end, math.nan, 0.0)):
            backlog.put(item)
        found += all_of(backlog)
    for item in feed.finish(AT):
        backlog.put(item)
    found += all_of(backlog)
    assert not any("Dropped" in str(item) for item in found)


def test_a_feed_begins_anew_with_the_first_whole_interval() -> None:
    feed = Feed(3, SPEC)
    feed.restart(7.2)
    items = [
        item
        for number in range(30)
        for item in feed.push(7.2 + number / 25, 7.24 + number / 25, lambda: PIXELS, AT)
    ]
    assert [shown(item) for item in items if isinstance(item, Clip)] == [("Clip", 3, 15)]
    feed.restart(9.5)
    assert [shown(item) for item in feed.push(9.5, 10.0, lambda: PIXELS, AT)] == [
        ("Clip", 3, 19),
    ]


@pytest.mark.parametrize("by_frame", [False, True])
def test_pictures_are_made_only_where_they_are_needed(by_frame: bool) -> None:
    feed, requested = Feed(0, SPEC, by_frame=by_frame), []
    for number in range(26):
        items = feed.push(number / 50, (number + 1) / 50, lambda: requested.append(1) or PIXELS, AT)  # type: ignore[func-returns-value]
        list(items)
    assert len(requested) == 4
