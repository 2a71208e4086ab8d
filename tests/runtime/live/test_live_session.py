"""A live run: the same as a file's on the same frames, across breaks, within bounds, and never hanging."""

from __future__ import annotations

import math
import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pytest
from fakes import LEAST, BrightnessBackend, brightness_member, member_of
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import (
    FakeConnection,
    FakeSource,
    Level,
    even,
    grey_frames,
    offline,
    segments_in,
    source_of,
    wait_for,
)

from tsm_runtime.backends.base import Scores
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import RunError, UsageError, VideoError
from tsm_runtime.fusion.options import FusionOptions
from tsm_runtime.live import capture
from tsm_runtime.live.events import (
    Discontinuity,
    Drop,
    End,
    Event,
    LiveGap,
    LiveSegment,
    OpenSegment,
    Resumption,
    Start,
)
from tsm_runtime.live.options import LiveOptions
from tsm_runtime.live.session import watch
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.options import Options
from tsm_runtime.video.clock import TimedFrame

DARK, GREY, BRIGHT = 20, 128, 235
SCENE = [(DARK, 1.0), (GREY, 0.5), (BRIGHT, 1.5), (DARK, 0.5), (GREY, 1.0), (BRIGHT, 0.6)]
FOUND = [("dark", 0.0, 1.0), ("bright", 1.5, 3.0), ("dark", 3.0, 3.5), ("bright", 4.5, 5.0)]


@pytest.fixture(autouse=True)
def quick_reconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "_FIRST_PAUSE_SECONDS", 0.001)


def live(source: FakeSource, members: Member | list[Member], **options: object) -> list[Event]:
    return list(watch(source, members, LiveOptions(**options)))  # type: ignore[arg-type]


def end_of(events: list[Event]) -> End:
    assert isinstance(events[0], Start)
    assert isinstance(events[-1], End)
    return events[-1]


# --- live is offline ------------------------------------------------------------------------------


timings = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.013, 0.04, 0.04, 0.04, 0.041, 0.2, 0.49, 0.7, 1.6]),  # to the next frame
        st.sampled_from([DARK, GREY, BRIGHT]),
        st.integers(1, 9),  # how often
    ),
    min_size=1,
    max_size=12,
)

HALF = ClipSpec(interval_seconds=0.5, num_frames=4, size=32)
QUARTER = ClipSpec(interval_seconds=0.25, num_frames=2, size=16)
SETS = {
    "one": lambda: [brightness_member()],
    "t of 0.3": lambda: [brightness_member(0.3, 3)],
    "two grids": lambda: [brightness_member(0.5, 4, 16), replace(brightness_member(0.3), weight=2.0)],
    "shared clips": lambda: [brightness_member(), replace(brightness_member(), weight=0.4)],
    "three": lambda: [brightness_member(), brightness_member(1.0, 2, 16), brightness_member(0.25, 2)],
    "sigmoid": lambda: [member_of(HALF, thresholds=LEAST)],
    "shortest": lambda: [member_of(QUARTER, thresholds=LEAST, min_duration_seconds=0.6)],
    "both heads": lambda: [
        member_of(HALF, thresholds=LEAST),
        replace(member_of(QUARTER, min_duration_seconds=0.5), weight=2.0),
    ],
    "window": lambda: [member_of(replace(HALF, window_seconds=1.3))],
    "window and grid": lambda: [member_of(replace(QUARTER, window_seconds=4.0)), brightness_member()],
}


@st.composite
def any_member(draw: st.DrawFn, lengths: Sequence[float] = (0.25, 0.3, 0.5, 1.0)) -> Member:
    """A model with settings of its own: each of them may be off."""
    t = draw(st.sampled_from(lengths))
    spec = ClipSpec(
        interval_seconds=t,
        num_frames=draw(st.integers(1, 4)),
        size=16,
        window_seconds=draw(st.sampled_from([0.0, 1.0, 1.4, 2.5])) * t,
        stride_seconds=t / draw(st.sampled_from([1, 1, 2, 3, 4])),
    )
    member = member_of(
        spec,
        thresholds=draw(st.sampled_from([(), LEAST])),
        smoothing_seconds=draw(st.sampled_from([0.0, 0.0, 0.3, 0.75, 1.0, 1.7, 4.0])),
        min_duration_seconds=draw(st.sampled_from([0.0, 0.0, 0.6])),
    )
    return replace(member, weight=draw(st.sampled_from([1.0, 2.5])))


