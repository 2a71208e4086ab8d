"""Members' files: their segments, their scenes, and what they tell of where these come from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from tsm_runtime._version import __version__
from tsm_runtime.bundle.manifest import sha256
from tsm_runtime.errors import UsageError
from tsm_runtime.files import read_json
from tsm_runtime.formats.detection_json import detections_to_json, read_scenes
from tsm_runtime.formats.kaggle import ACTION_IDS
from tsm_runtime.formats.read_write import Result, SceneScore, encode_results, read_segments
from tsm_runtime.fusion.fuse import FusionOptions, fuse_scenes, fuse_segments, union_gaps
from tsm_runtime.results import Segment

__all__ = [
    "FusedVideo",
    "MemberFile",
    "Provenance",
    "check_members",
    "encode_fused",
    "fuse_files",
    "fused_to_json",
    "read_member",
    "some",
]

_SHOWN = 5


class Provenance(msgspec.Struct):
    """What a file of ours tells of a video; other tools tell nothing."""

    duration: float | None = None
    intervals: int | None = None
    complete: bool | None = None
    gaps: list[tuple[float, float]] = []
    corrupt_frames: int | None = None
    discontinuities: list[float] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberFile:
    """One member's segments and scenes per video id, and what its file tells of where they come from.

    Args:
        external_data: as in the file, without the part per video.
        videos: the part per video, of the videos it tells of.
    """

    path: Path
    sha256: str
    segments: Mapping[str, Sequence[Segment]]
    scenes: Mapping[str, Sequence[SceneScore]] = field(default_factory=dict)
    external_data: object = None
    videos: Mapping[str, Provenance] = field(default_factory=dict)

    @property
    def labels(self) -> set[str]:
        """Labels of its segments."""
        return {segment.label for found in self.segments.values() for segment in found}

    @property
    def scene_labels(self) -> set[str]:
        """Labels of its scenes."""
        return {scene.label for scenes in self.scenes.values() for scene in scenes}

    @property
    def bundle_sha256(self) -> str | None:
        """Hash of the bundle that made the file, where it tells it."""
        return self._told_model("bundle_sha256")

    @property
    def view(self) -> str:
        """The view that the bundle which made the file was trained on, where it tells it."""
        return self._told_model("view") or ""

    @property
    def is_on_time_line(self) -> bool:
        """Whether its segments are on the time lines of captures: `tsm-run` ran on these."""
        return isinstance(self.external_data, dict) and "captures" in self.external_data

    def _told_model(self, key: str) -> str | None:
        model = self.external_data.get("model") if isinstance(self.external_data, dict) else None
        found = model.get(key) if isinstance(model, dict) else None
        return found if isinstance(found, str) else None


# --- reading --------------------------------------------------------------------------------------


def read_member(path: Path, label_ids: Mapping[str, int | None] = ACTION_IDS) -> MemberFile:
    """Read a file of segments, of any format that `read_segments` takes; label ids are for Kaggle's.

    Raises:
        UsageError: the file cannot be read, has no video, or a segment or scene that cannot be fused.
    """
    segments = read_segments(path, label_ids=label_ids)
    if not segments:
        raise UsageError(f"{path}: holds no video; leave this member out")
    for video_id, found in segments.items():
        for segment in found:
            if segment.score < 0:
                raise UsageError(
                    f"{path}: video {video_id!r}: {segment.label!r} has the score {segment.score:g}; fusion"
                    " takes confidences of 0 or more (of logits, write their sigmoid)"
                )
    content = _json_object(path)
    external = content.get("external_data")
    videos = external.get("videos") if isinstance(external, dict) else None
    return MemberFile(
        path=path,
        sha256=sha256(path.read_bytes()),
        segments=segments,
        scenes=read_scenes(path, content),
        external_data=_without_videos(external),
        videos=_read_provenance(videos) if isinstance(videos, dict) else {},
    )


def _json_object(path: Path) -> dict[str, Any]:
    """Return the whole content where it is a JSON object; a CSV tells nothing but segments."""
    try:
        content = read_json(path)
    except UsageError:
        return {}
    return content if isinstance(content, dict) else {}


def _without_videos(external: object) -> object:
    if not isinstance(external, dict):
        return _strict(external)
    return {key: _strict(value) for key, value in external.items() if key != "videos"}


def _strict(value: object) -> object:
    """Replace NaN and Infinity, which Python programs write and no strict reader takes, by their names."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _read_provenance(videos: Mapping[str, object]) -> dict[str, Provenance]:
    """Return what is told of each video; leave out what another tool wrote here in its own form."""
    found = {}
    for video_id, raw in videos.items():
        try:
            found[video_id] = msgspec.convert(raw, Provenance)
        except msgspec.ValidationError:
            continue
    return found


def check_members(members: Sequence[MemberFile]) -> list[str]:
    """Check that there is something to fuse.

    Returns:
        Warnings, one line each.

    Raises:
        UsageError: fewer than two members, the same file twice, or no video that two members have.
    """
    if len(members) < 2:
        raise UsageError(f"{len(members)} member given; fusion takes two or more files of segments")
    for number, member in enumerate(members):
        if any(member.path.resolve() == other.path.resolve() for other in members[:number]):
            raise UsageError(
                f"{member.path} is given twice; to let it count for more, give it a higher weight (--weights)"
            )
    counts: dict[str, int] = {}
    for member in members:
        for video_id in member.segments:
            counts[video_id] = counts.get(video_id, 0) + 1
    if max(counts.values()) < 2:
        shown = "; ".join(f"{m.path} has {some(m.segments)}" for m in members)
        raise UsageError(f"no video is in two members, so there is nothing to fuse: {shown}\nspell ids alike")
    partly = sorted(video_id for video_id, count in counts.items() if count < len(members))
    warnings = []
    if partly:
        warnings.append(
            f"{len(partly)} of {len(counts)} videos are not in all members ({some(partly)}): those that"
            " lack one are left out of its denominator"
        )
    warnings += [f"{m.path}: not one segment in {len(m.segments)} videos" for m in members if not m.labels]
    return warnings


def some(names: Iterable[str]) -> str:
    """Return the first few names in their order, for a message."""
    listed = sorted(names)
    shown = ", ".join(repr(name) for name in listed[:_SHOWN])
    return f"{shown}, ... {len(listed)} in all" if len(listed) > _SHOWN else shown or "none"


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
    if cuts := sorted({at for each in told for at in each.discontinuities}):
        merged["discontinuities"] = cuts
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
