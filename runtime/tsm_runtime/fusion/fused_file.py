"""Members fused into one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tsm_runtime import __version__
from tsm_runtime.formats.detection_json import detections_to_json
from tsm_runtime.formats.kaggle import ACTION_IDS
from tsm_runtime.formats.read_write import Result, SceneScore, encode_results
from tsm_runtime.fusion.fuse import FusionOptions, fuse_scenes, fuse_segments, union_gaps
from tsm_runtime.fusion.member_file import MemberFile
from tsm_runtime.segments.merging import Segment

__all__ = ["FusedVideo", "encode_fused", "fuse_files", "fused_to_json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedVideo:
    """What the members together found in one video.

    Args:
        told: of the video by its members, with the numbers (from 1) of the members that have it.
    """

    video_id: str
    segments: tuple[Segment, ...]
    scenes: tuple[SceneScore, ...]
    told: Mapping[str, object]

    @property
    def duration_seconds(self) -> float:
        """As its members tell it, else 0."""
        duration = self.told.get("duration")
        return duration if isinstance(duration, float) else 0.0


def fuse_files(
    members: Sequence[MemberFile], weights: Sequence[float] | None, options: FusionOptions
) -> list[FusedVideo]:
    """Fuse every video that any member has, in order of their ids.

    A video that a CSV does not name counts as one that its member has not seen: a CSV cannot tell it from one
    without segments.

    Raises:
        UsageError: the weights do not fit.
    """
    fused = []
    for video_id in sorted(set().union(*(member.segments for member in members))):
        there = [number for number, member in enumerate(members, start=1) if video_id in member.segments]
        fused.append(
            FusedVideo(
                video_id=video_id,
                segments=tuple(fuse_segments([m.segments.get(video_id) for m in members], weights, options)),
                scenes=fuse_scenes([m.scenes.get(video_id) for m in members], weights),
                told={"members": there, **_told(video_id, members)},
            )
        )
    return fused


def _told(video_id: str, members: Sequence[MemberFile]) -> dict[str, object]:
    """Return the most careful of what members tell of a video (as `fusion.fuse_results`), if any does."""
    told = [member.videos[video_id] for member in members if video_id in member.videos]
    durations = [each.duration for each in told if each.duration is not None]
    intervals = [each.intervals for each in told if each.intervals is not None]
    completes = [each.complete for each in told if each.complete is not None]
    corrupts = [each.corrupt_frames for each in told if each.corrupt_frames is not None]
    merged: dict[str, object] = {}
    if durations:
        merged["duration"] = max(durations)
    if intervals:
        merged["intervals"] = max(intervals)
    if completes:
        merged["complete"] = all(completes)
        merged["gaps"] = [list(gap) for gap in union_gaps(each.gaps for each in told)]
    if corrupts:
        merged["corrupt_frames"] = max(corrupts)
    return merged


def fused_to_json(
    videos: Sequence[FusedVideo], fusion: Mapping[str, object], members: Sequence[Mapping[str, object]]
) -> bytes:
    """ActivityNet detection JSON in the layout of `results_to_json`.

    Args:
        videos: in the order they shall have in the file.
        fusion: the fusion's own options.
        members: of each member its file, weight and `external_data`.
    """
    return detections_to_json(
        {video.video_id: video.segments for video in videos},
        {video.video_id: video.scenes for video in videos},
        {
            "fusion": fusion,
            "members": members,
            "versions": {"tsm-tal": __version__},
            "videos": {video.video_id: video.told for video in videos},
        },
    )


def encode_fused(
    videos: Sequence[FusedVideo],
    format_: Literal["csv", "kaggle"],
    label_ids: Mapping[str, int | None] = ACTION_IDS,
) -> bytes:
    """Return a file of a format that tells nothing of where segments come from; label ids are for Kaggle's.

    Raises:
        UsageError: a label has no id (kaggle).
    """
    results = [
        # Of what a Result tells beside segments, such a format holds the duration at most.
        Result(
            video_id=video.video_id,
            segments=video.segments,
            scenes=video.scenes,
            interval_seconds=0.0,
            num_intervals=0,
            duration_seconds=video.duration_seconds,
            complete=True,
            gaps=(),
            corrupt_frames=0,
            warnings=(),
        )
        for video in videos
    ]
    return encode_results(results, format_, label_ids=label_ids)
