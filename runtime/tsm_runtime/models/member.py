"""A model ready to run."""

from __future__ import annotations

from dataclasses import dataclass, field

from tsm_runtime.backends.base import Backend
from tsm_runtime.clips.builder import ClipSpec
from tsm_runtime.segments.smoothing import SegmentRules

__all__ = ["Member"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A model ready to run: its backend and what its scores mean.

    Args:
        backend: scores clips.
        spec: the clips it takes.
        action_labels, scene_labels: of its scores.
        rules: how its scores become segments.
        name: for a person, where several models run.
        view: of the videos that it sees, see `VideoInput`.
        weight: in an ensemble, above 0.
        temperature: in an ensemble, of its segments' scores, see `fusion.calibration`.
    """

    backend: Backend
    spec: ClipSpec
    action_labels: tuple[str, ...]
    scene_labels: tuple[str, ...] = ()
    rules: SegmentRules = field(default_factory=SegmentRules)
    name: str = ""
    view: str = ""
    weight: float = 1.0
    temperature: float = 1.0
