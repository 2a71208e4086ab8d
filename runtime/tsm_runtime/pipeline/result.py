"""The result of one member for one scored video: smooth, merge, drop the short and the weak."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.scored import MemberScores, ScoredVideo
from tsm_runtime.results import IntervalScores, Result, SceneScore
from tsm_runtime.segments.find import find_segments

__all__ = ["left_out", "result_of", "why_nothing"]


def result_of(
    member: Member, scores: MemberScores, scored: ScoredVideo, min_score: float = 0.0
) -> Result | None:
    """Return the segments and scenes that a member finds in a video.

    Args:
        member: its labels, clip specification and segment rules.
        scores: of this member.
        scored: the video.
        min_score: segments with a lower score are dropped.

    Returns:
        The result, or None where the video has no whole interval for this member.
    """
    if not scores.indices:
        return None
    clips, spec = scored.clips, member.spec
    builder = clips.builders[spec]
    intervals = scores.joined(frozenset(builder.breaks))
    segments, cells = find_segments(intervals, member.action_labels, spec, member.rules)
    return Result(
        video_id=scored.video.video_id,
        segments=tuple(segment for segment in segments if segment.score >= min_score),
        scenes=_mean_scenes(intervals, member.scene_labels),
        interval_seconds=spec.interval_seconds,
        stride_seconds=spec.stride_seconds if spec.num_overlapping > 1 else 0.0,
        num_intervals=len(intervals.indices),
        duration_seconds=clips.duration_seconds,
        complete=clips.reader.failure is None,
        gaps=tuple(builder.gaps),
        corrupt_frames=clips.reader.corrupt_frames,
        warnings=tuple(clips.warnings(spec)),
        discontinuities=tuple(clips.discontinuities),
        scores=cells,
    )


def _mean_scenes(intervals: IntervalScores, labels: tuple[str, ...]) -> tuple[SceneScore, ...]:
    """Return the mean over the intervals, best first."""
    if intervals.scene is None:
        return ()
    mean = intervals.scene.mean(axis=0)
    order = np.argsort(-mean, kind="stable")
    return tuple(SceneScore(label=labels[i], score=float(mean[i])) for i in order)


def why_nothing(scored: ScoredVideo) -> str:
    """Return why a video has no whole interval for any member."""
    shortest = min(scored.clips.specs, key=lambda spec: spec.interval_seconds)
    return f"{scored.video.path}: {scored.clips.why_nothing(shortest)}"


def left_out(members: Sequence[Member], results: Sequence[Result | None], scored: ScoredVideo) -> list[str]:
    """Return a line for each member of an ensemble that has no result for a video."""
    why = scored.clips.why_nothing
    return [
        f"{member.name or f'member {number}'}: {why(member.spec)}; left out of the fusion"
        for number, (member, result) in enumerate(zip(members, results, strict=True), start=1)
        if result is None
    ]
