"""Videos through the models: decoding in threads, batches that several videos may share, results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import Scores
from tsm_runtime.backends.cuda.device_clips import DeviceClips
from tsm_runtime.backends.runner import BatchRunner, calling_in_parallel
from tsm_runtime.clips.builder import ClipBatch
from tsm_runtime.clips.pool import FramePool
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.errors import VideoError
from tsm_runtime.formats.read_write import Result
from tsm_runtime.models.member import Member
from tsm_runtime.models.nvdec import Nvdec
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.prefetch import Ended, Prefetcher
from tsm_runtime.pipeline.result import MemberScores, result_of
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.finding import VideoInput
from tsm_runtime.video.reader import VideoReader

__all__ = ["VideoProgress", "run_videos"]

VideoProgress = Callable[[VideoInput, float, float | None], None]
"""Called with a video, the second of it that is reached and the length the file claims, if it claims one."""

_Lane = tuple[str, ClipSpec]
"""A view and a spec: clips that have both in common share batches."""

_BATCHES_AHEAD = 2
"""Decoded batches that wait for the model: enough that neither side stands still for the other's hiccups."""


def run_videos(
    videos: Sequence[VideoInput],
    members: Sequence[Member],
    options: Options,
    *,
    jobs: int = 1,
    progress: VideoProgress | None = None,
    nvdec: Nvdec | None = None,
) -> Generator[tuple[VideoInput, Result | VideoError]]:
    """Run models on videos, several at once, and yield what each gave, in the order of the videos.

    With several jobs clips of several videos share batches, so that these are full but for the last. What a
    video gives does not depend on the others, except for the rounding of a batch of another size.
    Close the generator: then no thread is left. The backends stay open.

    Args:
        videos: what to run on; members see those of their own view, of which there is one at least.
        members: models, which share decoding.
        options: which part of the videos, and clips per batch.
        jobs: videos that are decoded at a time.
        progress: told how far each video is.
        nvdec: decodes on a GPU.

    Raises:
        RunError: a model gave scores that are not numbers, or its backend broke off.
        UsageError: a member's weight is not above 0.
        ValueError: there is no model.
    """
    if not members:
        raise ValueError("no model to run: expected one or more")
    if options.batch_size is None:
        options = replace(options, batch_size=max(member.backend.best_batch for member in members))
    yield from _Run(members, options, jobs, progress, nvdec).outcomes(videos)


@dataclass(eq=False, slots=True)
class _Video:
    """A video on its way."""

    given: VideoInput
    scored: dict[int, MemberScores]
    """By number of the member, of those that see it."""
    clips: ClipStream | None = None
    """Made by the thread that decodes."""
    is_read: bool = False
    num_missing: int = 0
    """Scores of parts that are not there yet, counted for each member."""
    reached_seconds: float = 0.0
    outcome: Result | VideoError | None = None


@dataclass(frozen=True, slots=True)
class _Part:
    """Clips of one video, in a batch or waiting for one."""

    video: _Video
    clips: ClipBatch

    def __len__(self) -> int:
        return len(self.clips.indices)


@dataclass(eq=False, slots=True)
class _Batch:
    """What the models of one spec score together, and the array that it lies in."""

    parts: list[_Part]
    frames: npt.NDArray[np.uint8]
    memory: npt.NDArray[np.uint8] | None
    num_missing: int = 0
    """Members whose scores are not there yet."""


