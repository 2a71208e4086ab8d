"""The ensemble of a live stream: candidates wait until nothing that is still open can overlap them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tsm_runtime.formats.read_write import SceneScore
from tsm_runtime.fusion.calibration import calibrate_segments
from tsm_runtime.fusion.candidates import MICROSECONDS
from tsm_runtime.fusion.fuse import FusionOptions, fuse_scenes, fuse_segments
from tsm_runtime.pipeline.run import Member
from tsm_runtime.results import Segment
from tsm_runtime.segments.merging import Found, MemberMerger

__all__ = ["LiveFusion", "Scened", "Tracks", "scened"]


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
