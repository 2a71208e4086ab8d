"""The captures of `tsm-run`: options --capture, --view and --offsets to plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.captures.layout import Capture, capture_of_views, find_captures
from tsm_runtime.captures.selection import CapturePlan, listed_views, plan_captures
from tsm_runtime.errors import UsageError
from tsm_runtime.fusion.ensemble_file import Ensemble
from tsm_runtime.terminal import warn

DEFAULT_VIEW = "panoramic"
"""The view of a model whose bundle names none: training takes it unless another is requested."""


AUTO = Path("auto")
"""In place of a file of offsets: look for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """Options of the command as given.

    Args:
        captures: folders of 360+x, folder/id or a video of a capture.
        views: videos of one capture, see `capture_of_views`.
        offsets: file with the second of the captures' time lines at which each video begins; `AUTO`: they are
            found by sound and pictures.
    """

    captures: tuple[Path, ...] = ()
    views: tuple[str, ...] = ()
    offsets: Path | None = None

    def __post_init__(self) -> None:
        if self.captures and self.views:
            raise UsageError("--capture beside --view: the first finds the videos, the second names them")
        if self.views and self.offsets not in (None, AUTO):
            raise UsageError("--offsets beside --view: write VIEW=FILE@SECONDS")

    @property
    def option(self) -> str:
        """The option that names the videos."""
        return "--capture" if self.captures else "--view"

    def find(self, capture_id: str | None) -> list[Capture]:
        """Return the captures; `capture_id` names a single one.

        Raises:
            UsageError: there is none, or there are several to be named.
        """
        if self.views:
            return [capture_of_views(self.views, capture_id)]
        found = find_captures(self.captures)
        if capture_id is None:
            return found
        if len(found) > 1:
            raise UsageError(f"--id names one capture, but {len(found)} were given")
        return [replace(found[0], capture_id=capture_id)]

    def plans(
        self, capture_id: str | None, ensemble: Ensemble, views: Sequence[Sequence[str]]
    ) -> list[CapturePlan]:
        """Return what is run of each capture; `views` are those that each member of the ensemble sees.

        Raises:
            UsageError: as `find` and `plan_captures`.
        """
        captures = self.find(capture_id)
        if self.offsets == AUTO:
            captures = [_with_found_offsets(capture) for capture in captures]
        offsets_file = None if self.offsets == AUTO else self.offsets
        return plan_captures(captures, ensemble, views, offsets_file)


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