MEMBERS = st.one_of(
    st.sampled_from(sorted(SETS)).map(lambda name: SETS[name]()),
    st.lists(any_member(), min_size=1, max_size=3),
)


@settings(max_examples=300)
@given(
    given_timings=timings,
    members=MEMBERS,
    batch_size=st.integers(1, 5),
    min_score=st.sampled_from([0.0, 0.95]),
    fusion=st.sampled_from([FusionOptions(), FusionOptions(denominator="present", iou=0.2)]),
)
def test_live_finds_what_a_file_gives(
    given_timings: list[tuple[float, int, int]],
    members: list[Member],
    batch_size: int,
    min_score: float,
    fusion: FusionOptions,
) -> None:
    """For any timing, gaps included, any settings, and any number of clips a call."""
    steps = [(step, level) for step, level, times in given_timings for _ in range(times)]
    starts = np.cumsum([0.0, *(step for step, _ in steps)]).tolist()
    frames = grey_frames(
        [(start, step, level) for start, (step, level) in zip(starts[:-1], steps, strict=True)]
    )
    try:
        expected = offline(frames, members, Options(min_score=min_score, fusion=fusion))
    except VideoError:
        with pytest.raises(VideoError, match="no whole interval of"):
            live(FakeSource([FakeConnection(frames)]), members)
        return
    events = live(
        FakeSource([FakeConnection(frames)]),
        members,
        batch_size=batch_size,
        min_score=min_score,
        fusion=fusion,
    )
    found = sorted((e.start, e.end, e.label, -e.score) for e in events if isinstance(e, LiveSegment))
    assert found == sorted(
        (round(s.start_seconds, 6), round(s.end_seconds, 6), s.label, -round(s.score, 6))
        for s in expected.segments
    )
    end = end_of(events)
    assert (end.intervals, end.segments) == (expected.num_intervals, len(expected.segments))
    assert (end.frames, end.dropped, end.complete) == (len(frames), 0, True)
    if len(members) == 1:
        assert end.gaps == len(expected.gaps)
        gaps = [(e.start, e.end) for e in events if isinstance(e, LiveGap)]
        assert gaps == [(round(start, 6), round(end, 6)) for start, end in expected.gaps]


def test_an_interval_of_a_sigmoid_head_has_several_labels_at_once() -> None:
    """Grey is dark and bright too, so that these go on through it."""
    levels = even([(DARK, 1.0), (GREY, 1.0), (BRIGHT, 1.0)])
    events = live(source_of(levels), member_of(HALF, thresholds=LEAST), show_open=True, batch_size=1)
    assert sorted(segments_in(events)) == [("bright", 1.0, 3.0), ("dark", 0.0, 2.0), ("grey", 1.0, 2.0)]
    at_once = {(e.label, e.start, e.end) for e in events if isinstance(e, OpenSegment) and e.time == 1.52}
    assert at_once == {("dark", 0.0, 1.5), ("bright", 1.0, 1.5), ("grey", 1.0, 1.5)}


def test_a_short_segment_is_not_reported_even_while_it_is_open() -> None:
    member = member_of(HALF, min_duration_seconds=1.0)
    events = live(source_of(even(SCENE)), member, show_open=True, batch_size=1)
    assert segments_in(events) == [("dark", 0.0, 1.0), ("bright", 1.5, 3.0)]
    opened = [(e.label, e.start, e.end) for e in events if isinstance(e, OpenSegment)]
    assert opened == [
        ("dark", 0.0, 1.0),
        ("bright", 1.5, 2.5),
        ("bright", 1.5, 3.0),
    ]


