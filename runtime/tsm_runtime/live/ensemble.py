"""The ensemble of a live stream: candidates wait until nothing that is still open can overlap them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tsm_runtime.formats.read_write import SceneScore
from tsm_runtime.fusion.calibration import calibrate_segments
from tsm_runtime.fusion.candidates import MICROSECONDS
from tsm_runtime.fusion.fuse import FusionOptions, fuse_scenes, fuse_segments
from tsm_runtime.live.merging import Found, MemberMerger
from tsm_runtime.pipeline.run import Member
from tsm_runtime.segments.merging import Segment

__all__ = ["LiveFusion", "Scened", "scened"]


@dataclass(frozen=True, slots=True)
class Scened:
    """A segment with the scene scores of its cells, best first; empty without a scene head."""

    segment: Segment
    scenes: tuple[SceneScore, ...]


def scened(found: Found, scene_labels: Sequence[str]) -> Scened:
    """Return a member's segment with the mean of its cells' scene scores."""
    return Scened(found.segment, fuse_scenes([_mean_scenes([found], scene_labels)]))


def _mean_scenes(found: Iterable[Found], scene_labels: Sequence[str]) -> list[SceneScore]:
    """Return the mean over the cells of some segments."""
    sums = [(each.scene_sum, each.num_cells) for each in found if each.scene_sum is not None]
    if not sums:
        return []
    mean = np.sum([total for total, _ in sums], axis=0) / sum(number for _, number in sums)
    return [SceneScore(label=label, score=float(p)) for label, p in zip(scene_labels, mean, strict=True)]


@dataclass(frozen=True, slots=True)
class _Candidate:
    start: int
    end: int  # whole microseconds, as fusion compares them
    member: int
    found: Found


class LiveFusion:
    """Fuses what members find, chain by chain: a chain is candidates of one label that overlap one another.

    Chains do not touch each other in any method of fusion, so the fused segments are those of
    `fusion.fuse_segments` on all candidates at once. A chain leaves as soon as no member can add to it: it
    waits while a member has a segment of its label open that began before its end. What waits grows with the
    number of segments, not with the length of the stream.

    Args:
        members: weights, temperatures and scene labels are theirs.
        options: of the fusion.
    """

    def __init__(self, members: Sequence[Member], options: FusionOptions) -> None:
        self._members = tuple(members)
        self._weights = [member.weight for member in members]
        self._options = options
        self._waiting: dict[str, list[_Candidate]] = {}

    def add(self, member: int, found: Iterable[Found]) -> None:
        """Take segments of a member that have ended."""
        for each in found:
            self._waiting.setdefault(each.segment.label, []).append(self._candidate(member, each))

    def leaving(
        self, mergers: Sequence[MemberMerger], *, everything: bool = False, final: bool = False
    ) -> list[Scened]:
        """Take out the chains that are complete and return what becomes of them, in order of time.

        Args:
            mergers: of the members.
            everything: all that comes later begins after what there is.
            final: nothing comes later. A member without any interval then has no voice, as in a file.
        """
        everything = everything or final
        voices = [not final or merger.num_intervals > 0 for merger in mergers]
        leaving: list[Scened] = []
        for label, waiting in [*self._waiting.items()]:
            frontier = min(_microseconds(merger.earliest_start(label)) for merger in mergers)
            stays: list[_Candidate] = []
            for chain in _chains(waiting):
                if everything or max(candidate.end for candidate in chain) <= frontier:
                    leaving += self._fused(chain, voices)
                else:
                    stays += chain
            if stays:
                self._waiting[label] = stays
            else:
                del self._waiting[label]
        return _in_order(leaving)

    def preview(self, mergers: Sequence[MemberMerger]) -> list[Scened]:
        """Return what becomes of the chains that hold an open segment, if all ended now."""
        ongoing = [self._candidate(n, found) for n, merger in enumerate(mergers) for found in merger.open]
        voices = [True] * len(self._members)
        seen: list[Scened] = []
        for label in dict.fromkeys(candidate.found.segment.label for candidate in ongoing):
            now = [candidate for candidate in ongoing if candidate.found.segment.label == label]
            for chain in _chains([*self._waiting.get(label, ()), *now]):
                if any(candidate in now for candidate in chain):
                    seen += self._fused(chain, voices)
        return _in_order(seen)

    def _fused(self, chain: Sequence[_Candidate], voices: Sequence[bool]) -> Iterator[Scened]:
        by_member: dict[int, list[Found]] = {}
        for candidate in chain:
            by_member.setdefault(candidate.member, []).append(candidate.found)
        fused = fuse_segments(
            [
                [found.segment for found in by_member.get(number, ())] if voice else None
                for number, voice in enumerate(voices)
            ],
            self._weights,
            self._options,
        )
        scenes = self._scenes(by_member)
        yield from (Scened(segment, scenes) for segment in fused)

    def _scenes(self, by_member: Mapping[int, Sequence[Found]]) -> tuple[SceneScore, ...]:
        means = [
            _mean_scenes(by_member.get(number, ()), member.scene_labels)
            for number, member in enumerate(self._members)
        ]
        return fuse_scenes(means, self._weights)

    def _candidate(self, member: int, found: Found) -> _Candidate:
        segment, temperature = found.segment, self._members[member].temperature
        if temperature != 1:
            # First as a file would hold it, as the pipeline does for files.
            held = replace(segment, score=round(segment.score, 6))
            found = replace(found, segment=calibrate_segments({"": [held]}, temperature)[""][0])
        return _Candidate(
            _microseconds(segment.start_seconds), _microseconds(segment.end_seconds), member, found
        )


def _chains(candidates: Iterable[_Candidate]) -> Iterator[list[_Candidate]]:
    chain: list[_Candidate] = []
    reached = 0
    for candidate in sorted(candidates, key=lambda c: (c.start, c.end, c.member)):
        if chain and candidate.start >= reached:
            yield chain
            chain = []
        reached = max(reached, candidate.end) if chain else candidate.end
        chain.append(candidate)
    if chain:
        yield chain


def _in_order(found: Iterable[Scened]) -> list[Scened]:
    return sorted(found, key=lambda f: (f.segment.start_seconds, f.segment.end_seconds, f.segment.label))


def _microseconds(seconds: float) -> int:
    return round(round(seconds, 6) * MICROSECONDS)
