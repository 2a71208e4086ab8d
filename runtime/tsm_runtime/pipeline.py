"""The way of the data: decode -> clips -> backend -> segments -> fusion -> result."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends import Backend, Scores
from tsm_runtime.clips import ClipBatch, ClipBuilder, ClipSpec, count_intervals
from tsm_runtime.decode import TimedFrame, VideoReader
from tsm_runtime.errors import RunError, UsageError, VideoError
from tsm_runtime.frames import FrameConverter
from tsm_runtime.fusion.calibration import calibrate_segments
from tsm_runtime.fusion.fuse import FusionOptions, fuse_results
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
    """A model ready to run: its backend and what its scores mean.

    Args:
        backend: scores clips.
        spec: the clips it takes.
        action_labels, scene_labels: of its scores.
        name: for a person, where several models run.
        weight: in an ensemble, above 0.
        temperature: in an ensemble, of its segments' scores, see `fusion.calibration`.
    """

    backend: Backend
    spec: ClipSpec
    action_labels: tuple[str, ...]
    scene_labels: tuple[str, ...] = ()
    name: str = ""
    weight: float = 1.0
    temperature: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to run on and what to keep.

    Args:
        start_seconds, end_seconds: only intervals that lie within are classified; the grid stays that of the
            whole video. end None: to the end.
        min_score: segments of a model below it are dropped; in an ensemble before they are fused.
        batch_size: clips per call of the backend.
        fusion: of several members; its own min_score is that of fused segments.

    Raises:
        UsageError: a value is out of range.
    """

    start_seconds: float = 0.0
    end_seconds: float | None = None
    min_score: float = 0.0
    batch_size: int = 1
    fusion: FusionOptions = field(default_factory=FusionOptions)

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
    members: Member | Sequence[Member],
    options: Options | None = None,
    *,
    video_id: str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Find the segments of one video with one model, or with several that share its decoding.

    With several the result is what `fusion.fuse_results` makes of the members' own results, which it holds as
    `members`. A member of whose intervals none fits into the video has no voice there; a warning says so.

    Raises:
        VideoError: the video cannot be read, has no pictures, or no whole interval for any member.
        RunError: a model gave scores that are not numbers.
        UsageError: a member's weight is not above 0.
    """
    members = (members,) if isinstance(members, Member) else tuple(members)
    options = options or Options()
    scored = [_Scored() for _ in members]
    with VideoReader(video) as reader:
        clips = ClipStream(reader, [member.spec for member in members], options)
        reached_seconds = 0.0
        with closing(prefetch(clips, clips.cancelled)) as batches:
            for batch in batches:
                for member, kept in zip(members, scored, strict=True):
                    if member.spec == batch.spec:
                        kept.add(batch, _checked(member.backend.infer(batch.frames), video))
                if progress is not None:
                    reached_seconds = max(reached_seconds, batch.end_seconds)  # grids take turns
                    progress(reached_seconds, reader.claimed_seconds)
    if not any(kept.indices for kept in scored):
        raise VideoError(f"{video}: {clips.why_nothing(min(clips.specs, key=lambda s: s.interval_seconds))}")
    results = [
        _member_result(video_id or video.stem, member, kept, clips) if kept.indices else None
        for member, kept in zip(members, scored, strict=True)
    ]
    return results[0] if len(members) == 1 and results[0] else _fused(members, results, clips)


@dataclass(frozen=True, slots=True)
class _Scored:
    """What one member's backend said, batch by batch."""

    indices: list[npt.NDArray[np.int64]] = field(default_factory=list)
    scores: list[Scores] = field(default_factory=list)

    def add(self, batch: ClipBatch, scores: Scores) -> None:
        self.indices.append(batch.indices)
        self.scores.append(scores)


def _member_result(video_id: str, member: Member, scored: _Scored, clips: ClipStream) -> Result:
    builder, t = clips.builders[member.spec], member.spec.interval_seconds
    intervals = IntervalScores(
        indices=np.concatenate(scored.indices),
        action=np.concatenate([score.action for score in scored.scores]),
        scene=_joined_scenes(scored.scores),
        breaks=frozenset(builder.breaks),
    )
    segments = merge_intervals(intervals, member.action_labels, t)
    return Result(
        video_id=video_id,
        segments=tuple(s for s in segments if s.score >= clips.options.min_score),
        scenes=_scene_scores(intervals, member.scene_labels),
        interval_seconds=t,
        num_intervals=len(intervals.indices),
        duration_seconds=clips.duration_seconds,
        complete=clips.reader.failure is None,
        gaps=tuple(builder.gaps),
        corrupt_frames=clips.reader.corrupt_frames,
        warnings=tuple(clips.warnings(member.spec)),
        scores=intervals,
    )


