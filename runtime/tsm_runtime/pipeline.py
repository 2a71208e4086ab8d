"""The way of the data: decode -> clips -> backend -> segments -> result."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends import Backend, Scores
from tsm_runtime.clips import ClipBatch, ClipBuilder, ClipSpec, count_intervals
from tsm_runtime.decode import TimedFrame, VideoReader
from tsm_runtime.errors import RunError, UsageError, VideoError
from tsm_runtime.frames import FrameConverter
from tsm_runtime.outputs import Result, SceneScore
from tsm_runtime.prefetch import prefetch
from tsm_runtime.segments import IntervalScores, merge_intervals

__all__ = ["ClipStream", "Member", "Options", "Progress", "run"]

Progress = Callable[[float, float | None], None]
"""Called with the second of the video that is reached and the length the file claims, if it claims one."""

_LATEST_SECONDS = 1e9
"""Bounds of the asked part lie below: some thirty years, so that no arithmetic on them overflows."""


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

    Raises:
        UsageError: a value is out of range.
    """

    start_seconds: float = 0.0
    end_seconds: float | None = None
    min_score: float = 0.0
    batch_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.start_seconds < _LATEST_SECONDS:
            raise UsageError(f"start {self.start_seconds:g}: expected seconds, 0 or more")
        end = self.end_seconds
        if end is not None and not self.start_seconds < end < _LATEST_SECONDS:
            raise UsageError(f"end {end:g}: expected seconds, more than the start ({self.start_seconds:g})")
        if not 0 <= self.min_score <= 1:
            raise UsageError(f"min-score {self.min_score:g}: expected 0 to 1")
        if self.batch_size < 1:
            raise UsageError(f"batch {self.batch_size}: expected 1 or more")


def run(
    video: Path,
    member: Member,
    options: Options | None = None,
    *,
    video_id: str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Find the segments of one video.

    Raises:
        VideoError: the video cannot be read, has no pictures, or no whole interval.
        RunError: the model gave scores that are not numbers.
    """
    options = options or Options()
    with VideoReader(video) as reader:
        clips = ClipStream(reader, member.spec, options)
        indices, scores = [], []
        with closing(prefetch(clips, clips.cancelled)) as batches:
            for batch in batches:
                scores.append(_checked(member.backend.infer(batch.frames), video))
                indices.append(batch.indices)
                if progress is not None:
                    progress(
                        (int(batch.indices[-1]) + 1) * member.spec.interval_seconds, reader.claimed_seconds
                    )
        if not indices:
            raise VideoError(f"{video}: {clips.why_nothing()}")
    intervals = IntervalScores(
        indices=np.concatenate(indices),
        action=np.concatenate([score.action for score in scores]),
        scene=_joined_scenes(scores),
        breaks=frozenset(clips.builder.breaks),
    )
    segments = merge_intervals(intervals, member.action_labels, member.spec.interval_seconds)
    return Result(
        video_id=video_id or video.stem,
        segments=tuple(s for s in segments if s.score >= options.min_score),
        scenes=_scene_scores(intervals, member.scene_labels),
        interval_seconds=member.spec.interval_seconds,
        num_intervals=len(intervals.indices),
        duration_seconds=clips.duration_seconds,
        complete=reader.failure is None,
        gaps=tuple(clips.builder.gaps),
        corrupt_frames=reader.corrupt_frames,
        warnings=tuple(clips.warnings()),
        scores=intervals,
    )


class ClipStream:
    """Clips of one video, and what was noticed on the way. Iterate once, from one thread.

    `duration_seconds` is the length of the video by its frames, or up to the asked end. Setting `cancelled`
    from any thread ends the iteration at the next frame.

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
        self.cancelled = threading.Event()

    def __iter__(self) -> Iterator[ClipBatch]:
        convert = FrameConverter(self.spec.size)
        for shown, until_seconds in self._shown_frames():
            self.duration_seconds = until_seconds
            yield from self._push(shown, until_seconds, convert)
        yield from self.builder.finish()

    def _push(self, shown: TimedFrame, until_seconds: float, convert: FrameConverter) -> Iterator[ClipBatch]:
        try:
            yield from self.builder.push(shown.start_seconds, until_seconds, lambda: convert(shown.frame))
        except VideoError as error:
            raise VideoError(f"{self.reader.path}: {error}") from error

    def _shown_frames(self) -> Iterator[tuple[TimedFrame, float]]:
        """Yield each frame with the second at which it leaves the screen, up to the asked end."""
        end = math.inf if self.options.end_seconds is None else self.options.end_seconds
        previous: TimedFrame | None = None
        for current in self.reader.frames(self.options.start_seconds):
            if self.cancelled.is_set():
                return
            if previous is not None:
                yield previous, current.start_seconds
                if current.start_seconds >= end:
                    return
            previous = current
        if previous is not None:
            yield previous, previous.end_seconds

    def warnings(self) -> Iterator[str]:
        """One line for each thing that makes the result less than it could be."""
        if self.reader.failure is not None:
            yield self._break_off()
        if num_corrupt := self.reader.corrupt_frames:
            yield f"{_counted(num_corrupt, 'corrupt or misplaced frame')} skipped or concealed"
        if gaps := self.builder.gaps:
            longest = max(end - start for start, end in gaps)
            yield (
                f"{_counted(len(gaps), 'gap')} without a new frame for longer than an interval of"
                f" {self.spec.interval_seconds:g} s (longest {longest:.2f} s): nothing was looked for there"
            )

    def why_nothing(self) -> str:
        """Say why not a single interval came out."""
        t, seconds = self.spec.interval_seconds, self.duration_seconds
        if not seconds:
            why = f" ({self.reader.failure})" if self.reader.failure else ""
            return f"no frame of the video stream could be decoded{why}"
        if self.reader.failure is not None:
            return f"{self._break_off()}; that leaves no whole interval of {t:g} s to look at"
        if count_intervals(seconds, t) == 0 and self.options.end_seconds is None:
            return f"{seconds:.3f} s long, shorter than one interval of {t:g} s"
        return (
            f"no whole interval of {t:g} s in the asked part (the video goes on to {seconds:.2f} s at least)"
        )

    def _break_off(self) -> str:
        claimed, seconds = self.reader.claimed_seconds, self.duration_seconds
        lost = f" of the {claimed:.2f} s it claims" if claimed and claimed > seconds else ""
        return f"breaks off after {seconds:.2f} s{lost}: {self.reader.failure}"


def _checked(scores: Scores, video: Path) -> Scores:
    if not all(np.isfinite(part).all() for part in scores if part is not None):
        raise RunError(f"{video}: the model gave scores that are not numbers (nan); try another precision")
    return scores


def _joined_scenes(scores: list[Scores]) -> npt.NDArray[np.float32] | None:
    scenes = [score.scene for score in scores if score.scene is not None]
    return np.concatenate(scenes) if scenes else None


def _scene_scores(intervals: IntervalScores, labels: tuple[str, ...]) -> tuple[SceneScore, ...]:
    """Mean over intervals, best first."""
    if intervals.scene is None:
        return ()
    mean = intervals.scene.mean(axis=0)
    order = np.argsort(-mean, kind="stable")
    return tuple(SceneScore(label=labels[i], score=float(mean[i])) for i in order)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
