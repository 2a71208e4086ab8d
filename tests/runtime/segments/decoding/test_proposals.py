"""Soft-NMS of all labels and chains at once gives what one proposal after another gives."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tsm_runtime.segments.decoding import proposals as module
from tsm_runtime.segments.decoding.proposals import Floats, frame_proposals, soft_suppressed

SIGMA, LEAST = 0.5, 0.05


def one_by_one(starts: Floats, ends: Floats, scores: Floats) -> list[tuple[float, float, float]]:
    """Soft-NMS as published, over all proposals of a label, with voted bounds."""
    left, found = scores.tolist(), []
    given = list(zip(starts.tolist(), ends.tolist(), scores.tolist(), strict=True))
    while max(left) >= LEAST:
        best = left.index(max(left))
        ious = [tiou(given[best], other) for other in given]
        voters = [(other, other[2]) for other, iou in zip(given, ious, strict=True) if iou > 0.75]
        weight = sum(w for _, w in voters)
        start, end = (sum(v[side] * w for v, w in voters) / weight for side in (0, 1))
        found.append((start, end, min(1.0, left[best])))
        left = [value * math.exp(-(iou**2) / SIGMA) for value, iou in zip(left, ious, strict=True)]
        left[best] = -1.0
    return found


def tiou(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    inter = max(0.0, min(first[1], second[1]) - max(first[0], second[0]))
    return inter / (max(first[1], second[1]) - min(first[0], second[0]))


def drawn(seed: int, count: int, seconds: float) -> tuple[Floats, Floats, Floats]:
    rng = np.random.default_rng(seed)
    starts = rng.uniform(0, seconds, count)
    return starts, starts + rng.uniform(0.1, 4.0, count), rng.uniform(0.01, 1.0, count)


def test_labels_and_chains_do_not_influence_one_another() -> None:
    given = [drawn(0, 60, 300.0), drawn(1, 5, 10.0), drawn(2, 0, 1.0), drawn(3, 90, 40.0)]
    found = soft_suppressed(given, SIGMA, LEAST)
    for label, proposals in enumerate(given):
        own = sorted(each[1:] for each in found if each[0] == label)
        expected = sorted(one_by_one(*proposals)) if len(proposals[0]) else []
        np.testing.assert_allclose(own, expected, atol=1e-9)


def test_long_chains_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proposals of different parts do not suppress one another; within a part nothing changes."""
    monkeypatch.setattr(module, "_MOST_AT_ONCE", 8)
    starts, ends, scores = (part[:16] for part in drawn(4, 16, 2.0))
    order = np.argsort(starts)
    found = sorted(each[1:] for each in soft_suppressed([(starts, ends, scores)], SIGMA, LEAST))
    parts = [one_by_one(starts[rows], ends[rows], scores[rows]) for rows in (order[:8], order[8:])]
    np.testing.assert_allclose(found, sorted(parts[0] + parts[1]), atol=1e-9)


def test_nothing_is_proposed() -> None:
    scores, distances = np.full(4, 0.01, np.float32), np.ones((4, 2), np.float32)
    proposals = frame_proposals(scores, distances, np.arange(4.0), LEAST, (0.0, 4.0))
    assert soft_suppressed([proposals], SIGMA, LEAST) == soft_suppressed([], SIGMA, LEAST) == []