def _fused(members: Sequence[Member], results: Sequence[Result | None], clips: ClipStream) -> Result:
    """Fuse the results of members, and tell of those that have none."""
    calm = [
        None if result is None else _calibrated(result, member.temperature)
        for member, result in zip(members, results, strict=True)
    ]
    fused = fuse_results(calm, [member.weight for member in members], clips.options.fusion)
    left_out = [
        f"{member.name or f'member {number}'}: {clips.why_nothing(member.spec)}; left out of the fusion"
        for number, (member, result) in enumerate(zip(members, results, strict=True), start=1)
        if result is None
    ]
    return replace(fused, warnings=(*fused.warnings, *left_out), members=tuple(results))


def _calibrated(result: Result, temperature: float) -> Result:
    if temperature == 1:
        return result
    # First as a file would hold them, so that memory and files give the same.
    held = [replace(segment, score=round(segment.score, 6)) for segment in result.segments]
    calm = calibrate_segments({result.video_id: held}, temperature)
    return replace(result, segments=tuple(calm[result.video_id]))


class ClipStream:
    """Clips of one video, and what was noticed on the way. Iterate once, from one thread.

    The video is decoded once for all specs, each of which has its own grid of intervals; what a batch is of,
    its `spec` says. Batches of a spec are the same whatever other specs there are.

    `duration_seconds` is the length of the video by its frames, or up to the asked end. Setting `cancelled`
    from any thread ends the iteration at the next frame.

    Args:
        reader: an open video.
        specs: what the model takes, or what several do; equal ones count once.
        options: which part of the video.

    Raises:
        ValueError: there is no spec.
    """

    def __init__(self, reader: VideoReader, specs: ClipSpec | Sequence[ClipSpec], options: Options) -> None:
        self.reader = reader
        self.options = options
        self.specs = (specs,) if isinstance(specs, ClipSpec) else tuple(dict.fromkeys(specs))
        if not self.specs:
            raise ValueError("clips for no model: expected one or more")
        self.builders = {spec: _builder(spec, options) for spec in self.specs}
        self.duration_seconds = 0.0
        self.cancelled = threading.Event()

    def __iter__(self) -> Iterator[ClipBatch]:
        converters = {spec.size: FrameConverter(spec.size) for spec in self.specs}
        for shown, until_seconds in self._shown_frames():
            self.duration_seconds = until_seconds
            yield from self._push(shown, until_seconds, converters)
        for builder in self.builders.values():
            yield from builder.finish()

    def _push(
        self, shown: TimedFrame, until_seconds: float, converters: Mapping[int, FrameConverter]
    ) -> Iterator[ClipBatch]:
        pictures: dict[int, npt.NDArray[np.uint8]] = {}  # of this frame, by size

        def picture(size: int) -> npt.NDArray[np.uint8]:
            if size not in pictures:
                pictures[size] = converters[size](shown.frame)
            return pictures[size]

        try:
            for spec, builder in self.builders.items():
                yield from builder.push(shown.start_seconds, until_seconds, partial(picture, spec.size))
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

    def warnings(self, spec: ClipSpec) -> Iterator[str]:
        """One line for each thing that makes the result of a model less than it could be."""
        if self.reader.failure is not None:
            yield self._break_off()
        if num_corrupt := self.reader.corrupt_frames:
            yield f"{_counted(num_corrupt, 'corrupt or misplaced frame')} skipped or concealed"
        if gaps := self.builders[spec].gaps:
            longest = max(end - start for start, end in gaps)
            yield (
                f"{_counted(len(gaps), 'gap')} without a new frame for longer than an interval of"
                f" {spec.interval_seconds:g} s (longest {longest:.2f} s): nothing was looked for there"
            )

    def why_nothing(self, spec: ClipSpec) -> str:
        """Say why not a single interval came out for a model."""
        t, seconds = spec.interval_seconds, self.duration_seconds
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


def _builder(spec: ClipSpec, options: Options) -> ClipBuilder:
    t = spec.interval_seconds
    return ClipBuilder(
        spec,
        options.batch_size,
        first_interval=-count_intervals(-options.start_seconds, t),  # ceil
        stop_interval=None if options.end_seconds is None else count_intervals(options.end_seconds, t),
    )


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