def test_a_window_waits_for_the_frames_that_it_reaches() -> None:
    """From 0 to 1 s dark; the last frame of interval 1's window is that of 1.125 s."""
    member = member_of(replace(HALF, window_seconds=1.0))
    events = live(source_of(even([(DARK, 1.5), (BRIGHT, 1.5)])), member, show_open=True, batch_size=1)
    reported = [(e.label, e.end, e.time) for e in events if isinstance(e, OpenSegment)][:2]
    assert reported == [("dark", 0.5, pytest.approx(0.64)), ("dark", 1.0, pytest.approx(1.16))]


@settings(max_examples=60)
@given(member=any_member(), levels=st.lists(st.sampled_from([DARK, GREY, BRIGHT]), min_size=4, max_size=40))
def test_a_segment_leaves_within_the_bound(member: Member, levels: list[int]) -> None:
    """As `watch` reports it: stream time, one clip a call; the last frame lasts 40 ms."""
    spec, smoothing = member.spec, member.rules.smoothing_seconds
    window = (spec.window_seconds - spec.interval_seconds) / 2
    wait = window + spec.stride_seconds * math.ceil(smoothing / 2 / spec.stride_seconds) + 0.04
    source = source_of(even([(level, 0.2) for level in levels]))
    try:
        events = live(source, member, show_open=True, batch_size=1)
    except VideoError:
        return  # shorter than an interval
    for event in events:
        if isinstance(event, LiveSegment):
            assert event.time <= event.end + spec.interval_seconds + wait + 1e-6
        if isinstance(event, OpenSegment):
            assert event.time <= event.end + spec.interval_seconds - spec.stride_seconds + wait + 1e-6


def test_smoothing_waits_for_the_cells_that_it_reaches() -> None:
    """Three cells: interval 0 depends on interval 1; the end of the stream ends the wait."""
    member = member_of(HALF, smoothing_seconds=1.5)
    events = live(source_of(even([(DARK, 1.5), (BRIGHT, 1.5)])), member, show_open=True, batch_size=1)
    reported = [
        (type(e).__name__, e.label, e.end, e.time) for e in events if isinstance(e, LiveSegment | OpenSegment)
    ]
    assert reported == [
        ("OpenSegment", "dark", 0.5, 1.0),
        ("OpenSegment", "dark", 1.0, 1.52),
        ("OpenSegment", "dark", 1.5, 2.0),
        ("LiveSegment", "dark", 1.5, 2.52),
        ("OpenSegment", "bright", 2.0, 2.52),
        ("OpenSegment", "bright", 2.5, 3.0),
        ("LiveSegment", "bright", 3.0, 3.04),
    ]


def test_a_cell_waits_for_all_intervals_that_cover_it() -> None:
    """Interval k is [k/4, k/4 + 1/2): cell k is known with it."""
    member = member_of(replace(HALF, stride_seconds=0.25))
    events = live(source_of(even([(DARK, 1.0), (BRIGHT, 0.6)])), member, show_open=True, batch_size=1)
    reported = [(e.label, e.start, e.end, e.time) for e in events if isinstance(e, OpenSegment)]
    assert reported == [
        ("dark", 0.0, 0.25, 0.52),
        ("dark", 0.0, 0.5, 0.76),
        ("dark", 0.0, 0.75, 1.0),
        # Interval 3 is half dark and half bright: it is grey, and cell 3 the mean of it and interval 2.
        ("dark", 0.0, 1.0, 1.28),
        ("bright", 1.0, 1.25, 1.52),
    ]
    assert segments_in(events) == [("dark", 0.0, 1.0), ("bright", 1.0, 1.5)]


def test_smoothing_that_is_too_wide_for_a_stream_is_refused() -> None:
    source = source_of(even(SCENE))
    wide = member_of(replace(HALF, stride_seconds=0.25), smoothing_seconds=1025.0)
    why = r"^smoothing 1025 s: expected 1024 s or less in a live run, where it delays labels by half of it"
    with pytest.raises(UsageError, match=why):
        watch(source, [brightness_member(), wide])
    assert source.opened == 0
    widest = replace(wide, rules=replace(wide.rules, smoothing_seconds=1024.0))
    assert segments_in(live(source, widest)) == [("bright", 0.0, 5.0)]


