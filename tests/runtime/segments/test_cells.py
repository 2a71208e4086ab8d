"""Cells that come one by one: the same numbers as from all intervals at once, and not later than need be."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.results import IntervalScores
from tsm_runtime.segments.cells import Cell, CellStream, wait_seconds
from tsm_runtime.segments.rules import SegmentRules
from tsm_runtime.segments.smoothing import cell_scores, smooth_scores


def spec_of(num_overlapping: int) -> ClipSpec:
    return ClipSpec(interval_seconds=0.5, stride_seconds=0.5 / num_overlapping)


@st.composite
def any_scores(draw: st.DrawFn) -> IntervalScores:
    """Intervals of which some are missing, with breaks between neighbours; scores of any bits."""
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 1, 2, 3, 9]), min_size=1, max_size=30))
    indices = np.cumsum([draw(st.integers(0, 3)), *steps[1:]]).astype(np.int64)
    breaks = draw(st.frozensets(st.sampled_from(indices.tolist()), max_size=3))
    rows = np.random.default_rng(draw(st.integers(0, 1000))).random((len(indices), 5), np.float32)
    return IntervalScores(indices=indices, action=rows[:, :3], scene=rows[:, 3:], breaks=breaks)


@settings(max_examples=300)
@given(any_scores(), st.integers(1, 6), st.floats(0, 5), st.booleans())
def test_cells_are_those_of_all_intervals_at_once(
    scores: IntervalScores, num_overlapping: int, smoothing: float, with_skips: bool
) -> None:
    """Bit by bit; what is said about the next one holds on the way."""
    spec = spec_of(num_overlapping)
    stream, cells = CellStream(spec, SegmentRules(smoothing_seconds=smoothing)), list[Cell]()
    assert scores.scene is not None
    for index, action, scene in zip(scores.indices.tolist(), scores.action, scores.scene, strict=True):
        coming = stream.next_index
        came = [*stream.skip_to(index)] if with_skips else []
        came += stream.push(index, action, scene, after_gap=index in scores.breaks)
        assert all(cell.index >= coming for cell in came)
        cells += came
    cells += stream.close()
    assert not stream.is_open
    expected = smooth_scores(cell_scores(scores, num_overlapping), spec.stride_seconds, smoothing)
    assert [cell.index for cell in cells] == expected.indices.tolist()
    assert expected.scene is not None
    np.testing.assert_array_equal([cell.action for cell in cells], expected.action)
    np.testing.assert_array_equal([cell.scene for cell in cells], expected.scene)
    indices = expected.indices.tolist()
    apart = {
        index for place, index in enumerate(indices) if index in expected.breaks or index - 1 not in indices
    }
    assert {cell.index for cell in cells if cell.begins} == apart


@given(st.integers(1, 6), st.floats(0, 5))
def test_a_cell_comes_as_soon_as_its_last_score(num_overlapping: int, smoothing: float) -> None:
    """Interval c is the last that covers cell c; smoothing takes cells whose part lies in its window."""
    spec = spec_of(num_overlapping)
    stream = CellStream(spec, SegmentRules(smoothing_seconds=smoothing))
    stride, row = spec.stride_seconds, np.array([0.5], np.float32)
    came = [[cell.index for cell in stream.push(k, row, None, after_gap=False)] for k in range(100)]
    wait = came.index([0])
    assert came[wait:] == [[k] for k in range(100 - wait)]
    reached = [k for k in range(100) if smoothing / 2 - stride / 2 - k * stride > 1e-6 * stride]
    assert wait == len(reached)
    assert wait * stride <= math.ceil(smoothing / 2 / stride) * stride
    rules = SegmentRules(smoothing_seconds=smoothing)
    assert wait_seconds(spec, rules) == pytest.approx(0.5 - stride + wait * stride)
    wide = replace(spec, window_seconds=1.3)
    assert wait_seconds(wide, rules) == pytest.approx(0.5 - stride + wait * stride + 0.4)


def test_a_skip_ends_the_wait() -> None:
    """Intervals 0 and 1 of three cells, smoothed over three: 3 and 4 never come."""
    stream = CellStream(spec_of(3), SegmentRules(smoothing_seconds=0.5))
    row = np.array([0.5], np.float32)
    assert list(stream.push(0, row, None, after_gap=False)) == []
    assert [cell.index for cell in stream.push(1, row, None, after_gap=False)] == [0]
    assert list(stream.skip_to(2)) == []
    assert (stream.is_open, stream.next_index) == (True, 1)
    assert [cell.index for cell in stream.skip_to(3)] == [1, 2, 3]
    assert (stream.is_open, stream.next_index, stream.next_interval) == (False, 4, 3)
    first = [*stream.push(3, row, None, after_gap=False), *stream.push(4, row, None, after_gap=False)]
    assert first == []  # cell 3 is the earlier piece's; cell 4 waits for cell 5
    (cell,) = stream.push(5, row, None, after_gap=False)
    assert (cell.index, cell.begins) == (4, True)


def test_memory_does_not_grow() -> None:
    stream = CellStream(spec_of(4), SegmentRules(smoothing_seconds=5.0))
    row, sizes = np.full(20, 0.05, np.float32), []
    tracemalloc.start()
    try:
        for index in range(4000):
            for _ in stream.push(index, row.copy(), row.copy(), after_gap=index % 777 == 0):
                pass
            if index in (1000, 3999):
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[1] - sizes[0] < 3_000  # a row has 80 bytes of scores alone
