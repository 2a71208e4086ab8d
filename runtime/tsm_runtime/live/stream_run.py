"""One stream of a live run: its capture, its merging and its events. Clips are scored elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tsm_runtime.backends.base import Scores
from tsm_runtime.backends.online import OnlineBackend
from tsm_runtime.errors import RunError, VideoError
from tsm_runtime.fusion.options import FusionOptions
from tsm_runtime.live.backlog import (
    Backlog,
    Break,
    Clip,
    Dropped,
    Gap,
    Item,
    Opened,
    Passed,
    Picture,
    Resumed,
    StreamEnded,
)
from tsm_runtime.live.capture import STOPPED, StreamCapture
from tsm_runtime.live.ensemble import Tracks
from tsm_runtime.live.events import Event
from tsm_runtime.live.feeds import by_frame, feeds_of
from tsm_runtime.live.frame_scorer import IntervalScorer
from tsm_runtime.live.inputs import LiveInput
from tsm_runtime.live.reporter import EventReporter
from tsm_runtime.live.sound_gate import SoundGate
from tsm_runtime.models.member import Member
from tsm_runtime.video.sources import Source

DropPolicy = Literal["oldest", "none"]

_STOP_TIMEOUT_SECONDS = 1.0
"""How long to wait for the capture thread to stop; a blocking read can keep it from doing so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """How to run on one stream; see `LiveOptions`.

    Args:
        waits_for_source: try to connect again, as after a loss, when the source cannot be opened at first.
    """

    video_id: str
    drop: DropPolicy | None
    show_open: bool
    batch_size: int
    reconnect_seconds: float
    min_score: float
    fusion: FusionOptions
    bundles: tuple[str, ...]
    lookahead_seconds: float = 0.0
    waits_for_source: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """Counts of a stream up to now, for monitoring.

    Args:
        name: name of the stream.
        is_over: whether the stream has ended.
        last_frame: `time.monotonic()` at the arrival of the last frame; None: no frame yet.
        frames, corrupt, reconnects: as in `CaptureCounts`.
        intervals, dropped, segments, gaps: as in the `End` event.
        queued: items that wait for scoring.
    """

    name: str
    is_over: bool
    last_frame: float | None
    frames: int
    corrupt: int
    reconnects: int
    intervals: int
    dropped: int
    segments: int
    gaps: int
    queued: int