def test_scenes_and_times_of_a_segment() -> None:
    events = live(source_of(even(SCENE)), brightness_member(), batch_size=1)
    assert segments_in(events) == FOUND
    first = next(event for event in events if isinstance(event, LiveSegment))
    assert (first.scene, first.scene_score) == ("night", pytest.approx(1.0, abs=1e-3))
    assert first.time == 1.52  # the frame that ended the next interval
    assert first.delay_seconds >= 0
    assert (first.start_wall, first.end_wall) == (None, None)  # not a camera: its frames have no wall time
    start = events[0]
    assert isinstance(start, Start)
    assert (start.source, start.drop, start.models[0].interval_seconds) == ("fake", "none", 0.5)


def test_open_segments_are_reported_when_they_change() -> None:
    events = live(source_of(even(SCENE)), brightness_member(), show_open=True, batch_size=1)
    reported = [
        (type(e).__name__, e.label, e.start, e.end)
        for e in events
        if isinstance(e, LiveSegment | OpenSegment) and e.start < 3
    ]
    assert reported == [
        ("OpenSegment", "dark", 0.0, 0.5),
        ("OpenSegment", "dark", 0.0, 1.0),
        ("LiveSegment", "dark", 0.0, 1.0),
        ("OpenSegment", "bright", 1.5, 2.0),
        ("OpenSegment", "bright", 1.5, 2.5),
        ("OpenSegment", "bright", 1.5, 3.0),
        ("LiveSegment", "bright", 1.5, 3.0),
    ]


def test_open_segments_of_an_ensemble_are_fused() -> None:
    members = [brightness_member(), replace(brightness_member(), weight=3.0)]
    events = live(source_of(even([(DARK, 1.0), (GREY, 1.0)])), members, show_open=True, batch_size=1)
    assert {(e.label, e.start) for e in events if isinstance(e, OpenSegment)} == {("dark", 0.0)}
    assert segments_in(events) == [("dark", 0.0, 1.0)]


# --- breaks ---------------------------------------------------------------------------------------


def test_a_lost_stream_is_found_again_and_segments_end_there() -> None:
    """Frames that are there at once: the second connection goes on where the first one ended."""
    source = FakeSource(
        [
            FakeConnection(grey_frames(even([(DARK, 1.2)])), failure="Connection reset by peer"),
            VideoError("still away"),
            VideoError("still away"),
            FakeConnection(grey_frames(even([(DARK, 0.8), (GREY, 0.7)])), corrupt_frames=2),
        ],
        reconnects=True,
    )
    events = live(source, brightness_member())
    lost, back = (next(e for e in events if isinstance(e, kind)) for kind in (Discontinuity, Resumption))
    assert (lost.time, lost.reason) == (1.2, "Connection reset by peer")
    assert (back.time, back.attempts) == (1.2, 3)
    # Of the second run the first whole interval is 1.5 to 2 s; its grid is that of the stream.
    assert segments_in(events) == [("dark", 0.0, 1.0), ("dark", 1.5, 2.0)]
    order = [type(event).__name__ for event in events if not isinstance(event, Start | End)]
    assert order == ["LiveSegment", "Discontinuity", "Resumption", "LiveSegment"]
    end = end_of(events)
    assert (end.reconnects, end.corrupt, end.frames, end.complete) == (1, 2, 30 + 38, True)
    assert [
        connection.closed for connection in source.connections if isinstance(connection, FakeConnection)
    ] == [
        1,
        1,
    ]


