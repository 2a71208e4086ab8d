"""Options for reading a file of annotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Options for reading a file of annotations.

    Args:
        tiers: ELAN: only annotations of these tiers; (): of all independent tiers.
        unannotated: meaning of a video that a project lists without any entry: it is left out as not yet
            annotated, or it is background from first to last frame.
    """

    tiers: tuple[str, ...] = ()
    unannotated: Literal["leave_out", "background"] = "leave_out"