class StreamRun:
    """The state of one stream. All methods belong to the thread that scores; the capture has its own.

    Args:
        source: where frames come from.
        members: the models.
        settings: of this stream.
        stop: set from any thread to end the run.
        arrived: set when there is something to `take`.
    """

    def __init__(
        self,
        source: Source,
        members: Sequence[Member],
        settings: StreamSettings,
        stop: threading.Event,
        arrived: threading.Event,
    ) -> None:
        self.source, self.settings = source, settings
        self._members = members
        self._feeds, self.members_of = feeds_of(members)
        self._finest = min(self._feeds, key=lambda feed: feed.spec.interval_seconds).number
        self._backlog = Backlog(
            settings.batch_size,
            drop=settings.drop == "oldest" if settings.drop else source.is_live,
            at_once={feed.number: feed.spec.num_open for feed in self._feeds},
            arrived=arrived,
        )
        taken = LiveInput.of(members)
        self._capture = StreamCapture(
            source,
            self._feeds,
            self._backlog,
            stop,
            taken=taken,
            gate=self._gate(taken),
            reconnect_seconds=settings.reconnect_seconds,
            may_wait=settings.drop is None,
            waits_for_source=settings.waits_for_source,
        )
        self._tracks = Tracks(members, settings.fusion, settings.min_score, settings.lookahead_seconds)
        self._scorers = {
            number: IntervalScorer(member.backend.model.scorer(), member.spec)
            for number, member in enumerate(members)
            if isinstance(member.backend, OnlineBackend) and by_frame(member)
        }
        self._broken: set[tuple[int, int]] = set()
        """(member, interval) after a gap, of members that get single pictures."""
        self._reporter = EventReporter(source, members, settings.lookahead_seconds)
        self._stop = stop
        self._patience = _STOP_TIMEOUT_SECONDS
        self._is_open = self._is_over = False
        self._thread = threading.Thread(target=self._capture.run, name="capture", daemon=True)

    def state(self) -> StreamState:
        """Return the counts of the stream; from any thread."""
        counts, reporter = self._capture.counts, self._reporter
        return StreamState(
            name=self.settings.video_id or self.source.video_id,
            is_over=self._is_over,
            last_frame=counts.last_frame,
            frames=counts.frames,
            corrupt=counts.corrupt,
            reconnects=counts.reconnects,
            intervals=self._tracks.num_intervals,
            dropped=reporter.num_dropped,
            segments=reporter.num_segments,
            gaps=reporter.num_gaps,
            queued=len(self._backlog),
        )

    def _gate(self, taken: LiveInput) -> SoundGate | None:
        if taken.sound is None or taken.is_alone:
            return None
        hearing = {
            feed.number: feed.spec
            for feed in self._feeds
            if any(self._members[number].sound is not None for number in self.members_of[feed.number])
        }
        return SoundGate(taken.sound, hearing, self.source.name)

    @property
    def _drop_policy(self) -> DropPolicy:
        return "oldest" if self._backlog.drops else "none"

    def start(self) -> None:
        """Start the capture."""
        self._thread.start()

    def close(self) -> None:
        """End the capture."""
        self._backlog.close()
        self._thread.join(max(0.0, self._patience))

    def take(self) -> list[Item]:
        """Return the next item, or several clips of one feed that wait; empty if there is none."""
        items = self._backlog.take(self.settings.batch_size, 0.0)
        if items:
            self._reporter.at = items[-1].at
        return items

    def waited(self, seconds: float) -> StreamEnded | None:
        """Note that nothing came for so long; return the end of a stream whose capture hangs after a stop."""
        if not self._stop.is_set():
            return None
        self._patience -= seconds
        return StreamEnded(at=self._reporter.at, reason=STOPPED) if self._patience <= 0 else None

    def handle(self, item: Item) -> Iterator[Event]:
        """Take an item other than a clip or the end, and yield the events of the stream that follow."""
        match item:
            case Opened():
                self._is_open = True
                yield self._reporter.start(self._drop_policy, self.settings.video_id, self.settings.bundles)
            case Picture() as picture:
                self._score_picture(picture)
            case Passed(feed=feed, stop=stop):
                self._pass(feed, stop, stop)
            case Dropped() as dropped:
                self._pass(dropped.feed, dropped.start, dropped.stop)
                dropping = [self._members[number] for number in self.members_of[dropped.feed]]
                yield self._reporter.drop(dropped, dropping)
            case Gap() as gap if gap.feed == self._finest:
                yield self._reporter.gap(gap)
            case Break(reason=reason):
                yield from self._reporter.segments(self._tracks.close(final=False))
                yield self._reporter.discontinuity(reason)
            case Resumed(attempts=attempts):
                yield self._reporter.resumption(attempts)

    def add_scores(self, member: int, clip: Clip, scores: Scores) -> None:
        """Take the scores of one clip, a batch of one."""
        self._tracks.push(member, clip.index, scores, after_gap=clip.after_gap)

    def segments(self) -> Iterator[Event]:
        """Yield the events of segments that are over, and of open ones if the settings say so."""
        yield from self._reporter.segments(self._tracks.leaving())
        if self.settings.show_open:
            yield from self._reporter.open_segments(self._tracks.open())

    def failed(self, error: Exception) -> StreamEnded:
        """Return the end of a run whose models failed."""
        reason = str(error) or type(error).__name__
        return StreamEnded(at=self._reporter.at, reason=reason, complete=False, error=error)

    def finish(self, ended: StreamEnded) -> Iterator[Event]:
        """Close open segments and yield the last events."""
        self._is_over = True
        if self._is_open:
            yield from self._reporter.segments(self._tracks.close(final=True))
            yield self._reporter.end(ended, self._tracks.num_intervals, self._capture.counts)

    def error(self, ended: StreamEnded) -> BaseException | None:
        """Return what to raise after the last event."""
        if ended.error is not None or self._tracks.num_intervals or ended.reason == STOPPED:
            return ended.error
        return VideoError(f"{self.source.name}: {self._why_nothing(ended)}")

    def _score_picture(self, picture: Picture) -> None:
        for member in self.members_of[picture.feed]:
            if picture.after_gap:
                self._broken.add((member, picture.index))
            for _ in range(picture.num_places):
                self._scorers[member].push(picture.index, picture.pixels)

    def _pass(self, feed: int, over: int, stop: int) -> None:
        """Take the scores of intervals before `over`; no interval before `stop` follows."""
        for member in self.members_of[feed]:
            if member in self._scorers:
                for scored in self._scorers[member].over(over):
                    scores = checked_scores(scored.scores, self.source.name)
                    after_gap = (member, scored.index) in self._broken
                    self._tracks.push(member, scored.index, scores, after_gap=after_gap)
                self._broken = {(m, index) for m, index in self._broken if m != member or index >= stop}
            self._tracks.skip_to(member, stop)

    def _why_nothing(self, ended: StreamEnded) -> str:
        t, frames = self._feeds[self._finest].spec.interval_seconds, self._capture.counts.frames
        if not frames:
            return f"no frame of the video stream could be decoded ({ended.reason})"
        return f"no whole interval of {t:g} s in {self._reporter.at.seconds:.3f} s ({ended.reason})"


def checked_scores(scores: Scores, name: str) -> Scores:
    """Return scores of a stream.

    Raises:
        RunError: they are not finite.
    """
    if not all(np.isfinite(part).all() for part in scores if part is not None):
        raise RunError(f"{name}: the model gave scores that are not numbers (nan); try another precision")
    return scores