class _Run:
    """One pass over some videos. All but `_read` happens in the caller's thread."""

    def __init__(
        self,
        members: Sequence[Member],
        options: Options,
        jobs: int,
        progress: VideoProgress | None,
        nvdec: Nvdec | None,
    ) -> None:
        self._members = members
        self._progress = progress
        self._nvdec = nvdec
        self._jobs = jobs
        self._batch_size = options.batch_size or 1
        self._memory = {member.spec: member.backend.frame_pool for member in reversed(members)}
        apart = {spec: FramePool() for spec in self._memory}
        if nvdec is not None:
            self._memory, apart = (nvdec.memory(tuple(self._memory)) for _ in range(2))
        self._waiting: dict[_Lane, list[_Part]] = {(m.view, m.spec): [] for m in members}
        self._runners: dict[int, BatchRunner] = {}
        """By the id of the backend: a model for several views is several members."""
        # With several jobs clips come one by one, and meet those of other videos in a batch. Else they are
        # written where the model reads them.
        self._options = options if jobs == 1 else replace(options, batch_size=1)
        self._read_into = self._memory if jobs == 1 else apart
        ahead = _BATCHES_AHEAD if jobs == 1 else max(_BATCHES_AHEAD * self._batch_size, jobs)
        self._decoding: Prefetcher[_Video, ClipBatch] = Prefetcher(ahead)

    def outcomes(self, videos: Sequence[VideoInput]) -> Generator[tuple[VideoInput, Result | VideoError]]:
        """Yield what each video gave, the first first."""
        to_begin = deque(videos)
        begun: deque[_Video] = deque()  # and not yielded yet
        backends = list({id(member.backend): member.backend for member in self._members}.values())
        with calling_in_parallel(backends) as calls, self._resting_after(), self._decoding:
            self._runners = {
                id(backend): BatchRunner(call) for backend, call in zip(backends, calls, strict=True)
            }
            while to_begin or begun:
                while to_begin and self._decoding.num_running < self._jobs:
                    begun.append(self._begin(to_begin.popleft()))
                if self._is_last_of_batch(begun):
                    self._flush()
                else:
                    self._take_one()
                while begun and (outcome := begun[0].outcome) is not None:
                    yield begun.popleft().given, outcome

    @contextmanager
    def _resting_after(self) -> Iterator[None]:
        """Wait at the end until no model reads a batch any more: its memory may go then."""
        try:
            yield
        finally:
            for runner in self._runners.values():
                runner.abandon()

    # --- decoding -----------------------------------------------------------------------------------

    def _begin(self, given: VideoInput) -> _Video:
        seeing = [number for number, member in enumerate(self._members) if member.view == given.view]
        video = _Video(given, {number: MemberScores() for number in seeing})
        self._decoding.start(video, lambda: self._read(video))
        return video

    def _read(self, video: _Video) -> Iterator[ClipBatch]:
        """Decode one video, in its own thread."""
        with VideoReader(video.given.path, self._nvdec) as reader:
            specs, cancelled = self._specs(video.given.view), self._decoding.cancelled
            video.clips = ClipStream(
                reader,
                specs,
                self._options,
                cancelled=cancelled,
                memory=self._read_into,
                converter=FrameConverter if self._nvdec is None else self._nvdec.converter,
            )
            yield from video.clips

    def _take_one(self) -> None:
        """Wait for the next clips or the end of a video, and pass them on."""
        video, item = self._decoding.get()
        if not isinstance(item, Ended):
            self._add(_Part(video, item))
        elif isinstance(item.error, VideoError):
            video.outcome = item.error
            self._forget(video)
        elif item.error is not None:
            raise item.error
        else:
            video.is_read = True
            self._conclude(video)

    def _forget(self, video: _Video) -> None:
        for lane, parts in self._waiting.items():
            self._waiting[lane] = [part for part in parts if part.video is not video]

    # --- batches ------------------------------------------------------------------------------------

    def _add(self, part: _Part) -> None:
        lane = (part.video.given.view, part.clips.spec)
        self._waiting[lane].append(part)
        part.video.num_missing += len(self._numbers(lane))
        if sum(map(len, self._waiting[lane])) >= self._batch_size:
            self._submit(lane)

    def _is_last_of_batch(self, begun: Iterable[_Video]) -> bool:
        """Whether there is nobody whose clips would fill a batch that some wait in."""
        alone = self._jobs == 1 and any(video.is_read and video.outcome is None for video in begun)
        return alone or not self._decoding.num_running

    def _flush(self) -> None:
        for lane in self._waiting:
            self._submit(lane)
        for runner in self._runners.values():
            runner.finish()

    def _submit(self, lane: _Lane) -> None:
        parts, self._waiting[lane] = self._waiting[lane], []
        if not parts:
            return
        batch = self._gathered(parts, lane[1])
        numbers = self._numbers(lane)
        batch.num_missing = len(numbers)
        for number in numbers:
            runner = self._runners[id(self._members[number].backend)]
            runner.submit(batch.frames, partial(self._take, batch, number))

    def _gathered(self, parts: list[_Part], spec: ClipSpec) -> _Batch:
        """Return a batch: that of a single part as it is, else a copy of all."""
        if len(parts) == 1 and self._jobs == 1:
            return _Batch(parts, parts[0].clips.frames, parts[0].clips.memory)
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
        return _Batch(parts, frames, memory)

    def _take(self, batch: _Batch, number: int, scores: Scores) -> None:
        """Take a member's scores of a batch apart."""
        start = 0
        for part in batch.parts:
            stop = start + len(part)
            self._take_part(part, number, scores.clips(slice(start, stop)))
            start = stop
        batch.num_missing -= 1
        if not batch.num_missing and batch.memory is not None:
            self._memory[batch.parts[0].clips.spec].give(batch.memory)

    def _take_part(self, part: _Part, number: int, scores: Scores) -> None:
        video = part.video
        video.scored[number].add(part.clips.indices, scores, video.given.path)
        video.num_missing -= 1
        self._tell(video, part.clips.end_seconds)
        self._conclude(video)

    def _tell(self, video: _Video, end_seconds: float) -> None:
        if end_seconds <= video.reached_seconds:  # grids take turns, and members
            return
        video.reached_seconds = end_seconds
        if self._progress is not None and video.clips is not None:
            self._progress(video.given, end_seconds, video.clips.reader.claimed_seconds)

    def _conclude(self, video: _Video) -> None:
        """Make the result of a video that is read to its end and scored."""
        if not video.is_read or video.num_missing or video.outcome is not None or video.clips is None:
            return
        try:
            members = [self._members[number] for number in video.scored]
            scored = list(video.scored.values())
            video.outcome = result_of(video.given.video_id, members, scored, video.clips)
        except VideoError as error:
            video.outcome = error

    def _specs(self, view: str) -> tuple[ClipSpec, ...]:
        seen = {member.spec for member in self._members if member.view == view}
        return tuple(spec for spec in self._memory if spec in seen)

    def _numbers(self, lane: _Lane) -> list[int]:
        """Return the members that score the clips of a spec of videos of a view."""
        return [n for n, member in enumerate(self._members) if (member.view, member.spec) == lane]
