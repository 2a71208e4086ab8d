"""Merging and fusing while intervals come: the same as merging and fusing all of them at once."""

from __future__ import annotations

import operator
from dataclasses import replace

import numpy as np
import pytest
from fakes import ACTIONS, FREE, brightness_member, member_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tsm_runtime.backends.base import Scores
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.fusion.calibration import calibrate_segments
from tsm_runtime.fusion.fuse import fuse_segments
from tsm_runtime.fusion.options import FusionOptions
from tsm_runtime.live.ensemble import Tracks
from tsm_runtime.models.member import Member
from tsm_runtime.results import IntervalScores, Segment
from tsm_runtime.segments.find import find_segments, merge_intervals
from tsm_runtime.segments.merging import IntervalMerger
from tsm_runtime.segments.rules import SegmentRules

DARK, BRIGHT, NOTHING = (
    np.array(row, np.float32) for row in ((0.7, 0.2, 0.1), (0.1, 0.6, 0.3), (0.1, 0.1, 0.8))
)

HALF = ClipSpec(interval_seconds=0.5)

steps = st.tuples(
    st.sampled_from([1, 1, 1, 1, 2, 5]),  # to the next index
    st.booleans(),  # a gap before it
    st.integers(0, 2),  # its label
    st.floats(0.375, 0.875, width=32),  # and score
)


def interval_scores(given_steps: list[tuple[int, bool, int, float]]) -> IntervalScores:
    indices = np.cumsum([step for step, *_ in given_steps]) - 1
    action = np.full((len(given_steps), 3), 0.05, np.float32)
    for row, (_, _, label, score) in enumerate(given_steps):
        action[row, label] = score
    broken = {int(index) for index, (_, gap, *_) in zip(indices, given_steps, strict=True) if gap}
    return IntervalScores(indices=indices.astype(np.int64), action=action, breaks=frozenset(broken))


@settings(max_examples=200)
@given(st.lists(steps, min_size=1, max_size=30), st.sampled_from([0.5, 0.3]), st.booleans())
def test_segments_are_those_of_all_intervals_at_once(
    given_steps: list[tuple[int, bool, int, float]], t: float, with_skips: bool
) -> None:
    scores = interval_scores(given_steps)
    merger, found = IntervalMerger(ACTIONS, ClipSpec(interval_seconds=t)), []
    for index, row in zip(scores.indices.tolist(), scores.action, strict=True):
        if with_skips:
            found += merger.skip_to(index)
        found += merger.push(index, row, after_gap=index in scores.breaks)
    found += merger.close()
    assert [each.segment for each in found] == merge_intervals(scores, ACTIONS, t)
    assert merger.num_intervals == len(given_steps)


@settings(max_examples=200)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from([1, 1, 1, 1, 2, 5]),
            st.booleans(),
            st.tuples(*[st.sampled_from([0.25, 0.5, 0.625, 0.75])] * 3),
        ),
        min_size=1,
        max_size=30,
    ),
    thresholds=st.sampled_from([(0.5, 0.7, 0.25), (0.75, 0.75, 0.75), (0.3, 0.3, 1.0)]),
    least=st.sampled_from([0.0, 1.0, 1.3]),
    parts=st.integers(1, 4),
    smoothing=st.sampled_from([0.0, 0.0, 0.6, 1.5, 4.0]),
)
def test_every_setting_counts_as_in_files(
    rows: list[tuple[int, bool, tuple[float, ...]]],
    thresholds: tuple[float, ...],
    least: float,
    parts: int,
    smoothing: float,
) -> None:
    """A sigmoid head, a shortest duration, intervals that overlap, smoothing."""
    indices = np.cumsum([step for step, *_ in rows]) - 1
    broken = {int(index) for index, (_, gap, _) in zip(indices, rows, strict=True) if gap}
    scores = IntervalScores(
        indices=indices.astype(np.int64),
        action=np.array([row for *_, row in rows], np.float32),
        breaks=frozenset(broken),
    )
    rules = SegmentRules(thresholds=thresholds, min_duration_seconds=least, smoothing_seconds=smoothing)
    spec = replace(HALF, stride_seconds=0.5 / parts)
    merger, found = IntervalMerger(FREE, spec, rules), []
    for index, row in zip(indices.tolist(), scores.action, strict=True):
        earliest = {label: merger.earliest_start(label) for label in FREE}
        ended = merger.push(index, row, after_gap=index in broken)
        assert all(each.segment.start_seconds >= earliest[each.segment.label] for each in ended)
        found += ended
        assert all(rules.keeps(each.segment) for each in merger.open)
    found += merger.close()
    ends = [each.segment.end_seconds for each in found]
    assert ends == sorted(ends)
    expected, _ = find_segments(scores, FREE, spec, rules)
    key = operator.attrgetter("start_seconds", "end_seconds", "label")
    assert sorted((each.segment for each in found), key=key) == sorted(expected, key=key)


def test_what_is_open_and_what_can_still_begin() -> None:
    merger = IntervalMerger(ACTIONS, HALF)
    assert (merger.open, merger.earliest_start("dark")) == ([], 0.0)
    merger.push(2, DARK)
    merger.push(3, DARK + np.float32(0.1))
    (found,) = merger.open
    assert found.segment == Segment(
        label="dark", start_seconds=1.0, end_seconds=2.0, score=float(np.float32(0.7) + np.float32(0.1))
    )
    assert (merger.earliest_start("dark"), merger.earliest_start("bright")) == (1.0, 2.0)
    assert merger.skip_to(4) == []  # nothing is left out: the next one is 4
    assert merger.skip_to(5) == [found]
    assert (merger.open, merger.earliest_start("dark")) == ([], 2.5)
    assert merger.skip_to(3) == []
    assert merger.next_index == 5


