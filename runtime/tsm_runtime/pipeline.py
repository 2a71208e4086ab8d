"""The way of the data: decode -> clips -> backend -> segments -> fusion -> result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends import Backend, Scores
from tsm_runtime.clip_stream import ClipStream
from tsm_runtime.clips import ClipBatch, ClipSpec
from tsm_runtime.decode import VideoReader
from tsm_runtime.errors import RunError, VideoError
from tsm_runtime.fusion.calibration import calibrate_segments
from tsm_runtime.fusion.fuse import fuse_results
from tsm_runtime.options import Options
from tsm_runtime.outputs import Result, SceneScore
from tsm_runtime.post_processing import SegmentRules, find_segments
from tsm_runtime.prefetch import prefetch
from tsm_runtime.segments import IntervalScores

__all__ = ["Member", "Options", "Progress", "run"]

Progress = Callable[[float, float | None], None]
"""Called with the second of the video that is reached and the length the file claims, if it claims one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A model ready to run: its backend and what its scores mean.

    Args:
        backend: scores clips.
        spec: the clips it takes.
        action_labels, scene_labels: of its scores.
        rules: how its scores become segments.
        name: for a person, where several models run.
        weight: in an ensemble, above 0.
        temperature: in an ensemble, of its segments' scores, see `fusion.calibration`.
    """

    backend: Backend
    spec: ClipSpec
    action_labels: tuple[str, ...]
    scene_labels: tuple[str, ...] = ()
    rules: SegmentRules = field(default_factory=SegmentRules)
    name: str = ""
    weight: float = 1.0
    temperature: float = 1.0


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
    builder, spec = clips.builders[member.spec], member.spec
    intervals = IntervalScores(
        indices=np.concatenate(scored.indices),
        action=np.concatenate([score.action for score in scored.scores]),
        scene=_joined_scenes(scored.scores),
        breaks=frozenset(builder.breaks),
    )
    segments, cells = find_segments(intervals, member.action_labels, spec, member.rules)
    return Result(
        video_id=video_id,
        segments=tuple(s for s in segments if s.score >= clips.options.min_score),
        scenes=_scene_scores(intervals, member.scene_labels),
        interval_seconds=spec.interval_seconds,
        stride_seconds=spec.stride_seconds if spec.num_overlapping > 1 else 0.0,
        num_intervals=len(intervals.indices),
        duration_seconds=clips.duration_seconds,
        complete=clips.reader.failure is None,
        gaps=tuple(builder.gaps),
        corrupt_frames=clips.reader.corrupt_frames,
        warnings=tuple(clips.warnings(member.spec)),
        scores=cells,
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
