"""Fusion in a live run: a candidate waits until no open segment can overlap it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tsm_runtime.backends.base import Scores
from tsm_runtime.fusion.calibration import calibrate_segments
from tsm_runtime.fusion.candidates import MICROSECONDS
from tsm_runtime.fusion.fuse import fuse_scenes, fuse_segments
from tsm_runtime.fusion.options import FusionOptions
from tsm_runtime.live.frame_merging import FrameMerger, merges_frames
from tsm_runtime.models.member import Member
from tsm_runtime.results import SceneScore, Segment
from tsm_runtime.segments.merging import IntervalMerger, MergedSegment

_Merger = IntervalMerger | FrameMerger


@dataclass(frozen=True, slots=True)
class SegmentWithScenes:
    """A segment with the scene scores of its cells, best first; empty without a scene head."""

    segment: Segment
    scenes: tuple[SceneScore, ...]


def with_scenes(merged: MergedSegment, scene_labels: Sequence[str]) -> SegmentWithScenes:
    """Return a segment with the mean of the scene scores of its cells."""
    return SegmentWithScenes(merged.segment, fuse_scenes([_mean_scenes([merged], scene_labels)]))


def _mean_scenes(found: Iterable[MergedSegment], scene_labels: Sequence[str]) -> list[SceneScore]:
    """Return the mean scene scores over the cells of some segments."""
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
    found: MergedSegment


class LiveFusion:
    """Fuses candidates of several members chain by chain; a chain is overlapping candidates of one label.

    No method of fusion relates candidates of different chains, so the fused segments equal those of
    `fuse_segments` on all candidates at once. A chain is complete when no member can add to it: it waits
    while a member has an open segment of its label that began before its end. Memory grows with the number
    of waiting segments, not with the length of the stream.

    Args:
        members: models with weights, temperatures and scene labels.
        options: of the fusion.
    """

    def __init__(self, members: Sequence[Member], options: FusionOptions) -> None:
        self._members = tuple(members)
        self._weights = [member.weight for member in members]
        self._options = options
        self._waiting: dict[str, list[_Candidate]] = {}

    def add(self, member: int, found: Iterable[MergedSegment]) -> None:
        """Add segments of a member that have ended."""
        for each in found:
            self._waiting.setdefault(each.segment.label, []).append(self._candidate(member, each))

    def leaving(
        self, mergers: Sequence[_Merger], *, everything: bool = False, final: bool = False
    ) -> list[SegmentWithScenes]:
        """Remove the complete chains and return their fused segments, in order of time.

        Args:
            mergers: of the members.
            everything: treat all chains as complete: later segments begin after them.
            final: the stream has ended. A member without any interval is left out, as for a file.
        """
        everything = everything or final
        taking_part = [not final or merger.num_intervals > 0 for merger in mergers]
        leaving: list[SegmentWithScenes] = []
        for label, waiting in [*self._waiting.items()]:
            frontier = min(_microseconds(merger.earliest_start(label)) for merger in mergers)
            stays: list[_Candidate] = []
            for chain in _chains(waiting):
                if everything or max(candidate.end for candidate in chain) <= frontier:
                    leaving += self._fused(chain, taking_part)
                else:
                    stays += chain
            if stays:
                self._waiting[label] = stays
            else:
                del self._waiting[label]
        return _in_order(leaving)

    def preview(self, mergers: Sequence[_Merger]) -> list[SegmentWithScenes]:
        """Return the fused segments of chains with an open segment, as if all ended now."""
        ongoing = [self._candidate(n, found) for n, merger in enumerate(mergers) for found in merger.open]
        taking_part = [True] * len(self._members)
        seen: list[SegmentWithScenes] = []
        for label in dict.fromkeys(candidate.found.segment.label for candidate in ongoing):
            now = [candidate for candidate in ongoing if candidate.found.segment.label == label]
            for chain in _chains([*self._waiting.get(label, ()), *now]):
                if any(candidate in now for candidate in chain):
                    seen += self._fused(chain, taking_part)
        return _in_order(seen)

    def _fused(self, chain: Sequence[_Candidate], taking_part: Sequence[bool]) -> Iterator[SegmentWithScenes]:
        by_member: dict[int, list[MergedSegment]] = {}
        for candidate in chain:
            by_member.setdefault(candidate.member, []).append(candidate.found)
        fused = fuse_segments(
            [
                [found.segment for found in by_member.get(number, ())] if takes_part else None
                for number, takes_part in enumerate(taking_part)
            ],
            self._weights,
            self._options,
        )
        scenes = self._scenes(by_member)
        yield from (SegmentWithScenes(segment, scenes) for segment in fused)

    def _scenes(self, by_member: Mapping[int, Sequence[MergedSegment]]) -> tuple[SceneScore, ...]:
        means = [
            _mean_scenes(by_member.get(number, ()), member.scene_labels)
            for number, member in enumerate(self._members)
        ]
        return fuse_scenes(means, self._weights)

    def _candidate(self, member: int, found: MergedSegment) -> _Candidate:
        segment, temperature = found.segment, self._members[member].temperature
        if temperature != 1:
            # Rounded first, as the pipeline does for files.
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


def _in_order(found: Iterable[SegmentWithScenes]) -> list[SegmentWithScenes]:
    return sorted(found, key=lambda f: (f.segment.start_seconds, f.segment.end_seconds, f.segment.label))


def _microseconds(seconds: float) -> int:
    return round(round(seconds, 6) * MICROSECONDS)


class Tracks:
    """Merges the intervals of each member, and fuses the segments of several members.

    Args:
        members: one or more.
        fusion: of several.
        min_score: segments of a member below it are dropped.
        lookahead_seconds: of members whose segments are made of the scores of frames.
    """

    def __init__(
        self,
        members: Sequence[Member],
        fusion: FusionOptions,
        min_score: float,
        lookahead_seconds: float = 0.0,
    ) -> None:
        self._members = tuple(members)
        self._min_score = min_score
        self._mergers: list[_Merger] = [
            FrameMerger(member, lookahead_seconds)
            if merges_frames(member)
            else IntervalMerger(member.action_labels, member.spec, member.rules)
            for member in members
        ]
        self._fusion = LiveFusion(members, fusion) if len(self._members) > 1 else None
        self._leaving: list[SegmentWithScenes] = []

    @property
    def num_intervals(self) -> int:
        """Number of scored intervals, the highest of all members."""
        return max(merger.num_intervals for merger in self._mergers)

    def push(self, member: int, index: int, scores: Scores, *, after_gap: bool) -> None:
        """Take the scores of a member's next interval, a batch of one; see `IntervalMerger.push`."""
        merger = self._mergers[member]
        if isinstance(merger, FrameMerger):
            self._closed(member, merger.push(index, scores, after_gap=after_gap))
        else:
            scene = None if scores.scene is None else scores.scene[0]
            self._closed(member, merger.push(index, scores.action[0], scene, after_gap=after_gap))

    def skip_to(self, member: int, index: int) -> None:
        """Note that no interval of a member before `index` follows."""
        self._closed(member, self._mergers[member].skip_to(index))

    def leaving(self) -> list[SegmentWithScenes]:
        """Remove and return the segments that are over, in order of time."""
        if self._fusion is not None:
            return self._fusion.leaving(self._mergers)
        leaving, self._leaving = self._leaving, []
        return leaving

    def close(self, *, final: bool) -> list[SegmentWithScenes]:
        """End all open segments, at the end of the stream or a break; remove and return them."""
        for member, merger in enumerate(self._mergers):
            self._closed(member, merger.close())
        if self._fusion is not None:
            return self._fusion.leaving(self._mergers, everything=True, final=final)
        return self.leaving()

    def open(self) -> list[SegmentWithScenes]:
        """Return the segments that are not over, up to the last cell."""
        if self._fusion is not None:
            return self._fusion.preview(self._mergers)
        return [
            with_scenes(found, self._members[0].scene_labels) for found in self._strong(self._mergers[0].open)
        ]

    def _closed(self, member: int, found: Iterable[MergedSegment]) -> None:
        strong = self._strong(found)
        if self._fusion is not None:
            self._fusion.add(member, strong)
        else:
            self._leaving += [with_scenes(each, self._members[member].scene_labels) for each in strong]

    def _strong(self, found: Iterable[MergedSegment]) -> list[MergedSegment]:
        return [each for each in found if each.segment.score >= self._min_score]
