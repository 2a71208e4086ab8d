"""The best path with a cost for each change: against all sequences, and in chunks."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsm_runtime.segments.decoding import viterbi
from tsm_runtime.segments.decoding.viterbi import best_path

Floats = npt.NDArray[np.floating]


def value(path: npt.NDArray[np.int64], scores: Floats, cost: float) -> float:
    return float(scores[np.arange(len(path)), path].sum() - cost * (np.diff(path) != 0).sum())


@settings(max_examples=100)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 3), st.sampled_from([0.0, 0.3, 1.0, 5.0]))
def test_no_sequence_is_better(seed: int, num_frames: int, num_labels: int, cost: float) -> None:
    scores = np.random.default_rng(seed).normal(size=(num_frames, num_labels))
    every = (np.array(path) for path in itertools.product(range(num_labels), repeat=num_frames))
    best = max(value(path, scores, cost) for path in every)
    assert value(best_path(scores, cost), scores, cost) == pytest.approx(best)


@pytest.mark.parametrize(("cost", "expected"), [(0.0, "aabaa"), (0.9, "aabaa"), (1.1, "aaaaa")])
def test_a_flicker_needs_two_changes(cost: float, expected: str) -> None:
    scores = np.array([[2.0, 0], [2, 0], [0, 2], [2, 0], [2, 0]])
    assert "".join("ab"[label] for label in best_path(scores, cost)) == expected


@pytest.mark.parametrize(("scale", "cost"), [(1.0, 3.0), (0.01, 50.0), (4.0, 0.5)])
def test_chunks_change_nothing(scale: float, cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where chunks never meet: weak scores and a high cost."""
    scores = np.random.default_rng(3).normal(scale=scale, size=(3000, 5)).astype(np.float32)
    in_chunks = best_path(scores, cost)
    monkeypatch.setattr(viterbi, "_CHUNK_FRAMES", 10_000)
    assert np.array_equal(in_chunks, best_path(scores, cost))


def test_nothing_in_nothing_out() -> None:
    assert best_path(np.zeros((0, 3)), 1.0).tolist() == []