@settings(max_examples=60)
@given(
    members=st.lists(any_member((0.25, 0.5, 1.0)), min_size=1, max_size=2),
    runs=st.lists(st.lists(st.sampled_from([DARK, GREY, BRIGHT]), min_size=3, max_size=9), max_size=3),
)
def test_each_connection_is_a_video_of_its_own(members: list[Member], runs: list[list[int]]) -> None:
    """Connections of whole seconds: windows, cells and smoothing end at a break as at a video's end."""
    parts = [grey_frames(even([(level, 1.0) for level in levels])) for levels in runs]
    expected, begin = [], 0.0
    for levels, frames in zip(runs, parts, strict=True):
        expected += [
            (round(begin + s.start_seconds, 6), round(begin + s.end_seconds, 6), s.label, round(s.score, 6))
            for s in offline(frames, members, Options()).segments
        ]
        begin += len(levels)
    failures = ["lost"] * (len(parts) - 1) + [None]  # type: ignore[list-item]
    connections = [FakeConnection(part, failure=why) for part, why in zip(parts, failures, strict=False)]
    if not parts:
        return
    events = live(FakeSource(connections, reconnects=True), members, batch_size=3)  # type: ignore[arg-type]
    found = [(e.start, e.end, e.label, e.score) for e in events if isinstance(e, LiveSegment)]
    assert sorted(found) == sorted(expected)


def test_even_without_a_pause_a_break_ends_segments() -> None:
    source = FakeSource(
        [
            FakeConnection(grey_frames(even([(DARK, 1.0)])), failure="lost"),
            FakeConnection(grey_frames(even([(DARK, 1.0)]))),
        ],
        reconnects=True,
    )
    assert segments_in(live(source, brightness_member())) == [("dark", 0.0, 1.0), ("dark", 1.0, 2.0)]


