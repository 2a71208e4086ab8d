"""Bootstrap: each replicate must equal an evaluation of the set with copies of its videos."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation import bootstrap
from tsm_runtime.evaluation.bootstrap import bootstrap_map
from tsm_runtime.evaluation.matching import match_segments
from tsm_runtime.evaluation.protocol import evaluate
from tsm_runtime.results import Segment

Videos = dict[str, list[Segment]]

segments = st.lists(
    st.builds(
        lambda start, length, score, label: Segment(
            label=label, start_seconds=start, end_seconds=start + length, score=score / 8
        ),
        st.integers(0, 9),
        st.integers(1, 6),
        st.integers(0, 8),
        st.sampled_from("ab"),
    ),
    max_size=5,
)
three = st.fixed_dictionaries({"u": segments, "v": segments, "w": segments})


def copies(videos: Videos, weight: dict[str, int]) -> Videos:
    return {f"{video}{n}": listed for video, listed in videos.items() for n in range(weight[video])}


def with_different_scores(videos: Videos, random: Random) -> Videos:
    """Equal scores have no order that the copies and the weights share."""
    scores = random.sample(range(1000), 100)
    return {video: [replace(s, score=scores.pop()) for s in listed] for video, listed in videos.items()}


@given(three, three, st.randoms(use_true_random=False), st.tuples(*[st.integers(0, 3)] * 3))
def test_a_replicate_equals_the_evaluation_of_the_copies(
    truth: Videos, predictions: Videos, random: Random, counts: tuple[int, ...]
) -> None:
    weight = dict(zip("uvw", counts, strict=True))
    predictions = with_different_scores(predictions, random)
    drawn = copies(truth, weight)
    if not any(drawn.values()):
        return
    thresholds = (0.3, 0.5, 0.9)
    matching = match_segments(truth, predictions, thresholds)
    found = bootstrap.map_of_replicates(matching, np.array(counts)[:, np.newaxis])[0]
    expected = evaluate(drawn, copies(predictions, weight), thresholds).map_per_tiou
    assert found == pytest.approx(expected)


def drawn_set(num_videos: int) -> tuple[Videos, Videos]:
    rng = np.random.default_rng(1)
    truth: Videos = {}
    predictions: Videos = {}
    for i in range(num_videos):
        start = float(rng.integers(0, 50))
        truth[f"v{i}"] = [Segment(label="a", start_seconds=start, end_seconds=start + 10)]
        shift = float(rng.normal(0, 3))
        predictions[f"v{i}"] = [
            Segment(
                label="a",
                start_seconds=max(0.0, start + shift),
                end_seconds=start + shift + 11,
                score=float(rng.random()),
            )
        ]
    return truth, predictions


def test_intervals_are_seeded_and_hold_the_value() -> None:
    truth, predictions = drawn_set(60)
    matching = match_segments(truth, predictions, (0.5, 0.75))
    first = bootstrap_map(matching, replicates=300, seed=3)
    assert first == bootstrap_map(matching, replicates=300, seed=3)
    assert first != bootstrap_map(matching, replicates=300, seed=4)
    result = evaluate(truth, predictions, (0.5, 0.75))
    for interval, value in zip(first.tiou, result.map_per_tiou, strict=True):
        assert 0 <= interval.low < value < interval.high <= 1
    assert first.average.low < result.average_map < first.average.high


def test_videos_that_are_all_alike_leave_no_doubt() -> None:
    segment = Segment(label="a", start_seconds=0, end_seconds=1)
    videos = {"v": [segment], "w": [segment]}
    intervals = bootstrap_map(match_segments(videos, videos, (0.5,)), replicates=20)
    assert (intervals.average.low, intervals.average.high) == (1.0, 1.0)


def test_empty_instances_are_drawn_with_their_video() -> None:
    segment = Segment(label="a", start_seconds=0, end_seconds=1)
    videos = {"v": [segment], "w": [segment]}
    known = match_segments(videos, videos, (0.5,), empty_truth=[("a", "w")])
    weight = np.array([[2, 0], [0, 2]])
    assert bootstrap.map_of_replicates(known, weight)[:, 0].tolist() == [1.0, 0.5]
    unknown = match_segments(videos, videos, (0.5,), empty_truth=[("a", None)])
    assert bootstrap.map_of_replicates(unknown, weight)[:, 0] == pytest.approx([2 / 3, 2 / 3])


def test_what_cannot_be_resampled_is_refused() -> None:
    segment = Segment(label="a", start_seconds=0, end_seconds=1)
    one = match_segments({"v": [segment]}, {}, (0.5,))
    two = match_segments({"v": [segment], "w": []}, {}, (0.5,))
    with pytest.raises(UsageError, match="2 videos"):
        bootstrap_map(one)
    with pytest.raises(UsageError, match="2 replicates"):
        bootstrap_map(two, replicates=1)
