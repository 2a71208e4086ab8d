"""How a file of annotations is read, where its format leaves a choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How a file of annotations is read.

    Args:
        tiers: of ELAN: only annotations of these tiers; (): of all that depend on no other.
        unannotated: what a video stands for that a project names without any entry: it is left out, as no one
            has looked at it yet, or it is background from first to last frame.
    """

    tiers: tuple[str, ...] = ()
    unannotated: Literal["leave_out", "background"] = "leave_out"
