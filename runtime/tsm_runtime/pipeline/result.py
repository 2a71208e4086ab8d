"""Scores of one video, batch by batch, and the result that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import Scores
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.errors import RunError, VideoError
from tsm_runtime.formats.read_write import Result, SceneScore
from tsm_runtime.fusion.calibration import calibrate_segments
from tsm_runtime.fusion.fuse import fuse_results
from tsm_runtime.models.member import Member
from tsm_runtime.results import IntervalScores
from tsm_runtime.segments.find import find_segments

__all__ = ["MemberScores", "calibrated_result", "result_of"]


@dataclass(frozen=True, slots=True)
class MemberScores:
    """What one member's backend said of one video, in order of time."""

    indices: list[npt.NDArray[np.int64]] = field(default_factory=list)
    scores: list[Scores] = field(default_factory=list)

    def add(self, indices: npt.NDArray[np.int64], scores: Scores, video: Path) -> None:
        """Keep the scores of some intervals.

        Raises:
            RunError: they are not numbers.
        """
        if not all(np.isfinite(part).all() for part in scores if part is not None):
            raise RunError(
                f"{video}: the model gave scores that are not numbers (nan); try another precision"
            )
        self.indices.append(indices)
        self.scores.append(Scores(scores.action, scores.scene))  # outputs per frame are large


def result_of(
    video_id: str, members: Sequence[Member], scored: Sequence[MemberScores], clips: ClipStream
) -> Result:
    """Return what was found in a video whose clips are all scored.

    Args:
        video_id: its name.
        members: one alone, or several whose results are fused.
        scored: of each member.
        clips: the stream they came from, read to its end.

    Raises:
        VideoError: there is no whole interval for any member.
        UsageError: a member's weight is not above 0.
    """
    if not any(kept.indices for kept in scored):
        coarsest = min(clips.specs, key=lambda spec: spec.interval_seconds)
        raise VideoError(f"{clips.reader.path}: {clips.why_nothing(coarsest)}")
    results = [
        _member_result(video_id, member, kept, clips) if kept.indices else None
        for member, kept in zip(members, scored, strict=True)
    ]
    return results[0] if len(members) == 1 and results[0] else _fused(members, results, clips)


def _member_result(video_id: str, member: Member, scored: MemberScores, clips: ClipStream) -> Result:
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
        None if result is None else calibrated_result(result, member.temperature)
        for member, result in zip(members, results, strict=True)
    ]
    fused = fuse_results(calm, [member.weight for member in members], clips.options.fusion)
    left_out = [
        f"{member.name or f'member {number}'}: {clips.why_nothing(member.spec)}; left out of the fusion"
        for number, (member, result) in enumerate(zip(members, results, strict=True), start=1)
        if result is None
    ]
    return replace(fused, warnings=(*fused.warnings, *left_out), members=tuple(results))


def calibrated_result(result: Result, temperature: float) -> Result:
    """Return a result with scores as a member's temperature makes them."""
    if temperature == 1:
        return result
    # First as a file would hold them, so that memory and files give the same.
    held = [replace(segment, score=round(segment.score, 6)) for segment in result.segments]
    calm = calibrate_segments({result.video_id: held}, temperature)
    return replace(result, segments=tuple(calm[result.video_id]))


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
