"""Streams for the tests of live runs: frames without any file, and connections that break."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from av import VideoFrame

from tsm_runtime.errors import VideoError
from tsm_runtime.live.events import Event, LiveSegment
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline import reading as videos
from tsm_runtime.pipeline import run as pipeline
from tsm_runtime.pipeline.options import Options
from tsm_runtime.results import Result
from tsm_runtime.video.clock import TimedFrame

Level = tuple[float, float, int]
"""A grey frame: start and duration in seconds, and how bright it is."""


def grey_frames(levels: Sequence[Level]) -> list[TimedFrame]:
    """Frames of 32 x 32."""
    return [
        TimedFrame(VideoFrame.from_ndarray(np.full((32, 32, 3), level, np.uint8), "rgb24"), start, duration)
        for start, duration, level in levels
    ]


@dataclass
class FakeConnection:
    """Frames that are there at once; it may fail at the end, and call something before each frame."""

    given: Sequence[TimedFrame]
    failure: str | None = None
    error: BaseException | None = None
    before: Callable[[int], object] = lambda _: None
    corrupt_frames: int = 0
    waits: bool = False
    closed: int = 0

    def frames(self, start_seconds: float = 0.0) -> Iterator[TimedFrame]:
        for number, timed in enumerate(self.given):
            self.before(number)
            yield timed
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed += 1


@dataclass
class FakeSource:
    """Connections one after another; an exception among them is an attempt that fails."""

    connections: list[FakeConnection | VideoError]
    is_live: bool = False
    reconnects: bool = False
    end_is_loss: bool = False
    name: str = "fake"
    video_id: str = "stream"
    opened: int = field(default=0, init=False)

    def open(self) -> FakeConnection:
        self.opened += 1
        found = self.connections[self.opened - 1]
        if isinstance(found, VideoError):
            raise found
        return found


def source_of(levels: Sequence[Level], **more: object) -> FakeSource:
    return FakeSource([FakeConnection(grey_frames(levels))], **more)  # type: ignore[arg-type]


def even(levels: Sequence[tuple[int, float]], *, rate: int = 25, start: float = 0.0) -> list[Level]:
    """Frames at a steady rate: each level for so many seconds."""
    brightness = [level for level, seconds in levels for _ in range(round(seconds * rate))]
    return [(start + number / rate, 1 / rate, level) for number, level in enumerate(brightness)]


def segments_in(events: Sequence[Event]) -> list[tuple[str, float, float]]:
    return [(e.label, e.start, e.end) for e in events if isinstance(e, LiveSegment)]


def wait_for(event: threading.Event) -> None:
    """Wait as long as a test may last: what never comes is a failure, not a hang."""
    assert event.wait(60)


class Frames:
    """What a file's reader gives."""

    claimed_seconds = None
    failure = None
    corrupt_frames = 0
    assumed_rate = None
    notices = ()
    stream_kind = "video"

    def __init__(self, path: Path, given: list[TimedFrame]) -> None:
        self.path, self.given = path, given

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, *_: object) -> None: ...

    def frames(self, start_seconds: float = 0.0) -> Iterator[TimedFrame]:
        yield from self.given


def offline(given: list[TimedFrame], members: Member | list[Member], options: Options) -> Result:
    """Run on these frames as on those of a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(videos, "VideoReader", lambda path, *_, **__: Frames(path, given))
        return pipeline.run(Path("fake"), members, options)
