"""The live run: one thread captures; the caller's thread scores, merges and reports events."""

from __future__ import annotations

import math
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tsm_runtime.backends.base import Scores
from tsm_runtime.backends.online import OnlineBackend
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import RunError, UsageError, VideoError
from tsm_runtime.fusion.fuse import FusionOptions
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
from tsm_runtime.live.feeds import Feed
from tsm_runtime.live.frame_scorer import IntervalScorer
from tsm_runtime.live.reporter import EventReporter
from tsm_runtime.models.member import Member
from tsm_runtime.segments.rules import SegmentRules
from tsm_runtime.video.sources import Source

DropPolicy = Literal["oldest", "none"]

_POLL_SECONDS = 0.1
"""How often a waiting run checks for the request to stop."""

_MOST_SMOOTHED_CELLS = 4096
"""The widest moving average of a live run: each cell costs that many additions, some 20 ms."""

_STOP_TIMEOUT_SECONDS = 1.0
"""How long to wait for the capture thread to stop; a blocking read can keep it from doing so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions:
    """How to run on a stream.

    Args:
        show_open: also report segments that are not over.
        drop: what happens when scoring is too slow: the `oldest` waiting intervals are dropped, or `none` and
            the source waits. None: oldest for sources in real time, else none.
        batch_size: clips per call of a model at most; fewer while fewer wait.
        reconnect_seconds: how long to try to reconnect to a lost stream; 0: the run ends there.
        min_score: segments of a model below it are dropped; in an ensemble before they are fused.
        fusion: of several members.
        bundles: SHA-256 of each member's bundle, for the `Start` event; empty: not known.
        video_id: name of the stream in the events; empty: that of the source.

    Raises:
        UsageError: a value is out of range.
    """

    show_open: bool = False
    drop: DropPolicy | None = None
    batch_size: int = 8
    reconnect_seconds: float = math.inf
    min_score: float = 0.0
    fusion: FusionOptions = field(default_factory=FusionOptions)
    bundles: tuple[str, ...] = ()
    video_id: str = ""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UsageError(f"batch {self.batch_size}: expected 1 or more")
        if not self.reconnect_seconds >= 0:
            raise UsageError(f"reconnect {self.reconnect_seconds:g}: expected seconds, 0 or more")
        if not 0 <= self.min_score <= 1:
            raise UsageError(f"min-score {self.min_score:g}: expected 0 to 1")


def watch(
    source: Source,
    members: Member | Sequence[Member],
    options: LiveOptions | None = None,
    *,
    stop: threading.Event | None = None,
) -> Generator[Event]:
    """Run one model, or an ensemble, on a stream, and yield events as they become known.

    The first event is a `Start`, the last an `End`. If the run fails, the `End` comes before the exception. A
    source that cannot be opened gives no event. The segments equal those of `pipeline.run` on the same
    frames. A segment is reported at most an interval, a batch and the decoding of a frame after its end, plus
    the frames that the model's settings need: half of the window's part beyond the interval, and half the
    width of the smoothing, rounded up to whole strides. The end of the stream and a break end this delay. In
    an ensemble a segment also waits until no overlapping candidate is open.

    A member whose backend is an `OnlineBackend` gets its frames one by one, as they come, unless its windows
    overlap: then it gets whole clips.

    Args:
        source: see `find_source`.
        members: one model, or the members of an ensemble.
        options: None: the defaults.
        stop: set from any thread to end the run: open segments are closed, and the `End` follows.

    Raises:
        UsageError: the smoothing is too wide for a stream, see `require_live`.
        VideoError: the source cannot be opened, or ended before a whole interval.
        RunError: a model returned scores that are not numbers.
    """
    members = (members,) if isinstance(members, Member) else tuple(members)
    if not members:
        raise ValueError("a stream for no model: expected one or more")
    for member in members:
        require_live(member.spec, member.rules)
    session = _Session(source, members, options or LiveOptions(), stop or threading.Event())
    return session.events()


def require_live(spec: ClipSpec, rules: SegmentRules) -> None:
    """Check that a model's settings suit a live run.

    Args:
        spec: where the intervals lie.
        rules: how scores become segments.

    Raises:
        UsageError: the smoothing is so wide that it would take much memory and time.
    """
    if rules.smoothing_seconds > (most := _MOST_SMOOTHED_CELLS * spec.stride_seconds):
        raise UsageError(
            f"smoothing {rules.smoothing_seconds:g} s: expected {most:g} s or less in a live run, where it"
            " delays labels by half of it; give --smoothing"
        )


class _Session:
    def __init__(
        self, source: Source, members: tuple[Member, ...], options: LiveOptions, stop: threading.Event
    ) -> None:
        self.source, self.members, self.options, self.stop = source, members, options, stop
        self.drop: DropPolicy = options.drop or ("oldest" if source.is_live else "none")
        self.feeds, self.members_of = _feeds(members)
        self.finest = min(self.feeds, key=lambda feed: feed.spec.interval_seconds).number
        self.backlog = Backlog(
            options.batch_size,
            drop=self.drop == "oldest",
            at_once={feed.number: feed.spec.num_open for feed in self.feeds},
        )
        self.capture = StreamCapture(
            source, self.feeds, self.backlog, stop, reconnect_seconds=options.reconnect_seconds
        )
        self.tracks = Tracks(members, options.fusion, options.min_score)
        self.scorers = {
            number: IntervalScorer(member.backend.model.scorer(), member.spec)
            for number, member in enumerate(members)
            if isinstance(member.backend, OnlineBackend) and _by_frame(member)
        }
        self.broken: set[tuple[int, int]] = set()
        """(member, interval) after a gap, of members that get single pictures."""
        self.hangs = False
        self.reporter = EventReporter(source, members)

    def events(self) -> Generator[Event]:
        thread = threading.Thread(target=self.capture.run, name="capture", daemon=True)
        thread.start()
        try:
            ended = yield from self._until_the_end()
            if ended.error is not None:
                raise ended.error
            if not self.tracks.num_intervals and ended.reason != STOPPED:
                raise VideoError(f"{self.source.name}: {self._why_nothing(ended)}")
        finally:
            self.backlog.close()
            thread.join(0 if self.hangs else _STOP_TIMEOUT_SECONDS)

    def _until_the_end(self) -> Generator[Event, None, StreamEnded]:
        """Yield all events; return how it ended."""
        opened = False
        ended: StreamEnded | None = None
        while ended is None:
            items = self._next_items()
            if isinstance(items[0], StreamEnded):
                ended = items[0]
                break
            opened = opened or isinstance(items[0], Opened)
            try:
                yield from self._handle(items)
            except (GeneratorExit, KeyboardInterrupt):
                raise
            except Exception as error:  # of a backend: open segments are reported all the same
                reason = str(error) or type(error).__name__
                ended = StreamEnded(at=self.reporter.at, reason=reason, complete=False, error=error)
        if opened:
            yield from self.reporter.segments(self.tracks.close(final=True))
            yield self.reporter.end(ended, self.tracks.num_intervals, self.capture.counts)
        return ended

    def _next_items(self) -> list[Item]:
        """Wait for the next items, but not for a capture thread that hangs after a request to stop."""
        patience = _STOP_TIMEOUT_SECONDS
        while True:
            if items := self.backlog.take(self.options.batch_size, _POLL_SECONDS):
                self.reporter.at = items[-1].at
                return items
            if self.stop.is_set():
                patience -= _POLL_SECONDS
                if patience <= 0:
                    self.hangs = True
                    return [StreamEnded(at=self.reporter.at, reason=STOPPED)]

    def _handle(self, items: list[Item]) -> Iterator[Event]:
        match items[0]:
            case Opened():
                yield self.reporter.start(self.drop, self.options.video_id, self.options.bundles)
            case Clip():
                self._score_clips([item for item in items if isinstance(item, Clip)])
            case Picture() as picture:
                self._score_picture(picture)
            case Passed(feed=feed, stop=stop):
                self._pass(feed, stop, stop)
            case Dropped() as dropped:
                self._pass(dropped.feed, dropped.start, dropped.stop)
                dropping = [self.members[number] for number in self.members_of[dropped.feed]]
                yield self.reporter.drop(dropped, dropping)
            case Gap() as gap if gap.feed == self.finest:
                yield self.reporter.gap(gap)
            case Break(reason=reason):
                yield from self.reporter.segments(self.tracks.close(final=False))
                yield self.reporter.discontinuity(reason)
            case Resumed(attempts=attempts):
                yield self.reporter.resumption(attempts)
        yield from self.reporter.segments(self.tracks.leaving())
        if self.options.show_open:
            yield from self.reporter.open_segments(self.tracks.open())

    # --- scoring ----------------------------------------------------------------------------------

    def _score_clips(self, clips: list[Clip]) -> None:
        frames = clips[0].frames[None] if len(clips) == 1 else np.stack([clip.frames for clip in clips])
        for member in self.members_of[clips[0].feed]:
            scores = _checked(self.members[member].backend.infer(frames), self.source)
            for row, clip in enumerate(clips):
                scene = None if scores.scene is None else scores.scene[row]
                self.tracks.push(member, clip.index, scores.action[row], scene, after_gap=clip.after_gap)

    def _score_picture(self, picture: Picture) -> None:
        for member in self.members_of[picture.feed]:
            if picture.after_gap:
                self.broken.add((member, picture.index))
            for _ in range(picture.num_places):
                self.scorers[member].push(picture.index, picture.pixels)

    def _pass(self, feed: int, over: int, stop: int) -> None:
        """Take the scores of intervals before `over`; no interval before `stop` follows."""
        for member in self.members_of[feed]:
            if member in self.scorers:
                for scored in self.scorers[member].over(over):
                    scores = _checked(scored.scores, self.source)
                    scene = None if scores.scene is None else scores.scene[0]
                    after_gap = (member, scored.index) in self.broken
                    self.tracks.push(member, scored.index, scores.action[0], scene, after_gap=after_gap)
                self.broken = {(m, index) for m, index in self.broken if m != member or index >= stop}
            self.tracks.skip_to(member, stop)

    def _why_nothing(self, ended: StreamEnded) -> str:
        t, frames = self.feeds[self.finest].spec.interval_seconds, self.capture.counts.frames
        if not frames:
            return f"no frame of the video stream could be decoded ({ended.reason})"
        return f"no whole interval of {t:g} s in {self.reporter.at.seconds:.3f} s ({ended.reason})"


def _feeds(members: Sequence[Member]) -> tuple[list[Feed], dict[int, list[int]]]:
    """Return one feed for each kind of input, and the numbers of its members."""
    numbers: dict[tuple[object, bool], int] = {}
    feeds: list[Feed] = []
    members_of: dict[int, list[int]] = {}
    for member, each in enumerate(members):
        by_frame = _by_frame(each)
        number = numbers.setdefault((each.spec, by_frame), len(feeds))
        if number == len(feeds):
            feeds.append(Feed(number, each.spec, by_frame=by_frame))
        members_of.setdefault(number, []).append(member)
    return feeds, members_of


def _by_frame(member: Member) -> bool:
    """Whether a member gets single frames: its model is online, and no frame is in several intervals."""
    return isinstance(member.backend, OnlineBackend) and member.spec.num_open == 1


def _checked(scores: Scores, source: Source) -> Scores:
    if not all(np.isfinite(part).all() for part in scores if part is not None):
        raise RunError(
            f"{source.name}: the model gave scores that are not numbers (nan); try another precision"
        )
    return scores