def test_the_wall_clock_goes_on_while_a_camera_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of 25 a second that come on time; then nothing for 7 s."""
    now = [1000.0]

    class Clock:
        monotonic = staticmethod(lambda: now[0])
        time = staticmethod(lambda: now[0] + 1e9)

    def tick(_: int) -> None:
        now[0] += 0.04

    def away(number: int) -> None:
        now[0] += 7.0 if number == 0 else 0.04

    monkeypatch.setattr(capture, "time", Clock)
    source = FakeSource(
        [
            FakeConnection(grey_frames(even([(DARK, 1.0)])), failure="lost", before=tick),
            FakeConnection(grey_frames(even([(BRIGHT, 1.5)])), before=away),
        ],
        is_live=True,
        reconnects=True,
    )
    events = live(source, brightness_member(), drop="none")
    (back,) = (e for e in events if isinstance(e, Resumption))
    assert back.time == pytest.approx(0.96 + 7.0)
    assert segments_in(events) == [("dark", 0.0, 1.0), ("bright", 8.0, 9.0)]
    first, second = (e for e in events if isinstance(e, LiveSegment))
    assert first.start_wall is not None
    assert second.start_wall is not None
    assert first.start_wall.timestamp() == pytest.approx(1e9 + 1000.04, abs=0.002)
    assert (second.start_wall - first.start_wall).total_seconds() == pytest.approx(8.0, abs=0.002)


def test_a_stream_that_stays_away_ends_the_run() -> None:
    away: list[FakeConnection | VideoError] = [VideoError("away")] * 1000
    source = FakeSource(
        [FakeConnection(grey_frames(even([(DARK, 1.2)])), failure="lost"), *away], reconnects=True
    )
    events = live(source, brightness_member(), reconnect_seconds=0.3)
    end = end_of(events)
    assert (end.reason, end.complete) == ("lost; not back within 0.3 s", False)
    assert 2 < source.opened < 1000
    source = FakeSource([FakeConnection(grey_frames(even([(DARK, 1.2)])), failure="lost")], reconnects=True)
    end = end_of(live(source, brightness_member(), reconnect_seconds=0.0))
    assert (end.reason, end.complete, end.reconnects) == ("lost", False, 0)


def test_an_end_is_a_loss_where_servers_die() -> None:
    connections = [FakeConnection(grey_frames(even([(DARK, 1.0)]))) for _ in range(3)]
    source = FakeSource([*connections, *[VideoError("away")] * 1000], reconnects=True, end_is_loss=True)
    events = live(source, brightness_member(), reconnect_seconds=0.02)
    assert segments_in(events) == [("dark", 0.0, 1.0), ("dark", 1.0, 2.0), ("dark", 2.0, 3.0)]
    assert end_of(events).reason == "the stream ended; not back within 0.02 s"


def test_connections_without_a_frame_are_one_discontinuity() -> None:
    source = FakeSource(
        [
            FakeConnection(grey_frames(even([(DARK, 1.0)])), failure="lost"),
            FakeConnection([], failure="lost"),
            FakeConnection([], failure="lost"),
            FakeConnection(grey_frames(even([(DARK, 1.0)]))),
        ],
        reconnects=True,
    )
    events = live(source, brightness_member())
    assert [e.attempts for e in events if isinstance(e, Resumption)] == [3]
    assert len([e for e in events if isinstance(e, Discontinuity)]) == 1
    assert end_of(events).reconnects == 3


# --- too slow -------------------------------------------------------------------------------------


@dataclass
class GatedBackend(BrightnessBackend):
    """Waits in its first call until it is let go, and says when it is there."""

    there: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        self.there.set()
        wait_for(self.go)
        return super().infer(frames)


def live_held_up(backend: GatedBackend, member: Member, batch_size: int) -> list[Event]:
    """Play 5 s and a frame; what is scored first is held up until all of them have come."""

    def before(number: int) -> None:
        if number == 14:  # interval 0 is over
            wait_for(backend.there)

    frames = grey_frames(even([(DARK, 5.0)]))
    source = FakeSource([FakeConnection([*frames, *grey_frames([(5.0, 0.04, DARK)])], before=before)])
    original = capture.StreamCapture.run

    def run(self: capture.StreamCapture) -> None:
        original(self)
        backend.go.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture.StreamCapture, "run", run)
        return live(source, replace(member, backend=backend), drop="oldest", batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_oldest_intervals_are_dropped_and_reported(batch_size: int) -> None:
    """Interval 0 is being scored while 1 to 9 come: the newest `batch_size` are kept."""
    backend = GatedBackend()
    events = live_held_up(backend, brightness_member(), batch_size)
    first_kept = 10 - batch_size
    (drop,) = (e for e in events if isinstance(e, Drop))
    assert (drop.start, drop.end, drop.intervals) == (0.5, first_kept / 2, first_kept - 1)
    assert segments_in(events) == [("dark", 0.0, 0.5), ("dark", first_kept / 2, 5.0)]
    end = end_of(events)
    assert (end.dropped, end.intervals, end.frames) == (first_kept - 1, 1 + batch_size, 126)
    assert backend.batch_sizes == [1, batch_size]


def test_a_drop_among_intervals_that_overlap_ends_cells_and_smoothing() -> None:
    """Interval k is [k/4, k/4 + 1/2). 0 is being scored while 1 to 18 come; the newest two are kept."""
    backend = GatedBackend()
    member = member_of(replace(HALF, stride_seconds=0.25), smoothing_seconds=1.0)
    events = live_held_up(backend, member, 1)
    (drop,) = (e for e in events if isinstance(e, Drop))
    assert (drop.start, drop.end, drop.intervals) == (0.25, 4.5, 16)  # intervals 1 to 16
    assert segments_in(events) == [("dark", 0.0, 0.5), ("dark", 4.25, 5.0)]
    assert [type(e).__name__ for e in events] == ["Start", "Drop", "LiveSegment", "LiveSegment", "End"]
    end = end_of(events)
    assert (end.dropped, end.intervals) == (16, 3)


def test_nothing_is_dropped_where_the_source_can_wait() -> None:
    backend = GatedBackend()
    pulled: list[int] = []
    source = FakeSource([FakeConnection(grey_frames(even([(DARK, 20.0)])), before=pulled.append)])
    member = replace(brightness_member(), backend=backend)
    with closing(watch(source, member, LiveOptions(batch_size=2))) as events:
        next(events)
        threading.Thread(target=lambda: (wait_for(backend.there), time.sleep(0.05), backend.go.set())).start()
        assert segments_in(list(events)) == [("dark", 0.0, 20.0)]
    assert sum(backend.batch_sizes) == 40
    assert max(backend.batch_sizes) == 2


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "member",
    [
        brightness_member(),
        member_of(HALF, smoothing_seconds=6.0),
        member_of(replace(HALF, window_seconds=2.0, stride_seconds=0.125), smoothing_seconds=1.0),
    ],
)
def test_who_stops_it_gets_all_that_is_open(member: Member) -> None:
    """A stream without end, stopped after its first second; what waits for scores or frames comes too."""
    stop = threading.Event()

    def endless() -> Iterator[TimedFrame]:
        number = 0
        while True:
            yield grey_frames([(number * 0.04, 0.04, DARK)])[0]
            number += 1

    source = FakeSource([FakeConnection(endless())])  # type: ignore[arg-type]
    events: list[Event] = []
    for event in watch(source, member, LiveOptions(show_open=True), stop=stop):
        events.append(event)
        if isinstance(event, OpenSegment) and event.end >= 1:
            stop.set()
    end = end_of(events)
    assert (end.reason, end.complete) == ("stopped", True)
    (found,) = segments_in(events)
    stride = member.spec.stride_seconds
    assert found == ("dark", 0.0, (end.intervals - 1) * stride + 0.5)
    assert end.time - stride - 0.04 < found[2] <= end.time


def test_a_capture_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from tsm_runtime.live import stream_run

    monkeypatch.setattr(stream_run, "_STOP_TIMEOUT_SECONDS", 0.2)
    stop, release = threading.Event(), threading.Event()

    def before(number: int) -> None:
        if number == 30:
            stop.set()
            wait_for(release)

    source = FakeSource([FakeConnection(grey_frames(even([(DARK, 5.0)])), before=before)])
    events = list(watch(source, brightness_member(), stop=stop))
    release.set()
    assert segments_in(events) == [("dark", 0.0, 1.0)]
    assert end_of(events).reason == "stopped"


def test_a_run_that_ends_does_not_stop_others() -> None:
    stop = threading.Event()
    assert end_of(list(watch(source_of(even(SCENE)), brightness_member(), stop=stop))).complete
    assert not stop.is_set()


def test_leaving_early_while_a_stream_is_away() -> None:
    """The run does not wait for the next attempt, which is far off."""
    source = FakeSource([FakeConnection(grey_frames(even([(DARK, 1.0)])), failure="lost")], reconnects=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture, "_FIRST_PAUSE_SECONDS", 30.0)
        events = watch(source, brightness_member())
        while not isinstance(next(events), Discontinuity):
            pass
        before = threading.active_count()
        events.close()
        assert threading.active_count() == before - 1


def test_leaving_early_ends_the_capture() -> None:
    source = source_of(even([(DARK, 60.0)]))
    events = watch(source, brightness_member(), LiveOptions(batch_size=1))
    next(events)
    before = threading.active_count()
    events.close()
    assert threading.active_count() == before - 1
    assert isinstance(source.connections[0], FakeConnection)
    assert source.connections[0].closed == 1


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [RuntimeError("wires crossed"), MemoryError(), VideoError("fake: odd pictures")]
)
def test_a_fault_of_the_capture_ends_the_run_with_its_message(error: BaseException) -> None:
    source = FakeSource([FakeConnection(grey_frames(even([(DARK, 1.2)])), error=error)])
    events: list[Event] = []
    with pytest.raises(type(error)) as caught:
        events.extend(watch(source, brightness_member()))
    assert caught.value is error
    assert segments_in(events) == [("dark", 0.0, 1.0)]
    assert end_of(events).reason == (str(error) or "MemoryError")
    assert not end_of(events).complete


def test_a_fault_of_the_model_ends_the_run_with_its_message() -> None:
    class Failing(BrightnessBackend):
        def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
            if sum(self.batch_sizes) >= 2:
                raise RunError("no memory left")
            return super().infer(frames)

    events: list[Event] = []
    member = replace(brightness_member(), backend=Failing())
    with pytest.raises(RunError, match="no memory left"):
        events.extend(watch(source_of(even([(DARK, 5.0)])), member, LiveOptions(batch_size=1)))
    assert segments_in(events) == [("dark", 0.0, 1.0)]
    assert (end_of(events).reason, end_of(events).complete) == ("no memory left", False)


def test_scores_that_are_no_numbers_end_the_run() -> None:
    class Broken(BrightnessBackend):
        def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
            return super().infer(frames)._replace(scene=np.full((len(frames), 2), math.nan, np.float32))

    with pytest.raises(RunError, match=r"^fake: the model gave scores that are not numbers \(nan\)"):
        live(source_of(even([(DARK, 1.0)])), replace(brightness_member(), backend=Broken()))


def test_a_source_that_does_not_open_gives_no_event() -> None:
    events: list[Event] = []
    with pytest.raises(VideoError, match="no camera"):
        events.extend(watch(FakeSource([VideoError("no camera")]), brightness_member()))
    assert events == []


@pytest.mark.parametrize(
    ("levels", "why"),
    [
        ([], r"^fake: no frame of the video stream could be decoded \(the stream ended\)$"),
        (even([(DARK, 0.4)]), r"^fake: no whole interval of 0.5 s in 0.400 s \(the stream ended\)$"),
    ],
)
def test_too_short_a_stream_is_an_error(levels: list[Level], why: str) -> None:
    with pytest.raises(VideoError, match=why):
        live(source_of(levels), brightness_member())


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"batch_size": 0}, "batch 0: expected 1 or more"),
        ({"reconnect_seconds": -1.0}, "reconnect -1: expected seconds, 0 or more"),
        ({"reconnect_seconds": math.nan}, "reconnect nan: expected"),
        ({"min_score": 2.0}, "min-score 2: expected 0 to 1"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, float], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        LiveOptions(**options)  # type: ignore[arg-type]


def test_a_run_for_no_model_is_refused() -> None:
    with pytest.raises(ValueError, match="no model"):
        watch(source_of([]), [])


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("every_setting", [False, True])
def test_memory_does_not_grow_with_the_stream(every_setting: bool) -> None:
    """Gaps, breaks, segments by the hundred; 20 bytes for each frame, or 120 for each gap, would be seen.

    Some 60 kB are tuples that Python keeps for later, up to a number of its own.
    """
    number_of_frames, sizes = 6_000, []
    frame = grey_frames([(0.0, 0.04, DARK)])[0].frame
    other = grey_frames([(0.0, 0.04, BRIGHT)])[0].frame

    def endless() -> Iterator[TimedFrame]:
        seconds = 0.0
        for number in range(number_of_frames):
            seconds += 0.1 if number % 6 else (0.9, 0.55)[number % 12 // 6]
            yield TimedFrame(frame if number // 30 % 2 else other, seconds, 0.04)
            if number in (1_500, number_of_frames - 1):
                sizes.append(tracemalloc.get_traced_memory()[0])

    class Level(BrightnessBackend):
        def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
            scores = super().infer(frames)
            self.batch_sizes.clear()
            return scores

    source = FakeSource([FakeConnection(endless())])  # type: ignore[arg-type]
    spec, rules = ClipSpec(interval_seconds=0.5, num_frames=4, size=16), {}
    if every_setting:
        spec = replace(spec, stride_seconds=0.25, window_seconds=0.8)
        rules = {"smoothing_seconds": 1.0, "min_duration_seconds": 0.3}
    member = replace(member_of(spec, **rules), backend=Level())
    kinds: dict[str, int] = {}
    tracemalloc.start()
    try:
        for event in watch(source, member, LiveOptions(batch_size=1)):
            kinds[type(event).__name__] = kinds.get(type(event).__name__, 0) + 1
    finally:
        tracemalloc.stop()
    assert kinds["LiveSegment"] > 200
    assert kinds["LiveGap"] == number_of_frames // 6 - 1
    assert sizes[1] - sizes[0] < 90_000