def test_scenes_are_summed_over_the_segments_intervals() -> None:
    merger = IntervalMerger(ACTIONS, HALF)
    scenes = np.array([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]], np.float32)
    assert merger.push(0, NOTHING, scenes[2]) == []
    merger.push(1, DARK, scenes[0])
    merger.push(2, DARK, scenes[1])
    (found,) = merger.push(3, BRIGHT, scenes[2])
    assert found.num_cells == 2
    assert found.scene_sum is not None
    assert found.scene_sum.tolist() == [0.75, 1.25]


def test_wrong_intervals_are_refused() -> None:
    merger = IntervalMerger(ACTIONS, HALF)
    with pytest.raises(ValueError, match=r"\(2,\) action scores for 3 labels"):
        merger.push(0, DARK[:2])
    merger.push(4, DARK)
    with pytest.raises(ValueError, match="interval 4 after interval 4"):
        merger.push(4, DARK)


# --- ensembles ------------------------------------------------------------------------------------

FUSIONS = [
    FusionOptions(),
    FusionOptions(iou=0.0, denominator="present"),
    FusionOptions(iou=0.2, min_score=0.3),
    FusionOptions(method="wbf", iou=0.3),
    FusionOptions(method="nms", iou=0.1),
    FusionOptions(method="soft-nms-gaussian"),
]


def offline(
    members: list[Member], all_scores: list[IntervalScores], fusion: FusionOptions, min_score: float
) -> list[Segment]:
    """What `pipeline.run` does with the members' segments."""
    found: list[list[Segment] | None] = []
    for member, scores in zip(members, all_scores, strict=True):
        segments, _ = find_segments(scores, ACTIONS, member.spec, member.rules)
        segments = [s for s in segments if s.score >= min_score]
        if member.temperature != 1:
            segments = [replace(s, score=round(s.score, 6)) for s in segments]
            segments = calibrate_segments({"v": segments}, member.temperature)["v"]
        found.append(segments if len(scores.indices) else None)
    return fuse_segments(found, [member.weight for member in members], fusion)


@settings(max_examples=150)
@given(
    plans=st.lists(
        st.tuples(
            st.lists(steps, max_size=25),
            st.sampled_from([0.5, 0.3, 1.0, 0.25]),
            st.sampled_from([1.0, 2.5]),
            st.sampled_from([(1, 0.0), (1, 0.0), (3, 0.0), (1, 1.5), (2, 0.7)]),
        ),
        min_size=2,
        max_size=3,
    ),
    fusion=st.sampled_from(FUSIONS),
    min_score=st.sampled_from([0.0, 0.6]),
    order=st.randoms(use_true_random=False),
)
def test_an_ensemble_gives_what_fusion_of_whole_results_gives(
    plans: list[tuple[list[tuple[int, bool, int, float]], float, float, tuple[int, float]]],
    fusion: FusionOptions,
    min_score: float,
    order: object,
) -> None:
    """Members take turns in any order, as backlogs of different grids do."""
    members = [
        replace(
            member_of(ClipSpec(interval_seconds=t, stride_seconds=t / parts), smoothing_seconds=smoothing),
            weight=1.0 + number,
            temperature=temperature,
        )
        for number, (_, t, temperature, (parts, smoothing)) in enumerate(plans)
    ]
    all_scores = [interval_scores(given_steps) for given_steps, *_ in plans]
    tracks, left = Tracks(members, fusion, min_score), []
    turns = [number for number, scores in enumerate(all_scores) for _ in scores.indices]
    order.shuffle(turns)  # type: ignore[attr-defined]
    places = [0] * len(members)
    for number in turns:
        scores, place = all_scores[number], places[number]
        index = int(scores.indices[place])
        rows = Scores(scores.action[place : place + 1], None)
        tracks.push(number, index, rows, after_gap=index in scores.breaks)
        places[number] += 1
        left += tracks.leaving()
    left += tracks.close(final=True)
    found = sorted(
        (s.segment for s in left), key=lambda s: (s.start_seconds, s.end_seconds, s.label, -s.score)
    )
    if tracks.num_intervals:
        assert found == offline(members, all_scores, fusion, min_score)
    else:
        assert found == []


def test_a_fused_segment_waits_for_what_is_open_and_no_longer() -> None:
    members = [brightness_member(0.5), replace(brightness_member(1.0), weight=3.0)]
    tracks = Tracks(members, FusionOptions(), 0.0)
    scene = np.array([[0.0, 1.0]], np.float32)
    tracks.push(0, 0, Scores(DARK[None], scene), after_gap=False)
    tracks.push(0, 1, Scores(NOTHING[None], scene), after_gap=False)
    assert tracks.leaving() == []  # the other member may yet find one that overlaps it
    assert tracks.open() == []
    tracks.push(1, 0, Scores(BRIGHT[None], scene), after_gap=False)
    (dark,) = tracks.leaving()
    assert (dark.segment.label, dark.segment.end_seconds) == ("dark", 0.5)
    assert dark.segment.score == pytest.approx(0.7 / 4)
    assert [(s.label, s.score) for s in dark.scenes] == [("day", 1.0), ("night", 0.0)]
    (now,) = tracks.open()
    assert (now.segment.label, now.segment.start_seconds, now.segment.end_seconds) == ("bright", 0.0, 1.0)
    tracks.push(0, 2, Scores(BRIGHT[None], scene), after_gap=False)
    tracks.push(1, 1, Scores(NOTHING[None], scene), after_gap=False)
    (bright,) = tracks.leaving()  # 0 to 1 s: what the first member has open begins there
    assert bright.segment.score == pytest.approx(0.6 * 3 / 4)
    assert tracks.leaving() == []
