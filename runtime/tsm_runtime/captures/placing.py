"""Members' files put on the time lines of captures, as `tsm-run` does with results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tsm_runtime.captures.offsets import Offsets, find_offset
from tsm_runtime.captures.timeline import end_on_time_line, join_scenes, join_segments, moved_spans
from tsm_runtime.errors import UsageError
from tsm_runtime.formats.read_write import SceneScore
from tsm_runtime.fusion.fuse import union_gaps
from tsm_runtime.fusion.member_file import MemberFile, Provenance, some
from tsm_runtime.video.finding import EGOCENTRIC

__all__ = ["place_member"]

_Begins = Sequence[tuple[str, float]]
"""Videos of one capture, and where they begin on its time line."""


def place_member(
    member: MemberFile, view: str, offset_seconds: float | None, offsets: Offsets
) -> tuple[MemberFile, list[str]]:
    """Move a member's segments to the time lines of the captures that its videos are of.

    Clips of glasses, `<capture>/<clip>`, become one `<capture>`; those of unknown offset are left out. A file
    that `tsm-run` wrote of captures is on their time lines already.

    Args:
        member: as read.
        view: of its videos; empty: as its file tells.
        offset_seconds: of its videos, see `find_offset`; None: not told.
        offsets: of single videos; empty and no `offset_seconds`: the member stays as it is.

    Returns:
        The member, and warnings.

    Raises:
        UsageError: its view is not known but needed, or no video is left.
    """
    if member.is_on_time_line or (offset_seconds is None and not offsets):
        return member, []
    view = view or member.view
    _check_view(member, view, offsets)
    clips = _clips_by_capture(member, view)
    begins: dict[str, list[tuple[str, float]]] = {}
    left_out = []
    for capture, video_ids in clips.items():
        for video_id in video_ids:
            name = f"{view}/{video_id}"
            begin = find_offset(name, view, offsets, offset_seconds, is_only=len(video_ids) == 1)
            if begin is None:
                left_out.append(video_id)
            else:
                begins.setdefault(capture, []).append((video_id, begin))
    if not begins:
        raise UsageError(
            f"{member.path}: no offset of its videos is known ({some(left_out)}); give them with --offsets,"
            " or leave this member out"
        )
    told = f"{member.path}: {len(left_out)} clips without a known offset are left out ({some(left_out)})"
    return _placed(member, begins), [told] if left_out else []


def _check_view(member: MemberFile, view: str, offsets: Offsets) -> None:
    """Check that offsets can be looked up by view where they tell anything of the member's videos."""
    if view and "," not in view:
        return
    for name in offsets:
        _, _, video_id = name.partition("/")
        if video_id in member.segments:
            raise UsageError(
                f"{member.path}: which view it is of is not told, and {name!r} has an offset; name it in an"
                ' ensemble.toml: view = "third_person"'
            )


def _clips_by_capture(member: MemberFile, view: str) -> dict[str, list[str]]:
    clips: dict[str, list[str]] = {}
    for video_id in member.segments:
        capture = video_id.rpartition("/")[0] if view in EGOCENTRIC else ""
        clips.setdefault(capture or video_id, []).append(video_id)
    return clips


def _placed(member: MemberFile, begins: Mapping[str, _Begins]) -> MemberFile:
    provenance = {capture: _joined_provenance(member, parts) for capture, parts in begins.items()}
    return replace(
        member,
        segments={
            capture: join_segments([(member.segments[video_id], begin) for video_id, begin in parts])
            for capture, parts in begins.items()
        },
        scenes={
            capture: scenes for capture, parts in begins.items() if (scenes := _joined_scenes(member, parts))
        },
        videos={capture: told for capture, told in provenance.items() if told is not None},
    )


def _joined_scenes(member: MemberFile, parts: _Begins) -> tuple[SceneScore, ...]:
    told = [
        (member.scenes[video_id], _num_intervals(member, video_id))
        for video_id, _ in parts
        if member.scenes.get(video_id)
    ]
    return join_scenes(told) if told else ()


def _num_intervals(member: MemberFile, video_id: str) -> int:
    told = member.videos.get(video_id)
    return told.intervals or 1 if told is not None else 1


def _joined_provenance(member: MemberFile, parts: _Begins) -> Provenance | None:
    """Return what the file tells of the videos of a capture, as `join_results` does; None: nothing."""
    told = [(member.videos[video_id], begin) for video_id, begin in parts if video_id in member.videos]
    if not told:
        return None
    durations = [end_on_time_line(p.duration, begin) for p, begin in told if p.duration is not None]
    intervals = [p.intervals for p, _ in told if p.intervals is not None]
    completes = [p.complete for p, _ in told if p.complete is not None]
    corrupts = [p.corrupt_frames for p, _ in told if p.corrupt_frames is not None]
    return Provenance(
        duration=max(durations, default=None),
        intervals=sum(intervals) if intervals else None,
        complete=all(completes) if completes else None,
        gaps=list(union_gaps(filter(None, moved_spans(p.gaps, begin)) for p, begin in told)),
        corrupt_frames=sum(corrupts) if corrupts else None,
        discontinuities=sorted(at + begin for p, begin in told for at in p.discontinuities),
    )
