"""Merging of intervals: tables worked out by hand, and properties that hold for any scores."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsm_runtime.results import BACKGROUND, IntervalScores, Segment
from tsm_runtime.segments.find import merge_intervals

LABELS = ("walk", "wave", BACKGROUND)
LETTERS = {"a": 0, "b": 1, ".": 2}


def scores_of(
    letters: str,
    *,
    indices: list[int] | None = None,
    best: list[float] | None = None,
    breaks: frozenset[int] = frozenset(),
) -> IntervalScores:
    """Scores whose argmax spells `letters`: a = walk, b = wave, . = background; `best` are the maxima."""
    action = np.zeros((len(letters), 3), np.float32)
    for row, letter in enumerate(letters):
        top = 0.5 if best is None else best[row]
        action[row] = (1 - top) / 2
        action[row, LETTERS[letter]] = top
    numbers = range(len(letters)) if indices is None else indices
    return IntervalScores(indices=np.array(list(numbers), np.int64), action=action, breaks=breaks)


def spans(segments: list[Segment]) -> list[tuple[str, float, float]]:
    return [(s.label, s.start_seconds, s.end_seconds) for s in segments]


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ("", []),
        ("....", []),
        ("a", [("walk", 0.0, 0.5)]),
        ("aaa", [("walk", 0.0, 1.5)]),
        ("aab", [("walk", 0.0, 1.0), ("wave", 1.0, 1.5)]),
        ("a.a", [("walk", 0.0, 0.5), ("walk", 1.0, 1.5)]),
        (".ab.", [("walk", 0.5, 1.0), ("wave", 1.0, 1.5)]),
        ("..aa", [("walk", 1.0, 2.0)]),
    ],
)
def test_equal_neighbours_become_one_segment(letters: str, expected: list[tuple[str, float, float]]) -> None:
    assert spans(merge_intervals(scores_of(letters), LABELS, 0.5)) == expected


def test_confidence_is_the_maximum_of_the_run() -> None:
    merged = merge_intervals(scores_of("aab", best=[0.6, 0.9, 0.7]), LABELS, 1.0)
    assert [s.score for s in merged] == pytest.approx([0.9, 0.7])


def test_a_missing_interval_ends_a_segment() -> None:
    merged = merge_intervals(scores_of("aaa", indices=[0, 1, 3]), LABELS, 1.0)
    assert spans(merged) == [("walk", 0.0, 2.0), ("walk", 3.0, 4.0)]


def test_a_break_ends_a_segment() -> None:
    merged = merge_intervals(scores_of("aaa", breaks=frozenset({2})), LABELS, 1.0)
    assert spans(merged) == [("walk", 0.0, 2.0), ("walk", 2.0, 3.0)]


def test_equal_scores_go_to_the_first_label() -> None:
    scores = IntervalScores(indices=np.array([0]), action=np.full((1, 3), 1 / 3, np.float32))
    assert spans(merge_intervals(scores, LABELS, 1.0)) == [("walk", 0.0, 1.0)]


def test_number_of_labels_is_checked() -> None:
    with pytest.raises(ValueError, match="3 action scores for 2 labels"):
        merge_intervals(scores_of("a"), LABELS[1:], 1.0)


@pytest.mark.parametrize(
    ("start", "end", "score"),
    [(0, 0, 1), (2, 1, 1), (-1, 1, 1), (math.nan, 1, 1), (0, math.inf, 1), (0, 1, math.nan)],
)
def test_a_segment_checks_itself(start: float, end: float, score: float) -> None:
    with pytest.raises(ValueError, match="'walk'"):
        Segment(label="walk", start_seconds=start, end_seconds=end, score=score)


@pytest.mark.parametrize(
    ("action", "scene", "indices", "words"),
    [
        ((2, 3), None, [0], "action scores"),
        ((1,), None, [0], "action scores"),
        ((1, 3), (2, 2), [0], "scene scores"),
        ((2, 3), None, [1, 1], "strictly increasing"),
        ((2, 3), None, [2, 1], "strictly increasing"),
    ],
)
def test_interval_scores_check_their_shapes(
    action: tuple[int, ...], scene: tuple[int, ...] | None, indices: list[int], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        IntervalScores(
            indices=np.array(indices),
            action=np.zeros(action, np.float32),
            scene=None if scene is None else np.zeros(scene, np.float32),
        )


@st.composite
def any_scores(draw: st.DrawFn) -> IntervalScores:
    letters = draw(st.text(alphabet="ab.", max_size=30))
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 2]), min_size=len(letters), max_size=len(letters)))
    best = draw(st.lists(st.floats(0.4, 1.0), min_size=len(letters), max_size=len(letters)))
    breaks = draw(st.frozensets(st.integers(0, 60), max_size=5))
    return scores_of(letters, indices=[int(i) for i in np.cumsum(steps)], best=best, breaks=breaks)


@given(any_scores())
def test_segments_cover_exactly_the_intervals_of_their_label(scores: IntervalScores) -> None:
    cells = [
        (k, segment.label)
        for segment in merge_intervals(scores, LABELS, 1.0)
        for k in range(int(segment.start_seconds), int(segment.end_seconds))
    ]
    winners = [LABELS[int(row.argmax())] for row in scores.action]
    pairs = zip(scores.indices.tolist(), winners, strict=True)
    assert cells == [(k, label) for k, label in pairs if label != BACKGROUND]


@given(any_scores())
def test_segments_are_in_order_apart_and_as_long_as_possible(scores: IntervalScores) -> None:
    merged = merge_intervals(scores, LABELS, 1.0)
    for left, right in pairwise(merged):
        assert left.end_seconds <= right.start_seconds
        touching = left.end_seconds == right.start_seconds and left.label == right.label
        assert not touching or int(right.start_seconds) in scores.breaks


@given(any_scores(), st.sampled_from([0.25, 0.5, 1.0, 0.1]))
def test_the_length_of_an_interval_only_scales_time(scores: IntervalScores, interval_seconds: float) -> None:
    unit = merge_intervals(scores, LABELS, 1.0)
    scaled = merge_intervals(scores, LABELS, interval_seconds)
    assert [(s.label, s.score) for s in scaled] == [(s.label, s.score) for s in unit]
    expected = [bound * interval_seconds for s in unit for bound in (s.start_seconds, s.end_seconds)]
    assert [bound for s in scaled for bound in (s.start_seconds, s.end_seconds)] == pytest.approx(expected)
