"""The capture thread: reads frames of a source, reconnects, and puts items into the backlog."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from tsm_runtime.audio.listening import Listening
from tsm_runtime.clips.stream import Look, look_of
from tsm_runtime.errors import VideoError
from tsm_runtime.live.backlog import Backlog, Break, Item, Moment, Opened, Pixels, Resumed, StreamEnded
from tsm_runtime.live.feeds import Feed
from tsm_runtime.live.inputs import LiveInput
from tsm_runtime.live.sound_gate import SoundGate
from tsm_runtime.video.clock import TimedFrame
from tsm_runtime.video.sources import Connection, Source

STOPPED = "stopped"
"""The reason of a run that was stopped by its caller."""

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
"""Between attempts to reconnect: the pause doubles from the first to the longest."""

_POLL_SECONDS = 0.1
"""How often a pause checks for the end of the run."""


@dataclass(slots=True)
class CaptureCounts:
    """Counters, written by the capture thread alone."""

    frames: int = 0
    corrupt: int = 0
    reconnects: int = 0
    last_frame: float | None = None
    """`time.monotonic()` at the arrival of the last frame."""


@dataclass(slots=True)
class _Position:
    """Stream time and arrival of a frame."""

    timed: TimedFrame
    start_seconds: float
    arrived: float

    @property
    def end_seconds(self) -> float:
        return self.start_seconds + self.timed.duration_seconds


class _Stopped(Exception):  # noqa: N818  # no error: leaves nested loops
    """The run is over: no more frames are needed."""


class StreamCapture:
    """Reads a source until it ends, in a thread of its own.

    Args:
        source: where frames come from.
        feeds: turn frames into items.
        backlog: takes the items; the last item is an `StreamEnded`, also after a failure.
        stop: set from any thread, ends the capture at the next frame.
        reconnect_seconds: how long to try to reconnect to a lost stream; 0: never.
        may_wait: of a source whose frames wait, drop no interval.
        waits_for_source: treat a source that cannot be opened at first as a lost one, if it reconnects.
        taken: what the models take from the source.
        gate: adds sound to clips; None: no model hears beside what it sees.
    """

    def __init__(
        self,
        source: Source,
        feeds: Sequence[Feed],
        backlog: Backlog,
        stop: threading.Event,
        *,
        reconnect_seconds: float = math.inf,
        may_wait: bool = False,
        waits_for_source: bool = False,
        taken: LiveInput | None = None,
        gate: SoundGate | None = None,
    ) -> None:
        self.counts = CaptureCounts()
        self._source = source
        self._feeds = tuple(feeds)
        self._backlog = backlog
        self._stop = stop
        self._reconnect_seconds = reconnect_seconds
        self._may_wait = may_wait
        self._waits_for_source = waits_for_source and source.reconnects
        self._input, self._gate = taken or LiveInput(), gate
        self._listening: Listening | None = None
        looks = {look_of(feed.spec) for feed in feeds}
        self._converters = {look: self._input.converter(*look) for look in looks}
        self._shown: _Position | None = None
        """The newest frame, which is on screen until the next one arrives."""
        self._last: _Position | None = None
        """The last frame before a break."""
        self._lost: float | None = None
        """Time of the break; None: no break."""
        self._attempts = 0  # to connect since then
        self._wall_offset = math.nan
        self._corrupt_before = 0  # in earlier connections

    def run(self) -> None:
        """Capture until the end; raises nothing."""
        try:
            ended = self._read_source()
        except _Stopped:
            ended = StreamEnded(at=self._moment(), reason=STOPPED)
        except BaseException as error:
            reason = str(error) or type(error).__name__
            ended = StreamEnded(at=self._moment(), reason=reason, complete=False, error=error)
        with suppress(_Stopped):
            self._put(ended, is_last=True)

    def _read_source(self) -> StreamEnded:
        try:
            connection = self._connect()
            if self._may_wait and connection.waits:
                self._backlog.drops = False
            self._put(Opened(at=self._moment()))
        except VideoError as error:
            if not self._waits_for_source:
                raise
            self._put(Opened(at=self._moment()))
            self._break(str(error))
            found = self._reconnect()
            if found is None:
                return StreamEnded(at=self._moment(), reason=str(error), complete=False, error=error)
            connection = found
        while True:
            failure = self._read_connection(connection)
            if failure is None and not self._source.end_is_loss:
                return StreamEnded(at=self._moment(), reason="the stream ended")
            failure = failure or "the stream ended"
            is_unreadable_file = connection.waits and not self.counts.frames
            if not self._source.reconnects or is_unreadable_file:
                return StreamEnded(at=self._moment(), reason=failure, complete=False)
            self._break(failure)
            found = self._reconnect()
            if found is None:
                after = f"; not back within {self._reconnect_seconds:g} s" if self._reconnect_seconds else ""
                return StreamEnded(at=self._moment(), reason=f"{failure}{after}", complete=False)
            connection = found

    def _connect(self) -> Connection:
        connection, self._listening = self._input.connect(self._source)
        if self._gate is not None:
            self._gate.listen(self._listening)
        return connection

    def _read_connection(self, connection: Connection) -> str | None:
        """Read a connection to its end; return why it broke off, or None if it reached its own end."""
        try:
            self._read_run(connection)
            return connection.failure
        finally:
            self._corrupt_before += connection.corrupt_frames
            self.counts.corrupt = self._corrupt_before
            connection.close()
            if self._listening is not None:
                self._listening.close()

    def _break(self, reason: str) -> None:
        if self._lost is None:  # a connection without any frame is not reported again
            self._lost = time.monotonic()
            self._put(Break(at=self._moment(), reason=reason), is_last=True)

    def _reconnect(self) -> Connection | None:
        """Return the next connection, or None if the stream does not come back in time."""
        until = (self._lost or 0.0) + self._reconnect_seconds
        while (left := until - time.monotonic()) > 0:
            pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(self._attempts, 10))
            self._wait(min(pause, left))
            self._attempts += 1
            try:
                connection = self._connect()
            except VideoError:
                continue
            self.counts.reconnects += 1
            return connection
        return None

    def _wait(self, seconds: float) -> None:
        """Wait; raise `_Stopped` when the run is over."""
        until = time.monotonic() + seconds
        while True:
            left = until - time.monotonic()
            if self._stop.wait(max(0.0, min(left, _POLL_SECONDS))) or self._backlog.closed:
                raise _Stopped
            if left <= _POLL_SECONDS:
                return

    def _read_run(self, connection: Connection) -> None:
        """Read frames, those after a discontinuity as after a break."""
        origin: float | None = None
        try:
            for timed in connection.frames():
                self._wait(0.0)
                now = time.monotonic()
                if timed.discontinuity and origin is not None:
                    self._finish()
                    self._break(timed.discontinuity)
                    origin = None
                if origin is None:
                    zero = 0.0 if self._input.is_alone else timed.start_seconds  # sound may begin late
                    origin = self._begin(now) - zero
                    if self._gate is not None:
                        self._gate.begin(origin)
                self.counts.frames += 1
                self.counts.last_frame = now
                self.counts.corrupt = self._corrupt_before + connection.corrupt_frames
                self._take(_Position(timed, origin + timed.start_seconds, now))
        except _Stopped:
            self._finish()
            raise
        self._finish()

    def _begin(self, now: float) -> float:
        """Return the stream time of the first frame of a connection; report the end of a break."""
        self._wall_offset = math.nan
        if self._lost is None:
            return 0.0
        start = 0.0
        if self._last is not None:
            start = self._last.end_seconds
            if self._source.is_live:
                start = max(start, self._last.start_seconds + now - self._last.arrived)
        for feed in self._feeds:
            feed.restart(start)
        self._put(Resumed(at=Moment(start, math.nan, now), attempts=self._attempts))
        self._lost, self._attempts = None, 0
        return start

    def _take(self, position: _Position) -> None:
        if self._source.is_live:
            # Frames that were buffered on the way arrive late: the smallest offset is the best estimate.
            offset = time.time() - position.start_seconds
            self._wall_offset = offset if math.isnan(self._wall_offset) else min(self._wall_offset, offset)
        if self._shown is not None:
            self._show(self._shown, position.start_seconds, position.arrived)
        self._shown = position

    def _finish(self) -> None:
        """Show the last frame for its own duration."""
        if self._shown is None:
            return
        last, self._shown = self._shown, None
        self._last = last
        self._show(last, last.end_seconds, time.monotonic())
        for feed in self._feeds:
            for item in feed.finish(self._moment()):
                self._put(item)

    def _show(self, position: _Position, until_seconds: float, arrived: float) -> None:
        pictures: dict[Look, Pixels] = {}  # of this frame
        at = Moment(until_seconds, self._wall_offset, arrived)

        def picture(look: Look) -> Pixels:
            if look not in pictures:
                pictures[look] = self._converters[look](position.timed.frame)
            return pictures[look]

        for feed in self._feeds:
            for item in feed.push(
                position.start_seconds, until_seconds, partial(picture, look_of(feed.spec)), at
            ):
                self._put(item)

    def _put(self, item: Item, *, is_last: bool = False) -> None:
        items = [item] if self._gate is None else self._gate.push(item, is_last=is_last)
        for each in items:
            if not self._backlog.put(each):
                raise _Stopped

    def _moment(self) -> Moment:
        newest = self._shown or self._last
        seconds = 0.0 if newest is None else newest.end_seconds
        return Moment(seconds, self._wall_offset, time.monotonic())
