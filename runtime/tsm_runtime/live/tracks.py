"""What each model of a live run has found, and what of it can leave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tsm_runtime.fusion.fuse import FusionOptions
from tsm_runtime.live.ensemble import LiveFusion, Scened, scened
from tsm_runtime.live.merging import Found, MemberMerger
from tsm_runtime.pipeline.run import Member

__all__ = ["Tracks"]

Row = npt.NDArray[np.float32]


class Tracks:
    """Merges the intervals of every member on its own, and fuses where there are several.

    Args:
        members: one or more.
        fusion: of several.
        min_score: segments of a member below it are dropped.
    """

    def __init__(self, members: Sequence[Member], fusion: FusionOptions, min_score: float) -> None:
        self._members = tuple(members)
        self._min_score = min_score
        self._mergers = [MemberMerger(m.action_labels, m.spec, m.rules) for m in members]
        self._fusion = LiveFusion(members, fusion) if len(self._members) > 1 else None
        self._leaving: list[Scened] = []

    @property
    def num_intervals(self) -> int:
        """Intervals that were scored, the most of one member."""
        return max(merger.num_intervals for merger in self._mergers)

    def push(self, member: int, index: int, action: Row, scene: Row | None, *, after_gap: bool) -> None:
        """Take the scores of a member's next interval; see `MemberMerger.push`."""
        self._closed(member, self._mergers[member].push(index, action, scene, after_gap=after_gap))

    def skip_to(self, member: int, index: int) -> None:
        """Note that no interval of a member before `index` comes any more."""
        self._closed(member, self._mergers[member].skip_to(index))

    def leaving(self) -> list[Scened]:
        """Take out the segments that are over, in order of time."""
        if self._fusion is not None:
            return self._fusion.leaving(self._mergers)
        leaving, self._leaving = self._leaving, []
        return leaving

    def close(self, *, final: bool) -> list[Scened]:
        """End all that is open, at the end of the stream or at a break, and take it out."""
        for member, merger in enumerate(self._mergers):
            self._closed(member, merger.close())
        if self._fusion is not None:
            return self._fusion.leaving(self._mergers, everything=True, final=final)
        return self.leaving()

    def open(self) -> list[Scened]:
        """Return the segments that are not over, as they are by now."""
        if self._fusion is not None:
            return self._fusion.preview(self._mergers)
        return [scened(found, self._members[0].scene_labels) for found in self._strong(self._mergers[0].open)]

    def _closed(self, member: int, found: Iterable[Found]) -> None:
        strong = self._strong(found)
        if self._fusion is not None:
            self._fusion.add(member, strong)
        else:
            self._leaving += [scened(each, self._members[member].scene_labels) for each in strong]

    def _strong(self, found: Iterable[Found]) -> list[Found]:
        return [each for each in found if each.segment.score >= self._min_score]
