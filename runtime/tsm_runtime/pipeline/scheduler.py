"""Scores of videos: decoding in threads, batches that several videos may share, scored videos in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np

from tsm_runtime.backends.base import Scores
from tsm_runtime.backends.cuda.device_clips import DeviceClips
from tsm_runtime.backends.runner import BatchRunner, calling_in_parallel
from tsm_runtime.clips.builder import ClipBatch
from tsm_runtime.clips.options import ClipOptions
from tsm_runtime.clips.pool import FramePool
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import VideoError
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.meter import Meter
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.parts import Part, RunningVideo, SharedBatch
from tsm_runtime.pipeline.prefetch import Ended, Prefetcher
from tsm_runtime.pipeline.reading import Reading
from tsm_runtime.pipeline.scored import MemberScores, ScoredVideo
from tsm_runtime.video.finding import VideoInput

VideoProgress = Callable[[VideoInput, float, float | None], None]
"""Called with a video, the second of it that is scored, and the length that the container claims, or None."""

_Lane = tuple[str, ClipSpec]
"""A view and a spec: clips that have both in common share batches."""

_BATCHES_AHEAD = 2
"""Decoded batches that wait for the model, so that a short delay of one side does not stop the other."""


def scored_videos(
    videos: Iterable[VideoInput],
    members: Sequence[Member],
    options: Options,
    reading: Reading,
    *,
    progress: VideoProgress | None = None,
    meter: Meter | None = None,
) -> Generator[ScoredVideo | VideoError]:
    """Decode and score videos, several at a time, and yield them in their order.

    With several jobs the clips of several videos share batches, so that all batches but the last are full.
    The scores of a video do not depend on the other videos, except for rounding, which depends on the batch
    size. Closing the generator ends all threads. The backends stay open.

    Args:
        videos: each is taken when its decoding begins, and scored by the members that see its view, of which
            there is at least one.
        members: models, which share decoding.
        options: which part of the videos is scored, and clips per batch.
        reading: how videos are read, and how many at a time.
        progress: called after each batch of a video.
        meter: updated during the run.

    Yields:
        The scores of each video, or the error that occurred when reading it.

    Raises:
        RunError: a model returned scores that are not finite, or its backend failed.
        ValueError: there is no model.
    """
    if not members:
        raise ValueError("no model to run: expected one or more")
    batch_size = options.batch_size or max(member.backend.best_batch for member in members)
    run = _Run(
        members, options.clips(batch_size), reading, progress, meter, keep_features=options.keep_features
    )
    yield from run.outcomes(videos)


class _Run:
    """One pass over some videos. All methods but `_read` run in the caller's thread."""

    def __init__(
        self,
        members: Sequence[Member],
        options: ClipOptions,
        reading: Reading,
        progress: VideoProgress | None,
        meter: Meter | None,
        *,
        keep_features: bool,
    ) -> None:
        self._members = members
        self._progress = progress
        self._meter = meter or Meter()
        self._keep_features = keep_features
        self._reading, self._jobs = reading, reading.jobs
        self._batch_size = options.batch_size
        self._memory = {member.spec: member.backend.frame_pool for member in reversed(members)}
        apart = {spec: FramePool() for spec in self._memory}
        if reading.nvdec is not None:
            self._memory, apart = (reading.nvdec.memory(tuple(self._memory)) for _ in range(2))
        self._waiting: dict[_Lane, list[Part]] = {(m.view, m.spec): [] for m in members}
        self._runners: dict[int, BatchRunner] = {}
        """Runners by id of the backend: a model for several views is several members."""
        # With several jobs clips arrive one by one and are copied into a batch with those of other videos.
        # With one job they are written directly into the input of the model.
        self._options = options if self._jobs == 1 else replace(options, batch_size=1)
        self._read_into = self._memory if self._jobs == 1 else apart
        ahead = _BATCHES_AHEAD if self._jobs == 1 else max(_BATCHES_AHEAD * self._batch_size, self._jobs)
        self._decoding: Prefetcher[RunningVideo, ClipBatch] = Prefetcher(ahead)
        self._meter.queue_depth = lambda: self._decoding.num_waiting

    def outcomes(self, videos: Iterable[VideoInput]) -> Generator[ScoredVideo | VideoError]:
        """Yield the outcome of each video, in their order."""
        to_begin: Iterator[VideoInput] | None = iter(videos)
        begun: deque[RunningVideo] = deque()  # not yielded yet
        backends = list({id(member.backend): member.backend for member in self._members}.values())
        with calling_in_parallel(backends) as calls, self._resting_after(), self._decoding:
            self._runners = {
                id(backend): BatchRunner(call) for backend, call in zip(backends, calls, strict=True)
            }
            while True:
                while to_begin is not None and self._decoding.num_running < self._jobs:
                    given = next(to_begin, None)
                    if given is None:
                        to_begin = None
                    else:
                        begun.append(self._begin(given))
                if not begun:
                    return
                if self._is_last_of_batch(begun):
                    self._flush()
                else:
                    self._take_one()
                while begun and (outcome := begun[0].outcome) is not None:
                    begun.popleft()
                    yield outcome

    @contextmanager
    def _resting_after(self) -> Iterator[None]:
        """Wait at the end until no model reads a batch, so that its memory can be freed."""
        try:
            yield
        finally:
            for runner in self._runners.values():
                runner.abandon()

    # --- decoding -----------------------------------------------------------------------------------

    def _begin(self, given: VideoInput) -> RunningVideo:
        seeing = [number for number, member in enumerate(self._members) if member.view == given.view]
        members = {number: self._members[number] for number in seeing}
        scores = {
            number: MemberScores(
                member.frame_stream(),
                member.sound_stream(given.path),
                "frames" if self._keep_features else "intervals" if member.joint is not None else None,
            )
            for number, member in members.items()
        }
        video = RunningVideo(given, scores)
        self._decoding.start(video, lambda: self._read(video))
        return video

    def _read(self, video: RunningVideo) -> Iterator[ClipBatch]:
        """Decode one video, in its own thread."""
        specs, cancelled = self._specs(video.given.view), self._decoding.cancelled
        with self._reading.clips(
            video.given.path, specs, self._options, cancelled, self._read_into
        ) as video.clips:
            yield from video.clips

    def _take_one(self) -> None:
        """Wait for the next clips or the end of a video, and pass them on."""
        begun = time.perf_counter()
        video, item = self._decoding.get()
        self._meter.decoding_wait_seconds += time.perf_counter() - begun
        if not isinstance(item, Ended):
            self._add(Part(video, item))
        elif isinstance(item.error, VideoError):
            video.outcome = item.error
            self._forget(video)
        elif item.error is not None:
            raise item.error
        else:
            video.is_read = True
            self._meter.num_frames += 0 if video.clips is None else video.clips.num_frames
            self._conclude(video)

    def _forget(self, video: RunningVideo) -> None:
        for lane, parts in self._waiting.items():
            self._waiting[lane] = [part for part in parts if part.video is not video]

    # --- batches ------------------------------------------------------------------------------------

    def _add(self, part: Part) -> None:
        lane = (part.video.given.view, part.clips.spec)
        self._waiting[lane].append(part)
        part.video.num_missing += len(self._numbers(lane))
        if sum(map(len, self._waiting[lane])) >= self._batch_size:
            self._submit(lane)

    def _is_last_of_batch(self, begun: Iterable[RunningVideo]) -> bool:
        """Return whether no further clips can fill the current incomplete batches."""
        alone = self._jobs == 1 and any(video.is_read and video.outcome is None for video in begun)
        return alone or not self._decoding.num_running

    def _flush(self) -> None:
        for lane in self._waiting:
            self._submit(lane)
        begun = time.perf_counter()
        for runner in self._runners.values():
            runner.finish()
        self._meter.scoring_wait_seconds += time.perf_counter() - begun

    def _submit(self, lane: _Lane) -> None:
        parts, self._waiting[lane] = self._waiting[lane], []
        if not parts:
            return
        batch = self._gathered(parts, lane[1])
        numbers = self._numbers(lane)
        batch.num_missing = len(numbers)
        begun = time.perf_counter()
        for number in numbers:
            runner = self._runners[id(self._members[number].backend)]
            runner.submit(batch.frames, partial(self._take, batch, number))
        self._meter.scoring_wait_seconds += time.perf_counter() - begun

    def _gathered(self, parts: list[Part], spec: ClipSpec) -> SharedBatch:
        """Return a batch: the array of a single part, else a copy of all parts."""
        if len(parts) == 1 and self._jobs == 1:
            return SharedBatch(parts, parts[0].clips.frames, parts[0].clips.memory)
        memory = self._memory[spec].take((self._batch_size, *parts[0].clips.frames.shape[1:]))
        frames = memory[: sum(map(len, parts))]
        clips = [part.clips.frames for part in parts]
        if isinstance(frames, DeviceClips):
            frames.take(clips)
        else:
            np.concatenate(clips, out=frames)
        for part in parts:
            if part.clips.memory is not None:
                self._read_into[spec].give(part.clips.memory)
        return SharedBatch(parts, frames, memory)

    def _take(self, batch: SharedBatch, number: int, scores: Scores) -> None:
        """Distribute a member's scores of a batch to the videos."""
        start = 0
        for part in batch.parts:
            stop = start + len(part)
            self._take_part(part, number, scores.clips(slice(start, stop)))
            start = stop
        batch.num_missing -= 1
        if not batch.num_missing and batch.memory is not None:
            self._memory[batch.parts[0].clips.spec].give(batch.memory)

    def _take_part(self, part: Part, number: int, scores: Scores) -> None:
        video = part.video
        breaks = () if video.clips is None else video.clips.builders[part.clips.spec].breaks
        video.scores[number].add(part.clips.indices, scores, video.given.path, breaks)
        video.num_missing -= 1
        self._meter.num_clips += len(part)
        self._report(video, part.clips.end_seconds)
        self._conclude(video)

    def _report(self, video: RunningVideo, end_seconds: float) -> None:
        if end_seconds <= video.reached_seconds:  # grids and members alternate
            return
        video.reached_seconds = end_seconds
        if self._progress is not None and video.clips is not None:
            self._progress(video.given, end_seconds, video.clips.reader.claimed_seconds)

    def _conclude(self, video: RunningVideo) -> None:
        """Set the outcome of a completely read and scored video."""
        if video.is_read and not video.num_missing and video.clips is not None:
            video.outcome = ScoredVideo(video=video.given, scores=video.scores, clips=video.clips)

    def _specs(self, view: str) -> tuple[ClipSpec, ...]:
        seen = {member.spec for member in self._members if member.view == view}
        return tuple(spec for spec in self._memory if spec in seen)

    def _numbers(self, lane: _Lane) -> list[int]:
        """Return the numbers of the members that score clips of a spec in videos of a view."""
        return [n for n, member in enumerate(self._members) if (member.view, member.spec) == lane]
