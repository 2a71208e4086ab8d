"""Times of frames: the clock, its repair of wrong times, and the arrival of frames without any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import av
import pytest

from tsm_runtime.video.arrival import spread_arrivals
from tsm_runtime.video.clock import Clock, TimedFrame
from tsm_runtime.video.timing import Timing

TENTHS = Timing(time_base=Fraction(1, 10), nominal_seconds=0.1)

Ticks = int | tuple[int | None, int] | None
"""pts, or pts and dts."""


def frame_at(ticks: Ticks, duration: int = 0) -> av.VideoFrame:
    frame = av.VideoFrame(16, 16)
    frame.pts, frame.dts = ticks if isinstance(ticks, tuple) else (ticks, None)
    frame.duration = duration
    return frame


def timed(ticks: Sequence[Ticks], timing: Timing = TENTHS, **more: object) -> tuple[Clock, list[TimedFrame]]:
    clock = Clock(timing, **more)  # type: ignore[arg-type]
    return clock, list(clock.timed(frame_at(each) for each in ticks))


def starts_of(frames: Sequence[TimedFrame]) -> list[float]:
    return [round(frame.start_seconds, 6) for frame in frames]


@pytest.mark.parametrize(
    ("ticks", "starts", "misplaced"),
    [
        pytest.param([5, 6, 8, 7, 9], [0.0, 0.1, 0.3, 0.4], 1, id="one goes back a little"),
        pytest.param([5, 5, 6], [0.0, 0.0, 0.1], 0, id="equal times stay"),
        pytest.param([None, None, None], [0.0, 0.1, 0.2], 0, id="no times at all"),
        pytest.param([5, None, 7], [0.0, 0.1, 0.2], 0, id="one without time"),
        pytest.param([None, None, 1000, 1001], [0.0, 0.1, 0.2, 0.3], 0, id="the first without time"),
        pytest.param([(None, 3), (None, 4), (6, 5)], [0.0, 0.1, 0.3], 0, id="decoding times instead"),
        pytest.param([5, 7, (None, 6), 8], [0.0, 0.2, 0.2, 0.3], 0, id="a decoding time never goes back"),
        pytest.param([5, 6, 25, 26], [0.0, 0.1, 2.0, 2.1], 0, id="a pause"),
        pytest.param([0, 1, 1002, 3, 4], [0.0, 0.1, 0.2, 0.3, 0.4], 1, id="one far ahead"),
        pytest.param([0, 1, 12, 3, 4], [0.0, 0.1, 0.2, 0.3, 0.4], 1, id="one a second ahead"),
        pytest.param([50, 51, 0, 53, 54], [0.0, 0.1, 0.2, 0.3, 0.4], 1, id="one far back"),
        pytest.param([0, 1, 900, 901, 4, 5], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5], 2, id="two far ahead"),
        pytest.param([99, 0, 1, 2, 3, 4, 5], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1, id="the first is wrong"),
        pytest.param([50, 51, 52, 0], [0.0, 0.1, 0.2, 0.3], 1, id="the last is far back"),
    ],
)
def test_the_clock(ticks: list[Ticks], starts: list[float], misplaced: int) -> None:
    clock, frames = timed(ticks)
    assert starts_of(frames) == starts
    assert clock.num_misplaced == misplaced
    assert not any(frame.discontinuity for frame in frames)


def test_a_clock_that_begins_anew_goes_on() -> None:
    clock, frames = timed([20, 21, 22, 0, 1, 2, 3, 4, 5])
    assert starts_of(frames) == [round(0.1 * n, 1) for n in range(9)]
    assert [f.start_seconds for f in frames if f.discontinuity] == [pytest.approx(0.3)]
    assert frames[3].discontinuity == "its clock jumped back by 2.20 s"
    assert clock.num_misplaced == 0


@pytest.mark.parametrize("jump", [1000, -1000])
def test_many_wrong_times_in_a_row_leave_the_length(jump: int) -> None:
    ticks = [5000 + n + (jump if 10 <= n < 20 else 0) for n in range(30)]
    _, frames = timed(ticks, replace(TENTHS, clock_may_restart=True))
    assert starts_of(frames) == [round(0.1 * n, 1) for n in range(30)]


def test_many_equal_times_leave_the_length() -> None:
    """As where a muxer wrote 0: when its clock is back, the time line is where it would be."""
    ticks = [5000 + n if not 10 <= n < 20 else 0 for n in range(30)]
    _, frames = timed(ticks, replace(TENTHS, clock_may_restart=True))
    assert len(frames) == 30
    assert frames[-1].start_seconds == pytest.approx(2.9)


@pytest.mark.parametrize(("may_restart", "start"), [(True, 0.2), (False, 100.0)])
def test_far_ahead_is_a_pause_or_a_new_clock(may_restart: bool, start: float) -> None:
    _, frames = timed([0, 1, *range(1000, 1010)], replace(TENTHS, clock_may_restart=may_restart))
    assert frames[2].start_seconds == pytest.approx(start)
    assert bool(frames[2].discontinuity) is may_restart


@pytest.mark.parametrize(
    ("ticks", "durations", "end"),
    [
        pytest.param([0, 1, 2], [1, 1, 0], 0.3, id="the last one states none"),
        pytest.param([0, 2, 4], [1, 1, 1], 0.6, id="fields that are coded apart"),
        pytest.param([0, 1, 9], [1, 8, 0], 1.0, id="after a pause the rate counts"),
        pytest.param([0, 1, 2], [1, 1, 7], 0.9, id="a long one is believed"),
    ],
)
def test_the_last_frame_is_shown_like_others(ticks: list[int], durations: list[int], end: float) -> None:
    frames = map(frame_at, ticks, durations)
    *_, last = Clock(TENTHS).timed(frames)
    assert last.end_seconds == pytest.approx(end)


def test_the_last_of_uneven_frames_is_believed() -> None:
    """As in a recording of a screen: the mean rate says nothing of one frame."""
    timing = replace(TENTHS, nominal_seconds=0.4)
    *_, last = Clock(timing).timed(map(frame_at, [0, 1, 9], [1, 8, 2]))
    assert last.end_seconds == pytest.approx(1.1)


def test_a_stated_rate_counts_where_there_are_no_times() -> None:
    timing = replace(TENTHS, has_times=False, rate=50.0, nominal_seconds=0.02)
    clock, frames = timed([0, 1, 2, 3], timing)
    assert starts_of(frames) == [0.0, 0.02, 0.04, 0.06]
    assert clock.assumed_rate is None


def test_a_rate_that_nothing_states_is_reported() -> None:
    assumed = replace(TENTHS, has_times=False, rate_is_stated=False)
    assert timed([0, 1, 2], assumed)[0].assumed_rate == pytest.approx(10)
    assert timed([0, 1, 2], replace(assumed, has_times=True))[0].assumed_rate is None
    assert timed([None, None], replace(assumed, has_times=True))[0].assumed_rate == pytest.approx(10)


def test_frames_of_a_camera_without_times_get_their_arrival() -> None:
    arrivals = iter([7.0, 7.3, 7.5, 8.1])
    timing = replace(TENTHS, has_times=False, rate_is_stated=False)
    clock, frames = timed([0, 1, 2, 3], timing, is_live=True, arrival=lambda: next(arrivals))
    assert starts_of(frames) == [0.0, 0.3, 0.5, 1.1]
    assert clock.assumed_rate is None


def test_packets_that_waited_are_spread_over_the_opening() -> None:
    times = iter([5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.4, 5.8])
    found = list(spread_arrivals("abcde", begun=3.8, now=lambda: next(times)))
    assert found == [("a", 4.2), ("b", 4.6), ("c", 5.0), ("d", 5.4), ("e", 5.8)]
