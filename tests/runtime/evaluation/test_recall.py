"""Average recall at average number of proposals, against loops that follow the official code line by line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.recall import proposal_recall
from tsm_runtime.results import Segment

Videos = dict[str, list[Segment]]
TENTHS = np.linspace(0.5, 0.95, 10)


def seg(start: float, end: float, score: float = 1.0, label: str = "a") -> Segment:
    return Segment(label=label, start_seconds=start, end_seconds=end, score=score)


def overlap(a: Segment, b: Segment) -> float:
    shared = min(a.end_seconds, b.end_seconds) - max(a.start_seconds, b.start_seconds)
    both = a.end_seconds - a.start_seconds + b.end_seconds - b.start_seconds
    return max(shared, 0) / (both - max(shared, 0))


def slow_curve(truth: Videos, proposals: Videos, most: float) -> tuple[list[float], list[float], float]:
    names = [video for video, listed in truth.items() if listed]
    ratio = most * len(names) / sum(map(len, proposals.values()))
    kept = {}
    for video in names:
        ranked = sorted(proposals.get(video, []), key=lambda s: (-s.score, s.start_seconds, s.end_seconds))
        kept[video] = ranked[: min(int(len(ranked) * ratio), len(ranked))]
    total = sum(map(len, kept.values()))
    numbers, recalls = [], []
    for step in range(1, 101):
        share = step / 100.0 * (most * len(names) / total)
        found = []
        for threshold in TENTHS:
            for video in names:
                first = kept[video][: min(int(len(kept[video]) * share), len(kept[video]))]
                found += [any(overlap(p, t) >= threshold - 1e-9 for p in first) for t in truth[video]]
        recalls.append(sum(found) / len(found))
        numbers.append(share * total / len(names))
    area = sum((numbers[i + 1] - numbers[i]) * (recalls[i + 1] + recalls[i]) / 2 for i in range(99))
    return numbers, recalls, area / numbers[-1]


segments = st.builds(
    lambda start, length, score, label: seg(start, start + length, score / 16, label),
    st.integers(0, 12),
    st.integers(1, 8),
    st.integers(0, 16),
    st.sampled_from("ab"),
)
some_videos = st.fixed_dictionaries({v: st.lists(segments, max_size=6) for v in ("v", "w", "x")})


@settings(max_examples=25)  # the loops are slow
@given(some_videos, some_videos, st.sampled_from([2.0, 5.0, 100.0]))
def test_equals_the_official_code(truth: Videos, proposals: Videos, most: float) -> None:
    names = [video for video, listed in truth.items() if listed]
    count = sum(map(len, proposals.values()))
    if not names or not any(
        int(len(proposals[v]) * (most * len(names) / count)) for v in names if proposals[v]
    ):
        return  # the official code divides by zero
    elsewhere = sum(len(proposals[video]) for video in truth if video not in names)
    found = proposal_recall(truth, proposals, max_average_number=most, num_elsewhere=elsewhere)
    numbers, recalls, area = slow_curve(truth, proposals, most)
    assert found.average_number == pytest.approx(numbers)
    assert found.average_recall == pytest.approx(recalls)
    assert found.area == pytest.approx(area)


def test_by_hand() -> None:
    # The best proposal of v finds its instance at all tIoUs, that of w none; w's second reaches 0.5 to 0.75.
    truth = {"v": [seg(0, 8)], "w": [seg(0, 8)], "empty": []}
    proposals = {
        "v": [seg(0, 8, 0.9, "b"), seg(20, 30, 0.1)],
        "w": [seg(20, 30, 0.9), seg(0, 6, 0.5)],
    }
    found = proposal_recall(truth, proposals)
    assert found.at(1) == pytest.approx(0.5)
    assert found.at(2) == pytest.approx((10 + 6) / 20)
    assert found.at(100) == found.average_recall[-1] == pytest.approx(0.8)
    assert found.average_number == pytest.approx(range(1, 101))
    assert found.area == pytest.approx((0.65 + 98 * 0.8) / 100)


def test_labels_do_not_count_and_empty_instances_are_missed() -> None:
    found = proposal_recall({"v": [seg(0, 8)]}, {"v": [seg(0, 8, 1.0, "other")]}, empty_truth=["v"])
    assert found.at(100) == 0.5


def test_without_proposals_nothing_is_found() -> None:
    found = proposal_recall({"v": [seg(0, 8)]}, {})
    assert (found.at(1), found.at(100), found.area) == (0.0, 0.0, 0.0)
    assert found.average_number[-1] == 100.0


def test_without_instances_recall_is_undefined() -> None:
    with pytest.raises(UsageError, match="no action instance"):
        proposal_recall({"v": []}, {"v": [seg(0, 1)]})
