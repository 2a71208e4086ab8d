"""The way of the data: decode -> clips -> backend -> segments -> result."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends import Backend, Scores
from tsm_runtime.clips import ClipBatch, ClipBuilder, ClipSpec, count_intervals
from tsm_runtime.decode import TimedFrame, VideoReader
from tsm_runtime.errors import VideoError
from tsm_runtime.frames import FrameConverter
from tsm_runtime.outputs import Result, SceneScore
from tsm_runtime.segments import IntervalScores, merge_intervals

__all__ = ["ClipStream", "Member", "Options", "Progress", "prefetch", "run"]

Progress = Callable[[float, float | None], None]
"""Called with the seconds of video done so far and the length the file claims, if it claims one."""

_QUEUE_BATCHES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A model ready to run: its backend and what its scores mean."""

    backend: Backend
    spec: ClipSpec
    action_labels: tuple[str, ...]
    scene_labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to run on and what to keep.

    Args:
        start_seconds, end_seconds: only intervals that lie within are classified; the grid stays that of the
            whole video. end None: to the end.
        min_score: segments below it are dropped.
        batch_size: clips per call of the backend.
    """

    start_seconds: float = 0.0
    end_seconds: float | None = None
    min_score: float = 0.0
    batch_size: int = 1


def run(
    video: Path, member: Member, options: Options = Options(), *, video_id: str | None = None, progress: Progress | None = None
) -> Result:
    """Find the segments of one video.

    Raises:
        VideoError: the video cannot be read, has no pictures, or no whole interval.
    """
    with VideoReader(video) as reader:
        clips = ClipStream(reader, member.spec, options)
        indices, scores = [], []
        for batch in prefetch(iter(clips)):
            scores.append(member.backend.infer(batch.frames))
            indices.append(batch.indices)
            if progress is not None:
                progress((int(batch.indices[-1]) + 1) * member.spec.interval_seconds, reader.claimed_seconds)
        clips.require_intervals(len(indices))
        intervals = _join(indices, scores, clips.builder.breaks)
    segments = merge_intervals(intervals, member.action_labels, member.spec.interval_seconds)
    return Result(
        video_id=video_id or video.stem,
        segments=tuple(s for s in segments if s.score >= options.min_score),
        scenes=_scene_scores(intervals, member.scene_labels),
        interval_seconds=member.spec.interval_seconds,
        num_intervals=len(intervals.indices),
        duration_seconds=clips.duration_seconds,
        complete=clips.complete,
        gaps=tuple(clips.builder.gaps),
        corrupt_frames=reader.corrupt_frames,
        warnings=tuple(clips.warnings()),
    )


class ClipStream:
    """Clips of one video, and what was noticed on the way. Iterate once, from one thread.

    Args:
        reader: an open video.
        spec: what the model takes.
        options: which part of the video.
    """

    def __init__(self, reader: VideoReader, spec: ClipSpec, options: Options) -> None:
        self.reader = reader
        self.spec = spec
        self.options = options
        t = spec.interval_seconds
        self.builder = ClipBuilder(
            spec,
            options.batch_size,
            first_interval=-count_intervals(-options.start_seconds, t),  # ceil
            stop_interval=None if options.end_seconds is None else count_intervals(options.end_seconds, t),
        )
        self.duration_seconds = 0.0
        self._stopped_early = False

    def __iter__(self) -> Iterator[ClipBatch]:
        convert = FrameConverter(self.spec.size)
        previous: TimedFrame | None = None
        for current in self.reader.frames(self.options.start_seconds):
            if previous is not None:
                yield from self._push(previous, current.start_seconds, convert)
                if self._past_end(current.start_seconds):
                    self.duration_seconds = current.start_seconds
                    self._stopped_early = True
                    break
            previous = current
        else:
            if previous is not None:
                self.duration_seconds = previous.end_seconds
                yield from self._push(previous, previous.end_seconds, convert)
        yield from self.builder.finish()

    def _push(self, shown: TimedFrame, until_seconds: float, convert: FrameConverter) -> Iterator[ClipBatch]:
        return self.builder.push(shown.start_seconds, until_seconds, lambda: convert(shown.frame))

    def _past_end(self, seconds: float) -> bool:
        end = self.options.end_seconds
        return end is not None and seconds >= end

    @property
    def complete(self) -> bool:
        """Whether the video was read to its end, or to the asked end."""
        return self._stopped_early or (self.reader.failure is None and self.reader.missing_packets == 0)

    def warnings(self) -> Iterator[str]:
        """One line for each thing that makes the result less than it could be."""
        reader, seconds = self.reader, self.duration_seconds
        if not self.complete:
            why = reader.failure or f"{reader.missing_packets} pictures of the index are not in the file"
            claimed = reader.claimed_seconds
            lost = f" of the {claimed:.2f} s it claims" if claimed and claimed > seconds else ""
            yield f"breaks off after {seconds:.2f} s{lost}: {why}"
        if reader.corrupt_frames:
            yield f"{reader.corrupt_frames} corrupt or misplaced frames were skipped or concealed"
        if gaps := self.builder.gaps:
            longest = max(end - start for start, end in gaps)
            yield (
                f"{len(gaps)} gaps without a frame for longer than an interval of {self.spec.interval_seconds:g} s"
                f" (longest {longest:.2f} s): nothing was looked for there"
            )

    def require_intervals(self, num_classified: int) -> None:
        """Check that something was classified.

        Raises:
            VideoError: no frame decoded, the video is shorter than one interval, or the asked part is empty.
        """
        if num_classified:
            return
        path, t = self.reader.path, self.spec.interval_seconds
        if not self.duration_seconds:
            why = f" ({self.reader.failure})" if self.reader.failure else ""
            raise VideoError(f"{path}: no frame of the video stream could be decoded{why}")
        if self.duration_seconds + 1e-6 < t:
            raise VideoError(
                f"{path}: {self.duration_seconds:.3f} s long, shorter than one interval of {t:g} s"
            )
        raise VideoError(
            f"{path}: no whole interval of {t:g} s between --start and --end"
            f" (the video is {self.duration_seconds:.2f} s long)"
        )


def prefetch(batches: Iterator[ClipBatch]) -> Iterator[ClipBatch]:
    """Run an iterator in a thread, a few batches ahead. Its exception is raised here, in the caller.

    The thread ends when the iterator does, or soon after the caller stops asking.
    """
    results: queue.Queue[ClipBatch | BaseException | None] = queue.Queue(maxsize=_QUEUE_BATCHES)
    cancelled = threading.Event()

    def put(item: ClipBatch | BaseException | None) -> bool:
        while not cancelled.is_set():
            try:
                results.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for batch in batches:
                if not put(batch):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="decode", daemon=True)
    thread.start()
    try:
        while (item := results.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        cancelled.set()
        thread.join()


def _join(
    indices: list[npt.NDArray[np.int64]], scores: list[Scores], breaks: set[int]
) -> IntervalScores:
    scenes = [score.scene for score in scores if score.scene is not None]
    return IntervalScores(
        indices=np.concatenate(indices),
        action=np.concatenate([score.action for score in scores]),
        scene=np.concatenate(scenes) if scenes else None,
        breaks=frozenset(breaks),
    )


def _scene_scores(intervals: IntervalScores, labels: tuple[str, ...]) -> tuple[SceneScore, ...]:
    """Mean over intervals, best first."""
    if intervals.scene is None:
        return ()
    mean = intervals.scene.mean(axis=0)
    order = np.argsort(-mean, kind="stable")
    return tuple(SceneScore(label=labels[i], score=float(mean[i])) for i in order)
