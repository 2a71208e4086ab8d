"""What follows the scores, against plain loops that restate the written definitions."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.results import BACKGROUND, IntervalScores, Segment
from tsm_runtime.segments.cells import Cell
from tsm_runtime.segments.find import find_segments, merge_intervals
from tsm_runtime.segments.merging import CellMerger
from tsm_runtime.segments.rules import SegmentRules
from tsm_runtime.segments.smoothing import cell_scores, smooth_scores

LABELS = ("walk", "wave", BACKGROUND)
OWN = ("walk", "wave", "sit")

Rows = dict[int, list[float]]
Found = tuple[str, float, float, float]


@st.composite
def any_scores(draw: st.DrawFn) -> IntervalScores:
    """Intervals of which some are missing, breaks between neighbours, scores of few values (ties)."""
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 2, 3, 7]), max_size=24))
    indices = np.cumsum([draw(st.integers(0, 3)), *steps])[: len(steps)].astype(np.int64)
    breaks = draw(st.frozensets(st.sampled_from(indices.tolist()), max_size=3)) if len(indices) else ()
    values = st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0]), min_size=3, max_size=3)
    action = np.array([draw(values) for _ in indices], np.float32).reshape(len(indices), 3)
    return IntervalScores(
        indices=indices, action=action, scene=action[:, :2].copy(), breaks=frozenset(breaks)
    )


# --- the definitions, again ------------------------------------------------------------------------


def pieces_of(scores: IntervalScores) -> list[Rows]:
    """Interval number to scores, a dictionary for each stretch without gap."""
    pieces: list[Rows] = []
    for row, index in enumerate(scores.indices.tolist()):
        if row == 0 or index in scores.breaks or index - 1 not in pieces[-1]:
            pieces.append({})
        pieces[-1][index] = [float(value) for value in scores.action[row]]
    return pieces


def cells_by_hand(pieces: list[Rows], m: int) -> list[Rows]:
    """The mean of the intervals of a piece that cover a cell; the piece before has a cell that two reach."""
    found: list[Rows] = []
    for piece in pieces:
        cells: Rows = {}
        for cell in range(min(piece), max(piece) + m):
            if any(cell in other for other in found):
                continue
            covering = [piece[k] for k in range(cell - m + 1, cell + 1) if k in piece]
            cells[cell] = [math.fsum(column) / len(covering) for column in zip(*covering, strict=True)]
        found.append(cells)
    return found


def smoothed_by_hand(pieces: list[Rows], cell: float, width: float) -> list[Rows]:
    """Mean of the piecewise constant scores over [middle - width/2, middle + width/2], within the piece."""
    if width <= cell:
        return pieces
    smooth: list[Rows] = []
    for piece in pieces:
        smooth.append({})
        for k in piece:
            low, high = (k + 0.5) * cell - width / 2, (k + 0.5) * cell + width / 2
            share = {j: max(0.0, min(high, (j + 1) * cell) - max(low, j * cell)) for j in piece}
            total = math.fsum(share.values())
            smooth[-1][k] = [
                math.fsum(share[j] * piece[j][c] for j in piece) / total for c in range(len(piece[k]))
            ]
    return smooth


def segments_by_hand(
    pieces: list[Rows], labels: tuple[str, ...], cell: float, thresholds: tuple[float, ...] = ()
) -> list[Found]:
    """For each label and piece the longest runs of cells that have the label."""

    def has(row: list[float], label: int) -> bool:
        if thresholds:
            return np.float32(row[label]) >= np.float32(thresholds[label])
        return row.index(max(row)) == label and labels[label] != BACKGROUND

    found: list[Found] = []
    for piece in pieces:
        for label, name in enumerate(labels):
            chosen = [k for k, row in piece.items() if has(row, label)]
            starts = [k for k in chosen if k - 1 not in chosen]
            for start in starts:
                end = start
                while end + 1 in chosen:
                    end += 1
                best = max(piece[k][label] for k in range(start, end + 1))
                found.append((name, start * cell, (end + 1) * cell, best))
    return found


def rows_of(segments: list[Segment]) -> list[Found]:
    return sorted((s.label, s.start_seconds, s.end_seconds, s.score) for s in segments)


# --- everything off --------------------------------------------------------------------------------


@given(any_scores(), st.sampled_from([0.0, 0.3, 0.5]))
def test_off_is_the_plain_merge_bit_by_bit(scores: IntervalScores, smoothing: float) -> None:
    spec = ClipSpec(interval_seconds=0.5, window_seconds=0.5, stride_seconds=0.5)
    rules = SegmentRules(smoothing_seconds=smoothing)  # of a cell or less
    segments, cells = find_segments(scores, LABELS, spec, rules)
    assert cells is scores
    assert segments == merge_intervals(scores, LABELS, 0.5)
    assert rows_of(segments) == sorted(segments_by_hand(pieces_of(scores), LABELS, 0.5))


# --- cells -----------------------------------------------------------------------------------------


@given(any_scores(), st.integers(2, 9))
def test_a_cell_is_the_mean_of_the_intervals_that_cover_it(scores: IntervalScores, m: int) -> None:
    cells = cell_scores(scores, m)
    expected = cells_by_hand(pieces_of(scores), m)
    assert cells.indices.tolist() == [cell for piece in expected for cell in piece]
    rows = [row for piece in expected for row in piece.values()]
    np.testing.assert_allclose(cells.action, np.array(rows).reshape(-1, 3), rtol=0, atol=1e-7)
    assert cells.scene is not None
    np.testing.assert_array_equal(cells.scene, cells.action[:, :2])
    touching = {min(b) for a, b in pairwise(expected) if max(a) + 1 == min(b)}
    assert cells.breaks == touching


def test_cells_by_example() -> None:
    """Intervals 0 to 2 of two cells each: cell 1 is the mean of intervals 0 and 1."""
    action = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]], np.float32)
    cells = cell_scores(IntervalScores(indices=np.arange(3), action=action), 2)
    assert cells.indices.tolist() == [0, 1, 2, 3]
    assert cells.action[:, 0].tolist() == [0.0, 0.5, 0.75, 0.5]
    broken = IntervalScores(indices=np.arange(3), action=action, breaks=frozenset({2}))
    parted = cell_scores(broken, 2)
    assert parted.action[:, 0].tolist() == [0.0, 0.5, 1.0, 0.5]
    assert parted.breaks == {3}  # cell 2 is inside the gap, and the side before has it


def test_constant_scores_stay_constant() -> None:
    action = np.full((40, 3), [0.1, 0.7, 0.2], np.float32)
    scores = IntervalScores(indices=np.arange(40), action=action)
    np.testing.assert_array_equal(cell_scores(scores, 7).action, action[:1].repeat(46, axis=0))
    np.testing.assert_allclose(smooth_scores(scores, 0.5, 3.3).action, action, rtol=1e-7)


# --- smoothing -------------------------------------------------------------------------------------


@given(any_scores(), st.sampled_from([0.25, 0.5, 1 / 3]), st.floats(0, 8))
def test_smoothing_is_the_mean_around_a_cells_middle(
    scores: IntervalScores, cell: float, width: float
) -> None:
    smooth = smooth_scores(scores, cell, width)
    expected = [row for piece in smoothed_by_hand(pieces_of(scores), cell, width) for row in piece.values()]
    np.testing.assert_allclose(smooth.action, np.array(expected).reshape(-1, 3), rtol=0, atol=2e-6)
    assert smooth.indices is scores.indices
    assert smooth.breaks == scores.breaks
    assert smooth.scene is scores.scene


def test_smoothing_by_example() -> None:
    action = np.array([[1.0], [0.0], [0.0], [0.0], [1.0]], np.float32)
    scores = IntervalScores(indices=np.arange(5), action=action, breaks=frozenset({4}))
    assert smooth_scores(scores, 0.5, 1.5).action[:, 0].tolist() == pytest.approx([0.5, 1 / 3, 0, 0, 1])
    assert smooth_scores(scores, 0.5, 1.0).action[:, 0].tolist() == pytest.approx([2 / 3, 0.25, 0, 0, 1])


def test_smoothing_closes_a_flicker_and_lowers_the_confidence() -> None:
    action = np.array([[0.9, 0.1]] * 3 + [[0.4, 0.6]] + [[0.9, 0.1]] * 3 + [[0.0, 1.0]] * 3, np.float32)
    scores = IntervalScores(indices=np.arange(10), action=action)
    spec, labels = ClipSpec(interval_seconds=0.5), ("walk", BACKGROUND)
    plain, _ = find_segments(scores, labels, spec, SegmentRules())
    smooth, _ = find_segments(scores, labels, spec, SegmentRules(smoothing_seconds=1.5))
    assert [(s.start_seconds, s.end_seconds) for s in plain] == [(0.0, 1.5), (2.0, 3.5)]
    assert [(s.start_seconds, s.end_seconds) for s in smooth] == [(0.0, 3.5)]
    assert smooth[0].score == pytest.approx(0.9)


# --- sigmoid ---------------------------------------------------------------------------------------

thresholds = st.tuples(*[st.sampled_from([0.05, 0.3, 0.5, 0.7, 1.0])] * 3)


@given(any_scores(), thresholds)
def test_every_label_has_its_own_runs(scores: IntervalScores, least: tuple[float, ...]) -> None:
    merged = merge_intervals(scores, OWN, 0.5, least)
    assert rows_of(merged) == sorted(segments_by_hand(pieces_of(scores), OWN, 0.5, least))
    keys = [(s.start_seconds, s.end_seconds, OWN.index(s.label)) for s in merged]
    assert keys == sorted(keys)


def test_a_score_at_its_threshold_counts() -> None:
    action = np.array([[0.7, 0.1, 0.3], [0.69, 0.9, 0.3]], np.float32)
    merged = merge_intervals(IntervalScores(indices=np.arange(2), action=action), OWN, 1.0, (0.7, 0.9, 0.31))
    assert [(s.label, s.start_seconds, s.end_seconds) for s in merged] == [("walk", 0, 1), ("wave", 1, 2)]


def test_thresholds_are_one_for_each_label() -> None:
    with pytest.raises(ValueError, match="2 thresholds for 3 labels"):
        CellMerger(OWN, 0.5, SegmentRules(thresholds=(0.5, 0.5)))


@given(any_scores(), st.one_of(st.just(()), thresholds))
def test_one_by_one_is_the_same(scores: IntervalScores, least: tuple[float, ...]) -> None:
    """A live stream gives out the same segments, each as soon as an interval ends it."""
    labels = OWN if least else LABELS
    merger = CellMerger(labels, 0.5, SegmentRules(thresholds=least))
    given_out: list[Segment] = []
    previous = -1
    for index, row in zip(scores.indices.tolist(), scores.action, strict=True):
        begins = index != previous + 1 or index in scores.breaks
        ended = [each.segment for each in merger.push(Cell(index, row, None, begins))]
        assert all(s.end_seconds <= index * 0.5 for s in ended)
        assert all(each.segment.end_seconds == (index + 1) * 0.5 for each in merger.open)
        given_out += ended
        previous = index
    still_open = [each.segment for each in merger.open]
    assert [each.segment for each in merger.close()] == still_open
    assert merger.open == []
    assert rows_of([*given_out, *still_open]) == rows_of(merge_intervals(scores, labels, 0.5, least))


# --- all at once -----------------------------------------------------------------------------------


@given(
    any_scores(),
    st.sampled_from([1, 2, 4, 5]),
    st.floats(0, 3),
    st.sampled_from([0.0, 0.5, 0.6, 1.0]),
    st.one_of(st.just(()), thresholds),
)
def test_all_together(
    scores: IntervalScores, m: int, smoothing: float, shortest: float, least: tuple[float, ...]
) -> None:
    labels = OWN if least else LABELS
    spec = ClipSpec(interval_seconds=0.5, stride_seconds=0.5 / m)
    rules = SegmentRules(thresholds=least, smoothing_seconds=smoothing, min_duration_seconds=shortest)
    segments, cells = find_segments(scores, labels, spec, rules)
    cell = spec.stride_seconds
    expected = smoothed_by_hand(cells_by_hand(pieces_of(scores), m), cell, smoothing)
    rows = np.array([row for piece in expected for row in piece.values()]).reshape(-1, 3)
    np.testing.assert_allclose(cells.action, rows, rtol=0, atol=2e-6)
    # The decision itself is made on the float32 scores, which a tie must not keep from being compared.
    made = pieces_of(cells)
    assert [list(piece) for piece in made] == [list(piece) for piece in expected]
    found = segments_by_hand(made, labels, cell, least)
    assert rows_of(segments) == sorted(s for s in found if s[2] - s[1] >= shortest - 1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"thresholds": (0.5, math.nan)}, "threshold nan: expected more than 0, at most 1"),
        ({"smoothing_seconds": math.inf}, "smoothing inf: expected seconds, 0 or more"),
        ({"smoothing_seconds": math.nan}, "smoothing nan"),
        ({"min_duration_seconds": -0.1}, "min-duration -0.1"),
    ],
)
def test_rules_check_themselves(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(SegmentRules(), **changes)


def test_nothing_in_nothing_out() -> None:
    empty = IntervalScores(indices=np.zeros(0, np.int64), action=np.zeros((0, 3), np.float32))
    rules = SegmentRules(smoothing_seconds=3, min_duration_seconds=1)
    segments, cells = find_segments(empty, LABELS, ClipSpec(interval_seconds=1, stride_seconds=0.5), rules)
    assert (segments, len(cells.indices)) == ([], 0)


def test_a_very_wide_average_is_the_mean_of_all() -> None:
    rng = np.random.default_rng(0)
    scores = IntervalScores(indices=np.arange(50), action=rng.random((50, 3)).astype(np.float32))
    smooth = smooth_scores(scores, 0.5, 1e6)
    np.testing.assert_allclose(smooth.action, scores.action.mean(axis=0)[None].repeat(50, 0), rtol=1e-6)
