"""Range of average precision over tie orders: every order tried on small cases, and tables by hand."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsm_runtime.evaluation.average_precision import class_average_precision
from tsm_runtime.evaluation.matching import match_segments
from tsm_runtime.evaluation.tie_range import class_tie_range, tie_range
from tsm_runtime.formats.ground_truth import read_ground_truth
from tsm_runtime.formats.read_write import read_segments
from tsm_runtime.results import Segment

Videos = dict[str, list[Segment]]
Spans = dict[str, list[tuple[float, float, float]]]


def videos(spans: Spans) -> Videos:
    return {
        video: [Segment(label="a", start_seconds=s, end_seconds=e, score=score) for s, e, score in listed]
        for video, listed in spans.items()
    }


def reachable(truth: Videos, predictions: Videos, threshold: float) -> list[float]:
    """Average precision of every order of equal scores, by loops only."""
    flat = [(s.score, video, s) for video, listed in predictions.items() for s in listed]
    flat.sort(key=lambda entry: -entry[0])
    groups = [list(group) for _, group in itertools.groupby(flat, key=lambda entry: entry[0])]
    values = []
    for orders in itertools.product(*(itertools.permutations(group) for group in groups)):
        sequence = [(video, s) for order in orders for _, video, s in order]
        values.append(area(list(hit_or_miss(truth, sequence, threshold)), sum(map(len, truth.values()))))
    return values


def hit_or_miss(truth: Videos, sequence: list[tuple[str, Segment]], threshold: float) -> Iterator[bool]:
    locked: set[tuple[str, int]] = set()
    for video, s in sequence:
        instances = sorted(truth.get(video, []), key=lambda t: (t.start_seconds, t.end_seconds))
        ranked = sorted(range(len(instances)), key=lambda i: (-overlap(s, instances[i]), i))
        free = [
            i for i in ranked
            if overlap(s, instances[i]) >= threshold - 1e-9 and (video, i) not in locked
        ]  # fmt: skip
        locked.update((video, i) for i in free[:1])
        yield bool(free)


def overlap(a: Segment, b: Segment) -> float:
    shared = min(a.end_seconds, b.end_seconds) - max(a.start_seconds, b.start_seconds)
    both = a.end_seconds - a.start_seconds + b.end_seconds - b.start_seconds
    return max(shared, 0) / (both - max(shared, 0))


def area(hits: list[bool], count: int) -> float:
    precision = [sum(hits[: n + 1]) / (n + 1) for n in range(len(hits))]
    return sum(max(precision[n:]) for n in range(len(hits)) if hits[n]) / count


spans = st.tuples(st.integers(0, 8), st.integers(1, 6))
instances = st.lists(spans, max_size=3)
detections = st.lists(st.tuples(spans, st.integers(1, 3)), min_size=1, max_size=6)


@given(
    st.fixed_dictionaries({"v": instances, "w": instances}),
    st.lists(st.tuples(st.sampled_from("vw"), spans, st.integers(1, 2)), min_size=1, max_size=6),
    st.sampled_from([0.1, 0.3, 0.5]),
)
def test_no_order_leaves_the_range_and_exact_ends_are_reached(
    true: dict[str, list[tuple[int, int]]],
    found: list[tuple[str, tuple[int, int], int]],
    threshold: float,
) -> None:
    if not any(true.values()):
        return
    truth = videos({video: [(s, s + d, 1.0) for s, d in listed] for video, listed in true.items()})
    predictions = videos({v: [(s, s + d, score) for w, (s, d), score in found if w == v] for v in "vw"})
    lowest, highest, exact = class_tie_range(match_segments(truth, predictions, (threshold,)))
    every = reachable(truth, predictions, threshold)
    assert lowest[0, 0] <= min(every) + 1e-12
    assert highest[0, 0] >= max(every) - 1e-12
    if exact[0, 0]:
        assert (lowest[0, 0], highest[0, 0]) == pytest.approx((min(every), max(every)))


def ends(true: Spans, found: Spans) -> tuple[float, float, bool]:
    ties = tie_range(match_segments(videos(true), videos(found), (0.5,)))
    return ties.lowest[0], ties.highest[0], ties.exact[0]


def test_one_right_and_one_wrong() -> None:
    right_and_wrong = {"v": [(0, 10, 0.5), (20, 30, 0.5)]}
    assert ends({"v": [(0, 10, 1)]}, right_and_wrong) == (0.5, 1.0, True)


def test_of_two_copies_the_first_is_right_in_any_order() -> None:
    assert ends({"v": [(0, 10, 1)]}, {"v": [(0, 10, 0.5), (0, 10, 0.5)]}) == (1.0, 1.0, True)


def test_the_longest_group_of_copies_comes_first_at_worst() -> None:
    # Three copies of one, one of another: hits at 1 and 4 (precision 1, 2/4), at best at 1 and 2.
    true: Spans = {"v": [(0, 10, 1)], "w": [(0, 10, 1)]}
    found: Spans = {"v": [(0, 10, 0.5)] * 3, "w": [(0, 10, 0.5)]}
    assert ends(true, found) == (0.75, 1.0, True)


def test_competition_for_different_instances_gives_bounds() -> None:
    # Both prefer [0, 10]; the second could also take [4, 14]. One order finds both, the other one only.
    true: Spans = {"v": [(0, 10, 1), (5, 15, 1)]}
    found: Spans = {"v": [(0, 9, 0.5), (2, 12, 0.5)]}
    lowest, highest, exact = ends(true, found)
    assert not exact
    every = reachable(videos(true), videos(found), 0.5)
    assert lowest <= min(every) < max(every) == highest == 1.0


def test_different_scores_cannot_move() -> None:
    matching = match_segments(
        videos({"v": [(0, 10, 1), (20, 30, 1)]}),
        videos({"v": [(0, 10, 0.5), (50, 60, 0.4), (20, 30, 0.3)]}),
        (0.5, 0.75),
    )
    ties = tie_range(matching)
    assert ties.tied_predictions == 0
    assert ties.lowest == ties.highest == tuple(class_average_precision(matching)[0])
    assert ties.exact == (True, True)


def test_all_scores_equal_on_published_detections(shared_data: Path) -> None:
    folder = shared_data / "eval"
    truth = read_ground_truth(folder / "activitynet13_val_ground_truth.json", empty_segments="count")
    predictions = read_segments(folder / "montes2016_06_e100.json")
    empty = [(label, video.video_id) for video in truth.videos for label in video.empty_labels]
    matching = match_segments(
        truth.segments, predictions, (0.5, 0.75, 0.95), unknown_videos=True, empty_truth=empty
    )
    ties = tie_range(matching)
    assert ties.tied_predictions == 4570
    case = json.loads((folder / "expected.json").read_text())["cases"]["montes2016_06_e100"]
    for order in ("ties_first_listed_first", "ties_last_listed_first"):
        official = np.array(case[order]["mAP"])[[0, 5, 9]]
        assert np.all(np.array(ties.lowest) < official)
        assert np.all(np.array(ties.highest) > official)
    assert ties.lowest_average == pytest.approx(np.mean(ties.lowest))
