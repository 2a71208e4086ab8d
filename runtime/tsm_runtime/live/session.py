"""The live run: a thread for each stream captures; the caller's thread scores, merges and reports events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain

import numpy as np

from tsm_runtime.audio.patches import Patches
from tsm_runtime.backends.base import Scores
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import UsageError
from tsm_runtime.live.backlog import Clip, StreamEnded
from tsm_runtime.live.events import Event
from tsm_runtime.live.inputs import LiveInput
from tsm_runtime.live.options import LiveOptions
from tsm_runtime.live.stream_run import StreamRun, checked_scores
from tsm_runtime.models.member import Member
from tsm_runtime.segments.decoding.settings import Decoding
from tsm_runtime.segments.rules import SegmentRules
from tsm_runtime.video.sources import Source

_POLL_SECONDS = 0.1
"""How often a waiting run checks for the request to stop."""

_MOST_SMOOTHED_CELLS = 4096
"""The widest moving average of a live run: each cell costs that many additions, some 20 ms."""


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
    frames; where the decoding of the model is `viterbi` or `durations`, those of `FrameDecoder`, and
    where it is `proposals`, those of `merge`.

    A segment is reported at most an interval, a batch and the decoding of a frame after its end, plus the
    frames that the model's settings need: half of the window's part beyond the interval (of pictures or of
    sound), and half the width of the smoothing, rounded up to whole strides. Sound that comes more than a
    second after its pictures counts as missing. Where segments are made of the scores of frames, the `Start`
    event states the delay. The end of the stream and a break end this delay. In an ensemble a segment also
    waits until no overlapping candidate is open.

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
    options = options or LiveOptions()
    items = watch_streams({options.video_id: source}, members, options, stop=stop, wait_for_sources=False)
    return _of_one(items)


def _of_one(items: Generator[tuple[str, Event | BaseException]]) -> Generator[Event]:
    with closing(items):
        for _, item in items:
            if isinstance(item, BaseException):
                raise item
            yield item


def watch_streams(
    sources: Mapping[str, Source],
    members: Member | Sequence[Member],
    options: LiveOptions | None = None,
    *,
    stop: threading.Event | None = None,
    wait_for_sources: bool = True,
    monitor: Callable[[Sequence[StreamRun]], object] | None = None,
) -> Generator[tuple[str, Event | BaseException]]:
    """Run one model, or an ensemble, on several streams, and yield events as they become known.

    Clips of all streams share batches. Each stream has its own capture, reconnects on its own and yields what
    `watch` yields. The exception with which `watch` would end is the last item of its stream; the other
    streams go on, unless a model failed, which ends all of them.

    Args:
        sources: by the name of the stream.
        members: one model, or the members of an ensemble.
        options: None: the defaults; `video_id` is not used.
        stop: set from any thread to end the run.
        wait_for_sources: try to connect to a source that cannot be opened at first, as to a lost one.
        monitor: gets the streams before the first event, to read their `state`.

    Raises:
        UsageError: the smoothing is too wide for a stream, see `require_live`; or the members take different
            inputs, see `LiveInput.of`.
    """
    members = (members,) if isinstance(members, Member) else tuple(members)
    if not members:
        raise ValueError("a stream for no model: expected one or more")
    for member in members:
        require_live(member.spec, member.rules, member.decoding)
    _ = LiveInput.of(members)
    members, options = _by_window(members, options or LiveOptions())
    stop, arrived = stop or threading.Event(), threading.Event()
    streams = {
        name: StreamRun(
            source, members, options.settings(name, waits_for_source=wait_for_sources), stop, arrived
        )
        for name, source in sources.items()
    }
    if monitor is not None:
        monitor(tuple(streams.values()))
    return _run(streams, members, options.batch_size, arrived)


def _by_window(members: Sequence[Member], options: LiveOptions) -> tuple[Sequence[Member], LiveOptions]:
    """Return a member for each window of a panorama; what is found in any window counts in full.

    Raises:
        UsageError: such a model is a member of an ensemble.
    """
    if not any(member.windows for member in members):
        return members, options
    if len(members) > 1:
        raise UsageError("a model of panoramas runs alone on a stream: leave the other models out")
    looks = members[0].by_window()
    fusion = replace(options.fusion, denominator="present")
    return looks, replace(options, fusion=fusion, bundles=options.bundles * len(looks))


def _run(
    streams: Mapping[str, StreamRun], members: Sequence[Member], batch_size: int, arrived: threading.Event
) -> Generator[tuple[str, Event | BaseException]]:
    try:
        for stream in streams.values():
            stream.start()
        yield from _events(streams, members, batch_size, arrived)
    finally:
        for stream in streams.values():
            stream.close()


def _events(
    streams: Mapping[str, StreamRun], members: Sequence[Member], batch_size: int, arrived: threading.Event
) -> Generator[tuple[str, Event | BaseException]]:
    """Yield the items of all streams until each has ended."""
    running = dict(streams)
    while running:
        arrived.clear()
        taken = {name: items for name, stream in running.items() if (items := stream.take())}
        if not taken:
            came = arrived.wait(_POLL_SECONDS)
            ends = {} if came else {n: end for n, s in running.items() if (end := s.waited(_POLL_SECONDS))}
            taken = {name: [end] for name, end in ends.items()}
        clips = [
            (running[name], item) for name, items in taken.items() for item in items if isinstance(item, Clip)
        ]
        try:
            _score(clips, members, batch_size)
            for name, (first, *_) in taken.items():
                if isinstance(first, StreamEnded):
                    yield from _ending(name, running.pop(name), first)
                    continue
                for event in chain(running[name].handle(first), running[name].segments()):
                    yield name, event
        except (GeneratorExit, KeyboardInterrupt):
            raise
        except Exception as error:  # of a backend: open segments are reported all the same
            for name, stream in running.items():
                yield from _ending(name, stream, stream.failed(error))
            return


def _ending(name: str, stream: StreamRun, ended: StreamEnded) -> Iterator[tuple[str, Event | BaseException]]:
    for event in stream.finish(ended):
        yield name, event
    if (error := stream.error(ended)) is not None:
        yield name, error


def _score(clips: Sequence[tuple[StreamRun, Clip]], members: Sequence[Member], batch_size: int) -> None:
    """Score clips of any streams in common batches."""
    by_feed: dict[int, list[tuple[StreamRun, Clip]]] = {}
    for stream, clip in clips:
        by_feed.setdefault(clip.feed, []).append((stream, clip))
    for feed, waiting in by_feed.items():
        for start in range(0, len(waiting), batch_size):
            batch = waiting[start : start + batch_size]
            frames = batch[0][1].frames[None]
            if len(batch) > 1:
                frames = np.stack([clip.frames for _, clip in batch])
            for number in batch[0][0].members_of[feed]:
                names = ", ".join(dict.fromkeys(stream.source.name for stream, _ in batch))
                scores = _heard(members[number], members[number].backend.infer(frames), batch, names)
                scores = checked_scores(scores, names)
                for row, (stream, clip) in enumerate(batch):
                    stream.add_scores(number, clip, scores.clips(slice(row, row + 1)))


def _heard(member: Member, scores: Scores, batch: Sequence[tuple[StreamRun, Clip]], names: str) -> Scores:
    """Return the scores of a batch with the sound of its clips, where the member hears."""
    sounds = [clip.sound for _, clip in batch if clip.sound is not None]
    if member.sound is None or len(sounds) < len(batch):
        return scores
    patches = Patches(
        np.concatenate([sound.log_mel for sound in sounds]),
        np.concatenate([sound.is_heard for sound in sounds]),
    )
    return member.sound.joined(scores, patches, for_head=member.head_hears, name=names)


def require_live(spec: ClipSpec, rules: SegmentRules, decoding: Decoding | None = None) -> None:
    """Check that a model's settings suit a live run.

    Args:
        spec: where the intervals lie.
        rules: how scores of clips become segments.
        decoding: how scores of frames become segments; None: they do not.

    Raises:
        UsageError: the smoothing is so wide that it would take much memory and time.
    """
    width, cell = rules.smoothing_seconds, spec.stride_seconds
    if decoding is not None:
        width, cell = decoding.smoothing_seconds, spec.interval_seconds / spec.num_frames
    if width > (most := _MOST_SMOOTHED_CELLS * cell):
        raise UsageError(
            f"smoothing {width:g} s: expected {most:g} s or less in a live run, where it"
            " delays labels by half of it; give --smoothing"
        )
