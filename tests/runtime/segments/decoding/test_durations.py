"""Semi-Markov decoding: against all divisions of small inputs, and examples."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsm_runtime.segments.decoding.durations import (
    LengthTable,
    best_segments,
    candidate_borders,
    length_table,
)
from tsm_runtime.segments.decoding.settings import LengthPrior

Segments = list[tuple[int, int, int]]


def value(segments: Segments, scores: np.ndarray, table: LengthTable, cost: float) -> float:
    """The sum that is maximised, from its definition."""
    bound, total = len(table.log_mass) - 1, -cost * (len(segments) - 1)
    for start, stop, label in segments:
        logs = table.log_survival if start == 0 or stop == len(scores) else table.log_mass
        total += scores[start:stop, label].sum() + logs[min(stop - start, bound), label]
        total += table.log_decay[label] * max(0, stop - start - bound)
    return float(total)


def divisions(num_frames: int, num_labels: int) -> itertools.chain[Segments]:
    def all_of() -> itertools.chain[Segments]:
        for path in itertools.product(range(num_labels), repeat=num_frames):
            runs = [(label, len(list(group))) for label, group in itertools.groupby(path)]
            stops = itertools.accumulate(length for _, length in runs)
            yield [(stop - length, stop, label) for stop, (label, length) in zip(stops, runs, strict=True)]

    return all_of()  # type: ignore[return-value]


@settings(max_examples=100)
@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(2, 3), st.sampled_from([0.0, 0.7, 3.0]))
def test_no_division_is_better(seed: int, num_frames: int, num_labels: int, cost: float) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(num_frames, num_labels))
    bound = int(rng.integers(1, 5))  # lengths beyond it take the tail
    logs = rng.normal(scale=2.0, size=(2, bound + 1, num_labels))
    table = LengthTable(logs[0], logs[1], -rng.random(num_labels))
    best = max(value(each, scores, table, cost) for each in divisions(num_frames, num_labels))
    found = best_segments(scores, table, cost, np.arange(num_frames + 1))
    assert value(found, scores, table, cost) == pytest.approx(best)
    assert [start for start, _, _ in found] == [0, *(stop for _, stop, _ in found[:-1])]
    assert found[-1][1] == num_frames


def test_a_length_that_never_happens_is_not_found() -> None:
    """Half a second of an action that takes two seconds becomes background; two seconds stay."""
    prior = LengthPrior(label="wave", mean_log=math.log(2.0), std_log=0.2)
    table = length_table([prior], ("wave", "background"), 0.1)
    scores = np.log(np.full((80, 2), [0.1, 0.9]))
    for start, stop in ((10, 15), (40, 60)):
        scores[start:stop] = np.log([0.8, 0.2])
    borders = candidate_borders(scores, 1)
    assert borders.tolist() == [0, 10, 15, 40, 60, 80]
    found = best_segments(scores, table, 0.0, borders)
    assert found == [(0, 40, 1), (40, 60, 0), (60, 80, 1)]
    free = length_table([], ("wave", "background"), 0.1)
    assert [s[:2] for s in best_segments(scores, free, 0.0, borders) if s[2] == 0] == [(10, 15), (40, 60)]


def test_the_table_is_a_distribution() -> None:
    prior = LengthPrior(label="wave", mean_log=math.log(1.0), std_log=0.5)
    table = length_table([prior], ("wave", "background"), 0.1)
    assert np.exp(table.log_mass[1:, 0]).sum() == pytest.approx(1.0, abs=0.01)
    assert np.exp(table.log_survival[:, 0]).tolist() == sorted(np.exp(table.log_survival[:, 0]), reverse=True)
    assert table.log_mass[:, 0].argmax() == round(10 * math.exp(-(0.5**2)))  # the mode
    assert not table.log_mass[:, 1].any()
    assert (table.log_decay <= 0).all()


def test_a_piece_that_cuts_an_action_off_keeps_it() -> None:
    """At the end of a piece the length is known to be too short for a reason."""
    prior = LengthPrior(label="wave", mean_log=math.log(2.0), std_log=0.2)
    table = length_table([prior], ("wave", "background"), 0.1)
    scores = np.log(np.full((60, 2), [0.1, 0.9]))
    scores[55:] = np.log([0.8, 0.2])
    assert best_segments(scores, table, 0.0, np.arange(61))[-1] == (55, 60, 0)


def test_one_label_alone() -> None:
    table = length_table([], ("wave",), 0.1)
    assert best_segments(np.zeros((5, 1)), table, 1.0, np.arange(6)) == [(0, 5, 0)]
