"""Selection of the videos of captures by the views of the members, and their offsets."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tsm_runtime.captures.layout import Capture, ViewVideo
from tsm_runtime.captures.offsets import Offsets, find_offset, read_offsets
from tsm_runtime.errors import UsageError
from tsm_runtime.fusion.ensemble_file import Ensemble
from tsm_runtime.video.finding import VIEWS, VideoInput


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturePlan:
    """Selected videos of a capture, which have one joint result.

    Args:
        named: first video of the capture under the name of the capture.
        begins: videos of the members' views, each with its offset in seconds on the capture's time line.
        notes: messages of one line about videos or views that are left out.
    """

    named: VideoInput
    begins: tuple[tuple[VideoInput, float], ...]
    notes: tuple[str, ...] = ()

    @property
    def capture_id(self) -> str:
        """Name of the result."""
        return self.named.video_id

    @property
    def is_video(self) -> bool:
        """Whether it is a plain video: a capture with one view, under its own name."""
        return self.begins == ((self.named, 0.0),)


def plan_of_video(video: VideoInput) -> CapturePlan:
    """Return a plain video as a capture with one view."""
    return CapturePlan(named=video, begins=((video, 0.0),))


def listed_views(views: str) -> tuple[str, ...]:
    """Return the views of a member from a comma-separated list."""
    return tuple(dict.fromkeys(view.strip() for view in views.split(",")))


def plan_captures(
    captures: Sequence[Capture],
    ensemble: Ensemble,
    views: Sequence[Sequence[str]],
    offsets_file: Path | None = None,
) -> list[CapturePlan]:
    """Return the selected videos of each capture.

    Args:
        captures: captures in the layout of 360+x, or one capture of named videos.
        ensemble: offsets of members, which the file of offsets overrides.
        views: views of each member.
        offsets_file: see `read_offsets`.

    Raises:
        UsageError: members and videos have no view in common, or an offset does not fit.
    """
    _check_views(views, captures)
    offsets = {} if offsets_file is None else _read_offsets(offsets_file, captures)
    return _plans(captures, _offsets_of_views(ensemble, views), offsets)


def _check_views(views: Sequence[Sequence[str]], captures: Sequence[Capture]) -> None:
    """Check that members and videos have views in common.

    Raises:
        UsageError: a view has no counterpart; the message names it.
    """
    seen = dict.fromkeys(view for each in views for view in each)
    there = dict.fromkeys(video.view for capture in captures for video in capture.videos)
    if any(capture.is_named for capture in captures):
        for view in there:
            if view not in seen:
                raise UsageError(
                    f"--view {view}: no member sees it, they see {', '.join(seen)}{_near(view, seen)}; of a"
                    f' model whose bundle states another view, set it in ensemble.toml: view = "{view}"'
                )
        return
    for view in seen:
        if view not in VIEWS:
            raise UsageError(
                f"view {view!r} is none of {', '.join(VIEWS)}{_near(view, VIEWS)}; name files of other views"
                " with --view"
            )
    if not seen.keys() & there.keys():
        raise UsageError(
            f"no member for any of the views: members see {', '.join(seen)}, the captures have"
            f" {', '.join(there)}"
        )


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _offsets_of_views(ensemble: Ensemble, views: Sequence[Sequence[str]]) -> dict[str, float | None]:
    """Return the offsets of the videos of each view, as stated by the members.

    Raises:
        UsageError: two members state different offsets for a view.
    """
    offsets: dict[str, float | None] = {}
    for member, seen in zip(ensemble.members, views, strict=True):
        for view in seen:
            known, stated = offsets.get(view), member.offset_seconds
            if None not in (known, stated) and known != stated:
                raise UsageError(
                    f"members say offset_seconds {known:g} and {stated:g} of the same videos (view {view})"
                )
            offsets[view] = stated if known is None else known
    return offsets


def _read_offsets(path: Path, captures: Sequence[Capture]) -> Offsets:
    """Return the offsets of the file that was given, of these captures.

    Raises:
        UsageError: the file cannot be read, or has one of a video that these captures do not have.
    """
    offsets = read_offsets(path)
    names = {video.name for capture in captures for video in capture.videos}
    at_hand = {tuple(name.split("/")[:2]) for name in names}
    for name in offsets:
        # Missing views are reported elsewhere; other captures are not requested.
        if tuple(name.split("/")[:2]) in at_hand and name not in names:
            raise UsageError(f"{path}: offset of {name!r}: there is no such video{_near(name, names)}")
    return offsets


def _plans(
    captures: Sequence[Capture], of_views: Mapping[str, float | None], offsets: Offsets
) -> list[CapturePlan]:
    plans = []
    for capture in captures:
        begins, notes = [], []
        for view, stated in of_views.items():
            videos = [video for video in capture.videos if video.view == view]
            if not videos:
                notes.append(f"no {view} video; left out of the fusion")
            for video in videos:
                known = {**offsets, **capture.offsets}
                begin = find_offset(video.name, view, known, stated, is_only=len(videos) == 1)
                if begin is None:
                    notes.append(_unknown_offset(video, capture))
                else:
                    begins.append((VideoInput(video.path, video.name, video.view), begin))
        named = VideoInput(capture.videos[0].path, capture.capture_id)
        plans.append(CapturePlan(named=named, begins=tuple(begins), notes=tuple(notes)))
    return plans


def _unknown_offset(video: ViewVideo, capture: Capture) -> str:
    remedy = f"{video.view}=FILE@SECONDS" if capture.is_named else "--offsets FILE"
    return f"no offset of {video.name} is known; left out of the fusion ({remedy} gives one)"
