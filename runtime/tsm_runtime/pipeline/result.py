"""The result of one member for one scored video: smooths, merges, and drops short and weak segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tsm_runtime.errors import VideoError
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.scored import MemberScores, ScoredVideo
from tsm_runtime.results import FrameScores, IntervalScores, Result, SceneScore, Segment
from tsm_runtime.segments.decoding.decode import decode_frames
from tsm_runtime.segments.decoding.settings import Decoding
from tsm_runtime.segments.find import find_segments
from tsm_runtime.video.finding import VideoInput


def result_of(
    member: Member, scores: MemberScores, scored: ScoredVideo, min_score: float = 0.0
) -> Result | None:
    """Return the segments and scenes that a member finds in a video.

    Args:
        member: its labels, clip specification and segment rules.
        scores: scores of this member.
        scored: the video.
        min_score: segments with a lower score are dropped.

    Returns:
        The result, or None if the video has no whole interval for this member.
    """
    if not scores.indices:
        return None
    clips, spec = scored.clips.of(member.spec), member.spec
    builder = clips.builders[spec]
    intervals = scores.joined(frozenset(builder.breaks))
    segments, cells = find_segments(intervals, member.action_labels, spec, member.rules)
    frames = None if member.decoding is None else scores.joined_frames(frozenset(builder.breaks))
    if frames is not None and member.decoding is not None:
        segments = _decoded(member, member.decoding, frames)
    return Result(
        video_id=scored.video.video_id,
        segments=tuple(segment for segment in segments if segment.score >= min_score),
        scenes=mean_scenes(intervals, member.scene_labels),
        interval_seconds=spec.interval_seconds,
        stride_seconds=spec.stride_seconds if spec.num_overlapping > 1 else 0.0,
        num_intervals=len(intervals.indices),
        duration_seconds=clips.duration_seconds,
        complete=clips.reader.failure is None,
        gaps=tuple(builder.gaps),
        corrupt_frames=clips.reader.corrupt_frames,
        warnings=(*clips.warnings(spec), *(scores.sound.warnings if scores.sound else ())),
        discontinuities=tuple(clips.discontinuities),
        scores=cells,
        frames=frames,
        features=scores.joined_features(spec) if scores.keep_features else None,
    )


def _decoded(member: Member, decoding: Decoding, frames: FrameScores) -> list[Segment]:
    """Return the segments decoded from the scores of frames."""
    found = decode_frames(frames, member.action_labels, decoding, member.rules.thresholds)
    return [segment for segment in found if member.rules.keeps(segment)]


def mean_scenes(intervals: IntervalScores, labels: tuple[str, ...]) -> tuple[SceneScore, ...]:
    """Return the mean scene scores over the intervals, best first."""
    if intervals.scene is None:
        return ()
    mean = intervals.scene.mean(axis=0)
    order = np.argsort(-mean, kind="stable")
    return tuple(SceneScore(label=labels[i], score=float(mean[i])) for i in order)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoOutcome:
    """Results of the members that see a video, before fusion.

    Args:
        results: results by number of the member; None if the video has no whole interval for it.
        error: reason for the lack of any result.
        warnings: one line each.
    """

    video: VideoInput
    results: Mapping[int, Result | None] = field(default_factory=dict)
    error: VideoError | None = None
    warnings: tuple[str, ...] = ()


def outcome_of(
    video: VideoInput, scored: ScoredVideo | VideoError, members: Sequence[Member], min_score: float
) -> VideoOutcome:
    """Return the results of all members for a video; `min_score` as for `result_of`."""
    if isinstance(scored, VideoError):
        return VideoOutcome(video=video, error=scored)
    results = {
        number: result_of(members[number], scores, scored, min_score)
        for number, scores in scored.scores.items()
    }
    if not any(results.values()):
        shortest = min(scored.clips.specs, key=lambda spec: spec.interval_seconds)
        return VideoOutcome(
            video=video, error=VideoError(f"{video.path}: {scored.clips.why_nothing(shortest)}")
        )
    warnings = dict.fromkeys(line for result in results.values() if result for line in result.warnings)
    left_out = [
        f"{members[number].name or f'member {number + 1}'}: {scored.clips.why_nothing(members[number].spec)};"
        " left out of the fusion"
        for number, result in results.items()
        if result is None
    ]
    return VideoOutcome(video=video, results=results, warnings=(*warnings, *left_out))
