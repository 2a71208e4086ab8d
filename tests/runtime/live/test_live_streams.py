"""Several streams in one run: each finds what it finds alone, in batches that they share."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from fakes import BrightnessBackend, brightness_member
from streams import FakeConnection, FakeSource, even, grey_frames, segments_in, source_of, wait_for

from tsm_runtime.backends.base import Scores
from tsm_runtime.errors import VideoError
from tsm_runtime.live import capture
from tsm_runtime.live.events import End, Event, Resumption, Start
from tsm_runtime.live.options import LiveOptions
from tsm_runtime.live.session import watch, watch_streams
from tsm_runtime.models.member import Member

DARK, GREY, BRIGHT = 20, 128, 235
SCENES = {
    "one": [(DARK, 1.0), (GREY, 0.5), (BRIGHT, 1.5)],
    "two": [(BRIGHT, 2.0), (DARK, 1.0)],
    "three": [(GREY, 0.5), (DARK, 1.0)],
}


@pytest.fixture(autouse=True)
def quick_reconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "_FIRST_PAUSE_SECONDS", 0.001)


def run(
    sources: Mapping[str, FakeSource], member: Member, **options: object
) -> tuple[dict[str, list[Event]], dict[str, BaseException]]:
    events: dict[str, list[Event]] = {name: [] for name in sources}
    errors: dict[str, BaseException] = {}
    for name, item in watch_streams(sources, member, LiveOptions(**options)):  # type: ignore[arg-type]
        assert name not in errors, "an error is the last item of its stream"
        if isinstance(item, BaseException):
            errors[name] = item
        else:
            events[name].append(item)
    return events, errors


def test_each_stream_finds_what_it_finds_alone() -> None:
    sources = {name: source_of(even(scene)) for name, scene in SCENES.items()}
    events, errors = run(sources, brightness_member())
    assert errors == {}
    for name, scene in SCENES.items():
        alone: list[Event] = list(watch(source_of(even(scene)), brightness_member()))
        assert segments_in(events[name]) == segments_in(alone) != []
        start, end = events[name][0], events[name][-1]
        assert isinstance(start, Start)
        assert isinstance(end, End)
        assert (start.video, end.complete) == (name, True)
        assert isinstance(alone[-1], End)
        assert end.intervals == alone[-1].intervals


class Gathering(BrightnessBackend):
    """Holds the first call back until clips of all streams wait, and notes the sizes of batches."""

    def __init__(self, waits: threading.Event) -> None:
        super().__init__()
        self.waits, self.sizes = waits, list[int]()

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        wait_for(self.waits)
        self.sizes.append(len(frames))
        return super().infer(frames)


def test_clips_of_streams_share_batches() -> None:
    ready, read = threading.Event(), set[str]()

    def last_frame(name: str, number: int) -> None:
        if number == 30:
            read.add(name)
            if len(read) == 3:
                ready.set()

    scene = even([(DARK, 1.4)])
    sources = {
        name: FakeSource(
            [FakeConnection(grey_frames(scene), before=lambda number, name=name: last_frame(name, number))]
        )
        for name in "abc"
    }
    member = brightness_member()
    backend = Gathering(ready)
    events, errors = run(sources, replace(member, backend=backend))
    assert errors == {}
    assert sum(backend.sizes) == 3 * 2
    assert max(backend.sizes) >= 2
    assert all(segments_in(events[name]) == [("dark", 0.0, 1.0)] for name in "abc")


def test_a_dead_stream_does_not_touch_the_others() -> None:
    """One cannot be opened, one breaks off without a whole interval, one comes back."""
    sources = {
        "good": source_of(even(SCENES["one"])),
        "away": FakeSource([VideoError("away: cannot be opened")]),
        "short": source_of(even([(DARK, 0.2)])),
        "late": FakeSource(
            [VideoError("late: cannot be opened"), FakeConnection(grey_frames(even(SCENES["two"])))],
            reconnects=True,
        ),
    }
    events, errors = run(sources, brightness_member())
    assert segments_in(events["good"]) == [("dark", 0.0, 1.0), ("bright", 1.5, 3.0)]
    assert segments_in(events["late"]) == [("bright", 0.0, 2.0), ("dark", 2.0, 3.0)]
    assert [e.attempts for e in events["late"] if isinstance(e, Resumption)] == [1]
    assert {name: str(error) for name, error in errors.items()} == {
        "away": "away: cannot be opened",
        "short": "fake: no whole interval of 0.5 s in 0.200 s (the stream ended)",
    }


def test_a_model_that_fails_ends_all_streams() -> None:
    class Failing(BrightnessBackend):
        def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
            raise RuntimeError("no more")

    member = brightness_member()
    broken = replace(member, backend=Failing())
    sources = {name: source_of(even(scene)) for name, scene in SCENES.items()}
    events, errors = run(sources, broken)
    assert {name: str(error) for name, error in errors.items()} == dict.fromkeys(SCENES, "no more")
    assert all(isinstance(e, End) and not e.complete for lines in events.values() for e in lines[1:])
