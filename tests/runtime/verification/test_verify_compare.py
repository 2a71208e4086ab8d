"""Differences of scores and segments, tolerances, and the calls that a file is scored in."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from fakes import seg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tsm_runtime.bundle.manifest import EngineInfo, ModelFile
from tsm_runtime.errors import UsageError
from tsm_runtime.results import BACKGROUND, IntervalScores, Segment
from tsm_runtime.segments.find import merge_intervals
from tsm_runtime.verification.compare import (
    RELATIVE_FLOOR,
    HeadDifference,
    SegmentAgreement,
    compare_head,
    compare_segments,
)
from tsm_runtime.verification.score import batch_sizes, plan_batches
from tsm_runtime.verification.tolerances import TOLERANCES, Tolerance, tolerance_for


def scores(*rows: list[float]) -> npt.NDArray[np.float32]:
    return np.array(rows, np.float32)


# --- heads ----------------------------------------------------------------------------------------


def test_a_head_by_hand() -> None:
    first = scores([0.7, 0.2, 0.1], [0.1, 0.6, 0.3])
    second = scores([0.6, 0.3, 0.1], [0.1, 0.4, 0.5])
    difference = compare_head(first, second)
    assert difference.max_abs_error == pytest.approx(0.2)  # 0.6 to 0.4, and 0.3 to 0.5
    assert difference.max_rel_error == pytest.approx(0.2 / 0.5)
    assert difference.top1_agreement == 0.5


def test_tiny_probabilities_do_not_dominate_the_relative_error() -> None:
    difference = compare_head(scores([0.5, 0.5, 1e-9]), scores([0.5, 0.5, 1e-8]))
    assert difference.max_rel_error == pytest.approx(9e-9 / RELATIVE_FLOOR)
    larger = compare_head(scores([0.5, 0.4, 0.1]), scores([0.5, 0.42, 0.08]))
    assert larger.max_rel_error == pytest.approx(0.2)  # 0.02 of 0.1; of 0.42 it is less


@pytest.mark.parametrize(
    ("first", "second"), [((2, 3), (3, 3)), ((2, 3), (2, 4)), ((0, 3), (0, 3)), ((3,), (3,))]
)
def test_shapes_that_cannot_be_compared(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected two equal shapes"):
        compare_head(np.zeros(first, np.float32), np.zeros(second, np.float32))


probabilities = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 4)),
    elements=st.floats(0, 1, width=32),
)


@settings(max_examples=50)
@given(probabilities, st.randoms(use_true_random=False), st.data())
def test_which_model_is_which_does_not_matter(
    first: npt.NDArray[np.float32], random: np.random.Generator, data: st.DataObject
) -> None:
    second = data.draw(hnp.arrays(np.float32, first.shape, elements=st.floats(0, 1, width=32)))
    difference = compare_head(first, second)
    assert difference == compare_head(second, first)
    assert compare_head(first, first) == HeadDifference(
        max_abs_error=0.0, max_rel_error=0.0, top1_agreement=1.0
    )
    order = list(range(len(first)))
    random.shuffle(order)
    shuffled = compare_head(first[order], second[order])
    assert shuffled.max_abs_error == difference.max_abs_error
    assert shuffled.max_rel_error == difference.max_rel_error
    assert shuffled.top1_agreement == pytest.approx(difference.top1_agreement)
    assert difference.max_abs_error <= difference.max_rel_error <= 1  # no probability is larger than 1
    assert difference.max_rel_error <= difference.max_abs_error / RELATIVE_FLOOR * (1 + 1e-12)
    worst = max(abs(float(a) - float(b)) for a, b in zip(first.flat, second.flat, strict=True))
    assert difference.max_abs_error == worst


# --- segments -------------------------------------------------------------------------------------


def test_segments_by_hand() -> None:
    first = [seg("hug", 0, 10), seg("kick", 20, 30), seg("hug", 40, 42)]
    second = [seg("hug", 1, 10), seg("kick", 24, 34), seg("push", 40, 42)]  # tIoU 0.9, 6/14; other label
    agreement = compare_segments(first, second)
    assert agreement == SegmentAgreement(num_first=3, num_second=3, num_shared=1)
    assert agreement.share == pytest.approx(1 / 3)


def test_a_segment_broken_in_two() -> None:
    whole, halves = [seg("hug", 0, 10)], [seg("hug", 0, 5), seg("hug", 5.5, 10)]
    assert compare_segments(whole, halves).share == 0  # tIoU 0.5 is not over 0.5
    uneven = [seg("hug", 0, 6), seg("hug", 6.5, 10)]
    assert compare_segments(whole, uneven).share == pytest.approx(2 / 3)


def test_no_segments() -> None:
    assert compare_segments([], []).share == 1
    assert compare_segments([seg("hug", 0, 1)], []).share == 0
    assert compare_segments([], [seg("hug", 0, 1)]).share == 0


@pytest.mark.parametrize("interval_seconds", [0.1, 0.3, 0.7, 1 / 3])
def test_exactly_one_half_is_never_over_one_half(interval_seconds: float) -> None:
    for first in range(40):
        long = [seg("hug", first * interval_seconds, (first + 6) * interval_seconds)]
        short = [seg("hug", first * interval_seconds, (first + 3) * interval_seconds)]
        assert compare_segments(long, short).num_shared == 0


LABELS = ("hug", "kick", BACKGROUND)
best_labels = st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=1, max_size=14)


def merged(best: list[int], interval_seconds: float) -> list[Segment]:
    action = np.eye(len(LABELS), dtype=np.float32)[best]
    return merge_intervals(
        IntervalScores(indices=np.arange(len(best)), action=action), LABELS, interval_seconds
    )


def runs(best: list[int]) -> list[tuple[int, int, int]]:
    """(label, first interval, stop) of each run that is no background."""
    found, start = [], 0
    for i in range(1, len(best) + 1):
        if i == len(best) or best[i] != best[start]:
            found.append((best[start], start, i))
            start = i
    return [run for run in found if run[0] != 2]


def most_pairs(first: list[tuple[int, int, int]], second: list[tuple[int, int, int]]) -> int:
    """The best one-to-one matching, by trying all."""
    if not first:
        return 0
    (label, start, stop), rest = first[0], first[1:]
    best = most_pairs(rest, second)
    for number, (other, begin, end) in enumerate(second):
        overlap = max(0, min(stop, end) - max(start, begin))
        union = stop - start + end - begin - overlap
        if other == label and Fraction(overlap, union) > Fraction(1, 2):
            best = max(best, 1 + most_pairs(rest, second[:number] + second[number + 1 :]))
    return best


@given(best_labels, best_labels, st.sampled_from([0.1, 0.25, 0.5, 1 / 3, 0.7]))
def test_segments_are_matched_as_well_as_can_be(
    first: list[int], second: list[int], interval_seconds: float
) -> None:
    one, other = merged(first, interval_seconds), merged(second, interval_seconds)
    agreement = compare_segments(one, other)
    assert (agreement.num_first, agreement.num_second) == (len(runs(first)), len(runs(second)))
    assert agreement.num_shared == most_pairs(runs(first), runs(second))
    back = compare_segments(other, one)
    assert (back.num_shared, back.share) == (agreement.num_shared, agreement.share)
    assert 0 <= agreement.share <= 1
    assert compare_segments(one, one).share == 1


# --- tolerances -----------------------------------------------------------------------------------


def head(error: float, top1: float = 1.0) -> HeadDifference:
    return HeadDifference(max_abs_error=error, max_rel_error=20 * error, top1_agreement=top1)


def shared(number: int, of: int) -> SegmentAgreement:
    return SegmentAgreement(num_first=of, num_second=of, num_shared=number)


def test_differences_beyond_tolerance_are_listed_by_output() -> None:
    tolerance = Tolerance(max_abs_error=0.01, least_top1=0.9, least_segments=0.5)
    heads = {"action_scores": head(0.02, 0.85), "scene_scores": head(0.01, 0.9)}
    assert list(tolerance.problems(heads, shared(1, 4))) == [
        "action_scores: error 0.02, allowed is 0.01",
        "action_scores: top-1 agreement 85.0 %, at least 90 % is required",
        "segment agreement 25.0 %, at least 50 % is required",
    ]
    assert list(tolerance.problems(heads, None)) == ["action_scores: error 0.02, allowed is 0.01"]
    assert list(tolerance.problems({"scene_scores": head(0.01, 0.9)}, shared(2, 4))) == []


@pytest.mark.parametrize(
    ("precision", "error", "top1", "segments", "passes"),
    [
        ("fp32", 9e-5, 1.0, 1.0, True),
        ("fp32", 2e-4, 1.0, 1.0, False),
        ("fp16", 9e-3, 1.0, 1.0, True),
        ("fp16", 6e-2, 1.0, 1.0, False),
        ("int8", 0.31, 0.953, 0.75, True),  # worst seen of a well calibrated one
        ("int8", 0.92, 0.781, 0.556, False),  # seen of one that was calibrated on dark noise
        ("int8-trt", 0.21, 0.953, 0.75, True),
        ("int8-trt", 0.1, 1.0, 0.4, False),
    ],
)
def test_a_precision_is_judged_by_its_own_tolerance(
    precision: str, error: float, top1: float, segments: float, passes: bool
) -> None:
    agreement = SegmentAgreement(num_first=1000, num_second=1000, num_shared=round(1000 * segments))
    problems = list(tolerance_for(precision).problems({"action_scores": head(error, top1)}, agreement))
    assert (problems == []) == passes


def test_a_given_tolerance_takes_the_place_of_the_absolute_one() -> None:
    for precision, own in TOLERANCES.items():
        given_one = tolerance_for(precision, 0.003)
        assert given_one.max_abs_error == 0.003
        assert (given_one.least_top1, given_one.least_segments) == (own.least_top1, own.least_segments)
    for value in (-0.1, 1.5, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="expected 0 to 1"):
            tolerance_for("fp32", value)


# --- calls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "sizes"),
    [((1, 8, 32), (1, 8)), ((4, 4, 16), (4, 16)), ((2, 8, 8), (2, 8)), ((8, 8, 8), (8,))],
)
def test_an_engine_is_compared_within_its_profile(
    profile: tuple[int, int, int], sizes: tuple[int, ...]
) -> None:
    engine = EngineInfo(library="tensorrt", version="10.16", batch=profile, onnx_sha256="")
    assert batch_sizes(ModelFile(sha256="", precision="fp16", engine=engine)) == sizes
    assert batch_sizes(ModelFile(sha256="", precision="fp16")) == (1, 4)


@given(st.integers(1, 40), st.lists(st.integers(1, 9), min_size=1, max_size=2, unique=True))
def test_every_clip_is_scored_once_in_full_calls(num_clips: int, sizes: list[int]) -> None:
    calls = list(plan_batches(num_clips, sizes))
    assert [len(clips) for clips, _ in calls] == [sizes[i % len(sizes)] for i in range(len(calls))]
    new = [clip for clips, num_new in calls for clip in clips[:num_new].tolist()]
    assert new == list(range(num_clips))
    assert all((clips < num_clips).all() for clips, _ in calls)
