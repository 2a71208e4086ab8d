"""Fusion: numbers worked by hand, slow references written from the sources' text, and order independence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from fakes import result_of, seg
from hypothesis import example, given
from hypothesis import strategies as st

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.protocol import tiou
from tsm_runtime.fusion.fuse import fuse_results, fuse_scenes, fuse_segments, union_gaps
from tsm_runtime.fusion.options import FusionOptions, Method
from tsm_runtime.results import SceneScore, Segment

METHODS: list[Method] = ["paper", "wbf", "nms", "soft-nms-linear", "soft-nms-gaussian"]
Row = tuple[str, float, float, float]


def rows(segments: Sequence[Segment]) -> list[Row]:
    return [(s.label, s.start_seconds, s.end_seconds, round(s.score, 6)) for s in segments]


def fused(
    members: Sequence[Sequence[Row] | None], weights: Sequence[float] | None = None, **options: Any
) -> list[Row]:
    segments = [None if member is None else [seg(*row) for row in member] for member in members]
    return rows(fuse_segments(segments, weights, FusionOptions(**options)))


# --- the paper's ensemble, by hand ----------------------------------------------------------------


def test_equal_keys_get_the_weighted_mean() -> None:
    # (0.6 * 0.9 + 0.4 * 0.5) / (0.6 + 0.4)
    assert fused([[("a", 0, 1, 0.9)], [("a", 0, 1, 0.5)]], (0.6, 0.4)) == [("a", 0, 1, 0.74)]
    # (3 * 0.9 + 1 * 0.5) / 4: weights need not sum to 1
    assert fused([[("a", 0, 1, 0.9)], [("a", 0, 1, 0.5)]], (3, 1)) == [("a", 0, 1, 0.8)]
    assert fused([[("a", 0, 1, 0.9)], [("a", 0, 1, 0.5)]]) == [("a", 0, 1, 0.7)]


def test_a_segment_that_a_member_misses_loses_confidence_unless_only_finders_count() -> None:
    members: list[list[Row]] = [[("a", 0, 1, 0.9)], []]
    assert fused(members, (0.6, 0.4)) == [("a", 0, 1, 0.54)]
    assert fused(members, (0.6, 0.4), denominator="present") == [("a", 0, 1, 0.9)]


@pytest.mark.parametrize("denominator", ["all", "present"])
def test_a_member_that_has_not_seen_the_video_is_left_out(denominator: str) -> None:
    members = [[("a", 0, 1, 0.9)], None, [("a", 0, 1, 0.6)]]
    assert fused(members, (0.5, 7.0, 0.25), denominator=denominator) == [("a", 0, 1, 0.8)]


def test_keys_are_rounded_to_microseconds() -> None:
    same = [[("a", 0.1 + 0.2, 1, 0.4)], [("a", 0.3, 1.0000004, 0.8)]]
    assert fused(same, iou=1) == [("a", 0.3, 1, 0.6)]
    other = [[("a", 0.3, 1, 0.4)], [("a", 0.300001, 1, 0.8)]]
    assert fused(other, iou=1) == [("a", 0.3, 1, 0.2), ("a", 0.300001, 1, 0.4)]
    assert fused([[("a", 0.5, 0.5000004, 0.4)]]) == []


def test_a_duplicate_in_one_member_counts_once_with_its_highest_score() -> None:
    members = [[("a", 0, 1, 0.2), ("a", 0, 1, 0.8), ("a", 0, 1, 0.5)], [("a", 0, 1, 0.6)]]
    assert fused(members) == [("a", 0, 1, 0.7)]
    assert fused(members, denominator="present") == [("a", 0, 1, 0.7)]
    assert fused(members, method="wbf") == [("a", 0, 1, 0.7)]


def test_overlapping_segments_of_one_class_become_their_union_with_the_maximum() -> None:
    # tIoU of [0, 4] and [1, 5]: 3 / 5
    members = [[("a", 0, 4, 0.9)], [("a", 1, 5, 0.8)]]
    assert fused(members) == [("a", 0, 5, 0.45)]
    assert fused(members, (1, 3)) == [("a", 0, 5, 0.6)]  # max(0.9 * 1/4, 0.8 * 3/4)
    assert fused(members, iou=0.61) == [("a", 0, 4, 0.45), ("a", 1, 5, 0.4)]


def test_classes_do_not_merge() -> None:
    members: list[list[Row]] = [[("a", 0, 4, 0.9)], [("b", 0, 4, 0.8)]]
    assert fused(members) == [("a", 0, 4, 0.45), ("b", 0, 4, 0.4)]


@pytest.mark.parametrize(
    ("first", "second", "iou"),
    [
        ((0, 2), (0, 1), 0.5),
        ((0.1, 0.7), (0.1, 0.4), 0.5),  # in floats 0.30000000000000004 / 0.6
        ((0.2, 1.2), (0.5, 1.2), 0.7),
        ((0, 3), (0, 1), 1 / 3),
        ((0, 1), (1, 2), 0.0),
    ],
)
def test_a_tiou_equal_to_the_threshold_does_not_merge(
    first: tuple[float, float], second: tuple[float, float], iou: float
) -> None:
    members: list[list[Row]] = [[("a", *first, 0.9)], [("a", *second, 0.8)]]
    assert len(fused(members, iou=iou)) == 2
    if iou:
        assert len(fused(members, iou=iou - 1e-6)) == 1


def test_merging_goes_on_until_no_pair_is_left() -> None:
    # [0, 10] and [3, 12] join (7/12); [9, 21] then has 3/21 with [0, 12], so it stays.
    chain = [("a", 0, 10, 0.5), ("a", 3, 12, 0.4), ("a", 9, 21, 0.3)]
    assert fused([chain]) == [("a", 0, 12, 0.5), ("a", 9, 21, 0.3)]
    # No pair exceeds 0.41: 4/10, 4/10 and 2/6.
    assert fused([[("a", 0, 10, 0.5), ("a", 1, 5, 0.4), ("a", 3, 7, 0.3)]], iou=0.41) == [
        ("a", 0, 10, 0.5),
        ("a", 1, 5, 0.4),
        ("a", 3, 7, 0.3),
    ]
    # [0, 10] | [1, 5.9] 0.49 | [2, 6.8] 0.48; the latter two have 3.9/5.8 = 0.67 and join to [1, 6.8] 0.58.
    assert fused([[("a", 0, 10, 0.1), ("a", 1, 5.9, 0.9), ("a", 2, 6.8, 0.3)]]) == [("a", 0, 10, 0.9)]


def test_iou_1_merges_nothing_and_0_merges_all_that_overlaps() -> None:
    members: list[list[Row]] = [[("a", 0, 10, 0.5), ("a", 9, 19, 0.4), ("a", 19, 20, 0.3)]]
    assert len(fused(members, iou=1)) == 3
    assert fused(members, iou=0) == [("a", 0, 19, 0.5), ("a", 19, 20, 0.3)]


def test_a_minimum_score_drops_candidates_before_they_widen_others() -> None:
    members: list[list[Row]] = [[("a", 0, 4, 0.9), ("a", 1, 5, 0.1)]]
    assert fused(members) == [("a", 0, 5, 0.9)]
    assert fused(members, min_score=0.2) == [("a", 0, 4, 0.9)]
    agreed: list[list[Row]] = [[("a", 0, 1, 0.3)]] * 3
    assert fused(agreed, (0.1, 0.7, 0.3), min_score=0.3) == [("a", 0, 1, 0.3)]  # whatever floats make of it


def test_nothing_found() -> None:
    assert fused([[], []]) == []
    assert fused([None, []]) == []
    assert fused([None, None]) == []


# --- alternatives, by hand --------------------------------------------------------------------------


def test_nms_keeps_the_best_and_drops_what_overlaps_it() -> None:
    # [1, 5] is the best; it drops [0, 4] (3/5), not [4, 8] (1/7), nor [1, 3] (2/4, equal).
    members: list[list[Row]] = [
        [("a", 0, 4, 0.8), ("a", 1, 5, 0.9), ("a", 4, 8, 0.7), ("a", 1, 3, 0.1), ("b", 0, 4, 0.2)]
    ]
    assert fused(members, method="nms") == [
        ("b", 0, 4, 0.2),
        ("a", 1, 3, 0.1),
        ("a", 1, 5, 0.9),
        ("a", 4, 8, 0.7),
    ]


def test_a_dropped_segment_drops_nothing() -> None:
    # [0, 4] > [1, 5] > [2, 6], neighbours have 3/5, the outer two 2/6.
    members: list[list[Row]] = [[("a", 0, 4, 0.9), ("a", 1, 5, 0.8), ("a", 2, 6, 0.7)]]
    assert fused(members, method="nms") == [("a", 0, 4, 0.9), ("a", 2, 6, 0.7)]


def test_soft_nms_takes_confidence_instead() -> None:
    members: list[list[Row]] = [[("a", 0, 4, 0.9), ("a", 1, 5, 0.8), ("a", 2, 6, 0.7)]]
    # After [0, 4]: [1, 5] 0.8 * (1 - 0.6) = 0.32; [2, 6] untouched (1/3) and next; then [1, 5] 0.32 * 0.4.
    assert fused(members, method="soft-nms-linear") == [
        ("a", 0, 4, 0.9),
        ("a", 1, 5, 0.128),
        ("a", 2, 6, 0.7),
    ]
    # [2, 6]: 0.7 exp(-(1/9)/0.5) = 0.560514; [1, 5]: 0.8 exp(-0.36/0.5) twice = 0.189542
    assert fused(members, method="soft-nms-gaussian", sigma=0.5) == [
        ("a", 0, 4, 0.9),
        ("a", 1, 5, round(0.8 * math.exp(-1.44), 6)),
        ("a", 2, 6, round(0.7 * math.exp(-2 / 9), 6)),
    ]
    assert fused(members, method="soft-nms-linear", min_score=0.3) == [("a", 0, 4, 0.9), ("a", 2, 6, 0.7)]


def test_weighted_boxes() -> None:
    members: list[list[Row]] = [[("a", 0, 4, 0.9)], [("a", 1, 5, 0.6)], [("a", 9, 10, 0.3)]]
    # weights 1, 1, 2: the two share a cluster: start (0.9 * 0 + 0.6 * 1) / 1.5 = 0.4, end 4.4;
    # confidence (0.9 + 0.6) / 2 * min(2, 3) / 4 = 0.375. Alone: 0.6 / 1 * 1 / 4 = 0.15.
    assert fused(members, (1, 1, 2), method="wbf") == [("a", 0.4, 4.4, 0.375), ("a", 9, 10, 0.15)]
    # denominator present: (0.9 + 0.6) / (1 + 1), and 0.6 / 2
    assert fused(members, (1, 1, 2), method="wbf", denominator="present") == [
        ("a", 0.4, 4.4, 0.75),
        ("a", 9, 10, 0.3),
    ]


def test_a_cluster_of_more_segments_than_members_gets_their_mean() -> None:
    # T = 3 segments of N = 2 members: mean(0.9, 0.6, 0.6) * 2 / 2 = 0.7; start 0.6 / 2.1, end 8.9 / 2.1
    members: list[list[Row]] = [[("a", 0, 4, 0.9), ("a", 0, 4.5, 0.6)], [("a", 0.5, 4.5, 0.6)]]
    ((_, start, end, score),) = fused(members, method="wbf")
    assert (start, end) == (pytest.approx(0.3 / 2.1, abs=1e-6), pytest.approx(9 / 2.1, abs=1e-6))
    assert score == pytest.approx(0.7)


def test_scores_of_zero_are_no_division_by_zero() -> None:
    for method in METHODS:
        found = fused([[("a", 0, 4, 0.0)], [("a", 1, 5, 0.0)]], method=method)
        assert {row[3] for row in found} == {0.0}


# --- slow references --------------------------------------------------------------------------------

grid = st.integers(0, 24)


@st.composite
def segment_rows(draw: st.DrawFn) -> Row:
    start, length = draw(grid), draw(st.integers(1, 12))
    score = draw(st.integers(0, 20)) / 20
    return draw(st.sampled_from("ab")), start / 4, (start + length) / 4, score


member = st.one_of(st.none(), st.lists(segment_rows(), max_size=7))
members_and_weights = st.lists(
    st.tuples(member, st.sampled_from([0.25, 0.4, 1.0, 3.0])), min_size=1, max_size=4
)
ious = st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 0.6, 0.75, 0.9, 1.0])


def exact_iou(first: tuple[float, float], second: tuple[float, float]) -> Fraction:
    (a, b), (c, d) = (tuple(map(Fraction, span)) for span in (first, second))
    overlap = max(Fraction(0), min(b, d) - max(a, c))
    return overlap / ((b - a) + (d - c) - overlap)


def exceeds(first: tuple[float, float], second: tuple[float, float], iou: float) -> bool:
    return exact_iou(first, second) > Fraction(iou).limit_denominator(1000)


def slow_candidates(
    members: Sequence[Sequence[Row] | None], weights: Sequence[float], denominator: str
) -> dict[str, dict[tuple[float, float], float]]:
    found: dict[str, dict[tuple[float, float], float]] = {}
    seen = [(m, w) for m, w in zip(members, weights, strict=True) if m is not None]
    keys = {(label, start, end) for m, _ in seen for label, start, end, _ in m}
    for key in keys:
        votes = [(max((r[3] for r in m if r[:3] == key), default=None), w) for m, w in seen]
        below = sum(w for c, w in votes if denominator == "all" or c is not None)
        found.setdefault(key[0], {})[key[1:]] = sum(c * w for c, w in votes if c is not None) / below
    return found


def slow_paper(candidates: dict[tuple[float, float], float], iou: float) -> dict[tuple[float, float], float]:
    """Passes over a sorted list, each in full, without any of the short cuts."""
    spans = candidates
    while True:
        kept: list[list[float]] = []
        for (start, end), score in sorted(spans.items()):
            for group in kept:
                if exceeds((group[0], group[1]), (start, end), iou):
                    group[:] = [min(group[0], start), max(group[1], end), max(group[2], score)]
                    break
            else:
                kept.append([start, end, score])
        merged: dict[tuple[float, float], float] = {}
        for start, end, score in kept:
            merged[start, end] = max(score, merged.get((start, end), 0.0))
        if len(merged) == len(spans):
            return merged
        spans = merged


def slow_nms(candidates: dict[tuple[float, float], float], iou: float) -> dict[tuple[float, float], float]:
    kept: dict[tuple[float, float], float] = {}
    for span, score in sorted(candidates.items(), key=lambda item: (-round(item[1], 9), item[0])):
        if not any(exceeds(span, other, iou) for other in kept):
            kept[span] = score
    return kept


def slow_soft(
    candidates: dict[tuple[float, float], float], iou: float, method: str
) -> dict[tuple[float, float], float]:
    left = {span: round(score, 9) for span, score in candidates.items()}
    done: dict[tuple[float, float], float] = {}
    while left:
        best = min(left, key=lambda span: (-left[span], span))
        done[best] = left.pop(best)
        for span in left:
            overlap = float(exact_iou(best, span))
            if method == "soft-nms-gaussian":
                left[span] *= math.exp(-(overlap**2) / 0.5)
            elif exceeds(best, span, iou):
                left[span] *= 1 - overlap
    return done


@pytest.mark.parametrize("method", ["paper", "nms", "soft-nms-linear", "soft-nms-gaussian"])
@given(pairs=members_and_weights, iou=ious, denominator=st.sampled_from(["all", "present"]))
def test_like_the_slow_reference(
    method: Method, pairs: list[tuple[list[Row] | None, float]], iou: float, denominator: str
) -> None:
    members, weights = [m for m, _ in pairs], [w for _, w in pairs]
    expected = []
    for label, candidates in slow_candidates(members, weights, denominator).items():
        if method == "paper":
            spans = slow_paper(candidates, iou)
        elif method == "nms":
            spans = slow_nms(candidates, iou)
        else:
            spans = slow_soft(candidates, iou, method)
        expected += [(label, *span, score) for span, score in spans.items()]
    found = fused(members, weights, method=method, iou=iou, denominator=denominator)
    assert len(found) == len(expected)
    for row, other in zip(found, sorted(expected, key=lambda r: (r[1], r[2], r[0])), strict=True):
        assert row[:3] == other[:3]
        assert row[3] == pytest.approx(other[3], abs=2e-6)


def slow_boxes(
    members: Sequence[Sequence[Row] | None], weights: Sequence[float], iou: float
) -> list[tuple[float, float, float]]:
    """Weighted boxes fusion of one class, section 3 of arXiv 1910.13302: lists B, L, F."""
    seen = [(m, w) for m, w in zip(members, weights, strict=True) if m is not None]
    boxes = [
        (w * max(r[3] for r in m if r[:3] == key), key[1], key[2])
        for m, w in seen
        for key in sorted({r[:3] for r in m})
    ]
    boxes.sort(key=lambda box: (-box[0], box[1], box[2]))
    clusters: list[list[tuple[float, float, float]]] = []
    for box in boxes:
        spans = [slow_box(cluster) for cluster in clusters]
        overlaps = [round(tiou(seg("", *span), seg("", *box[1:])), 9) for span in spans]
        best = max(overlaps, default=0.0)
        if best > iou:
            clusters[overlaps.index(best)].append(box)
        else:
            clusters.append([box])
    total = sum(w for _, w in seen)
    return sorted(
        (
            *slow_box(cluster),
            sum(b[0] for b in cluster) / len(cluster) * min(len(cluster), len(seen)) / total,
        )
        for cluster in clusters
    )


def slow_box(cluster: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    total = sum(box[0] for box in cluster)
    first, second = (sum(box[0] * box[i] for box in cluster) / total for i in (1, 2))
    return first, second


@given(
    pairs=st.lists(
        st.tuples(
            st.lists(
                st.builds(
                    lambda start, length, score: ("a", start / 4, (start + length) / 4, score),
                    grid,
                    st.integers(1, 12),
                    st.floats(0.01, 1.0).map(lambda score: round(score, 6)),
                ),
                max_size=6,
            ),
            st.sampled_from([0.25, 0.4, 1.0]),
        ),
        min_size=1,
        max_size=4,
    ),
    iou=st.sampled_from([0.31, 0.5501, 0.7103]),
)
def test_weighted_boxes_like_the_slow_reference(pairs: list[tuple[list[Row], float]], iou: float) -> None:
    members, weights = [m for m, _ in pairs], [w for _, w in pairs]
    found = fused(members, weights, method="wbf", iou=iou)
    expected = slow_boxes(members, weights, iou)
    assert sorted(map(coarse, [row[1:] for row in found])) == [
        pytest.approx(row, abs=2e-5) for row in sorted(map(coarse, expected))
    ]


def coarse(row: tuple[float, ...]) -> tuple[float, ...]:
    """Rounded, so that the last digit of a bound does not decide about the order."""
    return tuple(round(value, 5) for value in row)


# --- properties -------------------------------------------------------------------------------------

fine_rows = st.builds(
    lambda label, start, length, score: (label, start, start + length, score),
    st.sampled_from("ab"),
    st.floats(0, 9),
    st.floats(1e-5, 5),
    st.floats(0, 1),
)
any_member = st.one_of(st.none(), st.lists(st.one_of(segment_rows(), fine_rows), max_size=8))


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data(), iou=ious, denominator=st.sampled_from(["all", "present"]))
def test_no_order_matters(method: Method, data: st.DataObject, iou: float, denominator: str) -> None:
    pairs = data.draw(st.lists(st.tuples(any_member, st.floats(0.01, 10)), min_size=1, max_size=5))
    options = {"method": method, "iou": iou, "denominator": denominator, "min_score": 0.05}
    shuffled = [
        (None if m is None else data.draw(st.permutations(m)), w)
        for m, w in data.draw(st.permutations(pairs))
    ]
    first, second = (
        fuse_segments(
            [None if m is None else [seg(*row) for row in m] for m, _ in some],
            [w for _, w in some],
            FusionOptions(**options),  # type: ignore[arg-type]
        )
        for some in (pairs, shuffled)
    )
    assert first == second  # every bit of every score


@given(pairs=st.lists(st.tuples(any_member, st.floats(0.01, 10)), min_size=1, max_size=4), iou=ious)
def test_the_paper_leaves_no_pair_above_the_threshold_and_covers_the_same_time(
    pairs: list[tuple[list[Row] | None, float]], iou: float
) -> None:
    members = [m for m, _ in pairs]
    found = fused(members, [w for _, w in pairs], iou=iou)
    for label in "ab":
        mine = [row for row in found if row[0] == label]
        for i, row in enumerate(mine):
            assert not any(tiou(seg(*row), seg(*other)) > iou + 1e-9 for other in mine[:i])
        before = [(s, e) for m in members if m for name, s, e, _ in m if name == label]
        assert covered(before) == pytest.approx(covered([row[1:3] for row in mine]), abs=1e-4)
    assert fused([found], iou=iou) == found  # nothing is left to do


def covered(spans: Sequence[tuple[float, float]]) -> float:
    return sum(end - start for start, end in union_gaps([list(spans)]))


@given(rows_=st.lists(segment_rows(), max_size=8))
@example([])
def test_members_who_agree_change_nothing_but_overlaps(rows_: list[Row]) -> None:
    assert fused([rows_, rows_, rows_], (0.1, 0.7, 0.3)) == fused([rows_])


# --- scenes, results --------------------------------------------------------------------------------


def scenes(**scores: float) -> tuple[SceneScore, ...]:
    return tuple(SceneScore(label=label, score=score) for label, score in scores.items())


def test_scenes_are_the_weighted_mean_over_members_that_have_some() -> None:
    first, second = scenes(kitchen=0.7, park=0.3), scenes(park=0.9, bar=0.1)
    # weights 3 and 1: park (0.9 + 0.9) / 4, kitchen 2.1 / 4, bar 0.1 / 4
    assert [(s.label, round(s.score, 9)) for s in fuse_scenes([first, (), second, None], (3, 5, 1, 5))] == [
        ("kitchen", 0.525),
        ("park", 0.45),
        ("bar", 0.025),
    ]
    assert fuse_scenes([(), None]) == ()


def test_fused_results_keep_the_most_cautious_data_of_the_members() -> None:
    first = replace(
        result_of(seg("a", 0, 1, 0.9), scenes=scenes(park=0.8)),
        gaps=((1.0, 2.0), (5.0, 6.0)),
        corrupt_frames=3,
        warnings=("one", "both"),
    )
    second = replace(
        result_of(seg("a", 0, 1, 0.5), scenes=scenes(park=0.4)),
        interval_seconds=0.25,
        num_intervals=40,
        duration_seconds=11.0,
        complete=False,
        gaps=((1.5, 3.0),),
        warnings=("both", "two"),
    )
    found = fuse_results([first, None, second], (0.6, 1, 0.4))
    assert rows(found.segments) == [("a", 0, 1, 0.74)]
    assert [(s.label, round(s.score, 9)) for s in found.scenes] == [("park", 0.64)]
    assert (found.interval_seconds, found.num_intervals, found.duration_seconds) == (0.25, 40, 11.0)
    assert not found.complete
    assert found.gaps == ((1.0, 3.0), (5.0, 6.0))
    assert found.corrupt_frames == 3
    assert found.warnings == ("one", "both", "two")


def test_results_of_two_videos_are_not_fused() -> None:
    with pytest.raises(ValueError, match=r"one video, got \['clip', 'other'\]"):
        fuse_results([result_of(), result_of(video_id="other")])
    with pytest.raises(ValueError, match="one video"):
        fuse_results([None, None])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((1.0,), "1 weight for 2 members"),
        ((1.0, 0.0), "weight 0: expected a number above 0"),
        ((1.0, -1.0), "weight -1"),
        ((1.0, math.nan), "weight nan"),
        ((math.inf, 1.0), "weight inf"),
    ],
)
def test_bad_weights(weights: tuple[float, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fuse_segments([[], []], weights)
    with pytest.raises(UsageError, match=message):
        fuse_scenes([(), ()], weights)


@pytest.mark.parametrize(
    "options",
    [{"iou": -0.1}, {"iou": 1.1}, {"iou": math.nan}, {"min_score": 2}, {"sigma": 0}, {"sigma": math.nan}],
)
def test_bad_options(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(UsageError, match=name.replace("_", "-")):
        FusionOptions(**options)


def test_the_order_of_the_output_is_time() -> None:
    found = fused([[("b", 5, 6, 0.1), ("a", 5, 6, 0.2), ("b", 0, 9, 0.3), ("a", 0, 2, 0.4)]])
    assert all((a[1], a[2], a[0]) < (b[1], b[2], b[0]) for a, b in pairwise(found))
