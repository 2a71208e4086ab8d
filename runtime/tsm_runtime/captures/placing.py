"""Placement of members' result files on the time lines of captures, as in `tsm-run`."""

from __future__ import annotations

from tsm_runtime.captures.offsets import Offsets, find_offset
from tsm_runtime.captures.timeline import join_results
from tsm_runtime.errors import UsageError
from tsm_runtime.formats.result_file import ResultFile
from tsm_runtime.fusion.member_file import some
from tsm_runtime.video.finding import EGOCENTRIC
from tsm_runtime.wording import counted


def place_member(
    member: ResultFile, view: str, offset_seconds: float | None, offsets: Offsets
) -> tuple[ResultFile, list[str]]:
    """Move a member's segments to the time lines of its captures.

    Clips of glasses, `<capture>/<clip>`, become one `<capture>`; clips without offset are left out. Results
    of captures written by `tsm-run` are already on their time lines.

    Args:
        member: result file of the member.
        view: view of its videos; empty: the view stated by the file.
        offset_seconds: offset of its videos, see `find_offset`; None: not given.
        offsets: offsets of single videos; if empty and without `offset_seconds`, the member is unchanged.

    Returns:
        The member, and warnings.

    Raises:
        UsageError: its view is required and unknown, or no video is left.
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
    num_clips = counted(len(left_out), "clip")
    warning = f"{member.path}: {num_clips} left out, as no offset is known ({some(left_out)})"
    placed = {
        capture: join_results(capture, [(member.results[video_id], begin) for video_id, begin in parts])
        for capture, parts in begins.items()
    }
    return member.with_results(placed), [warning] if left_out else []


def _check_view(member: ResultFile, view: str, offsets: Offsets) -> None:
    """Check that the view is known if offsets apply to the member's videos."""
    if view and "," not in view:
        return
    for name in offsets:
        _, _, video_id = name.partition("/")
        if video_id in member.results:
            raise UsageError(
                f"{member.path}: its view is not known, and {name!r} has an offset; name it in an"
                ' ensemble.toml: view = "third_person"'
            )


def _clips_by_capture(member: ResultFile, view: str) -> dict[str, list[str]]:
    clips: dict[str, list[str]] = {}
    for video_id in member.results:
        capture = video_id.rpartition("/")[0] if view in EGOCENTRIC else ""
        clips.setdefault(capture or video_id, []).append(video_id)
    return clips
