"""The captures of `tsm-run`: options --capture, --view and --offsets to plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.captures.layout import Capture, capture_of_views, find_captures
from tsm_runtime.captures.selection import CapturePlan, listed_views, plan_captures
from tsm_runtime.commands.file_request import AUTO, CaptureFlags
from tsm_runtime.errors import UsageError
from tsm_runtime.fusion.ensemble_file import Ensemble
from tsm_runtime.terminal import warn

DEFAULT_VIEW = "panoramic"
"""The view of a model whose bundle names none: training takes it unless another is requested."""


def capture_plans(
    flags: CaptureFlags, capture_id: str | None, ensemble: Ensemble, views: Sequence[Sequence[str]]
) -> list[CapturePlan]:
    """Return what is run of each capture.

    Args:
        flags: name the captures, and where their videos begin.
        capture_id: name of a single one; None: by its files.
        ensemble: members that are run.
        views: those that each member of the ensemble sees.

    Raises:
        UsageError: there is no capture, there are several to be named, or as `plan_captures`.
    """
    captures = _find(flags, capture_id)
    if flags.offsets == AUTO:
        return plan_captures(list(map(_with_found_offsets, captures)), ensemble, views, None)
    return plan_captures(captures, ensemble, views, flags.offsets)


def _find(flags: CaptureFlags, capture_id: str | None) -> list[Capture]:
    if flags.view:
        return [capture_of_views(flags.view, capture_id)]
    found = find_captures(flags.capture or ())
    if capture_id is None:
        return found
    if len(found) > 1:
        raise UsageError(f"--id names one capture, but {len(found)} were given")
    return [replace(found[0], capture_id=capture_id)]


def _with_found_offsets(capture: Capture) -> Capture:
    """Look where the videos of a capture begin; offsets given with the videos go first."""
    from tsm_runtime.captures.matching.find import Group, find_offsets

    name_of = {video.path: video.name for video in capture.videos}
    found, _ = find_offsets(Group(capture_id=capture.capture_id, videos=tuple(name_of)))
    for each in found:
        if each.offset_seconds is None:
            warn(f"--offsets auto: {each.path}: {each.note}")
    known = {name_of[each.path]: each.offset_seconds for each in found if each.offset_seconds is not None}
    return replace(capture, offsets={**known, **capture.offsets})


def views_of_members(
    ensemble: Ensemble, bundles: Sequence[Bundle]
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return the views that each member sees, and a line for each member whose view is assumed."""
    named = [
        entry.view or bundle.manifest.view for entry, bundle in zip(ensemble.members, bundles, strict=True)
    ]
    assumed = [
        f"{bundle.path}: states no view; taken as {DEFAULT_VIEW}"
        for view, bundle in zip(named, bundles, strict=True)
        if not view
    ]
    return [listed_views(view or DEFAULT_VIEW) for view in named], assumed
