"""mAP: tables worked out by hand, a slow transcription of the protocol, and the official code's figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.matching import match_segments
from tsm_runtime.evaluation.modes import DEFAULT_TIOU_THRESHOLDS
from tsm_runtime.evaluation.protocol import evaluate, scene_accuracy, score_matching, tiou
from tsm_runtime.formats.ground_truth import read_ground_truth
from tsm_runtime.formats.read_write import read_segments
from tsm_runtime.results import Segment

TENTHS = tuple(float(value) for value in np.linspace(0.5, 0.95, 10))


def seg(start: float, end: float, score: float = 1.0, label: str = "a") -> Segment:
    return Segment(label=label, start_seconds=start, end_seconds=end, score=score)


def ap(truth: list[Segment], predictions: list[Segment], threshold: float = 0.5) -> float:
    return evaluate({"v": truth}, {"v": predictions}, (threshold,)).ap["a"][0]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, 2), (1, 3), 1 / 3),
        ((0, 2), (0, 2), 1),
        ((0, 1), (1, 2), 0),
        ((0, 1), (5, 6), 0),
        ((0, 4), (1, 2), 0.25),
    ],
)
def test_tiou(first: tuple[float, float], second: tuple[float, float], expected: float) -> None:
    assert tiou(seg(*first), seg(*second)) == pytest.approx(expected)
    assert tiou(seg(*second), seg(*first)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("truth", "predictions", "expected"),
    [
        pytest.param([(0, 10)], [(0, 10, 0.9)], 1.0, id="found"),
        pytest.param([(0, 10)], [], 0.0, id="no prediction"),
        pytest.param([(0, 10)], [(20, 30, 0.9)], 0.0, id="elsewhere"),
        pytest.param([(0, 10)], [(0, 5, 0.9)], 1.0, id="tIoU equal to the threshold"),
        pytest.param([(0, 10)], [(0, 4.9, 0.9)], 0.0, id="tIoU below the threshold"),
        pytest.param([(0, 10), (20, 30)], [(0, 10, 0.9)], 0.5, id="one of two"),
        pytest.param([(0, 10)], [(20, 30, 0.9), (0, 10, 0.8)], 0.5, id="false positive first"),
        pytest.param([(0, 10)], [(0, 10, 0.9), (20, 30, 0.8)], 1.0, id="false positive last"),
        # precision 1, 1/2, 2/3 -> envelope at the two hits 1 and 2/3; (1 + 2/3) / 2
        pytest.param(
            [(0, 10), (20, 30)], [(0, 10, 0.9), (0, 10, 0.8), (20, 30, 0.7)], 5 / 6, id="duplicate is false"
        ),
        # second prediction: the best instance is taken, the second best (tIoU 8/12) is free
        pytest.param(
            [(0, 10), (2, 12)], [(0, 10, 0.9), (0, 10, 0.8)], 1.0, id="falls through to second best"
        ),
        # precision 0, 1/2, 2/3: the envelope lifts the first hit to 2/3
        pytest.param(
            [(0, 10), (20, 30)], [(50, 60, 0.9), (0, 10, 0.8), (20, 30, 0.7)], 2 / 3, id="monotone envelope"
        ),
    ],
)
def test_average_precision(
    truth: list[tuple[float, float]], predictions: list[tuple[float, float, float]], expected: float
) -> None:
    assert ap([seg(*t) for t in truth], [seg(*p) for p in predictions]) == pytest.approx(expected)


def test_a_tiou_on_the_threshold_survives_rounding_of_floats() -> None:
    # 0.3 / 0.4 with bounds that are not exact in binary.
    assert ap([seg(0.1, 0.5)], [seg(0.1, 0.1 + 0.3 - 1e-16)], 0.75) == 1.0


def test_thresholds_lock_independently() -> None:
    # The first prediction takes the instance at 0.5 only, so the exact one is a duplicate there.
    result = evaluate({"v": [seg(0, 10)]}, {"v": [seg(0, 6, 0.9), seg(0, 10, 0.8)]}, (0.5, 0.75))
    assert result.ap["a"] == pytest.approx((1.0, 0.5))
    assert result.map_per_tiou == pytest.approx((1.0, 0.5))
    assert result.average_map == pytest.approx(0.75)


def test_mean_over_the_classes_of_the_truth() -> None:
    truth = {"v": [seg(0, 10), seg(20, 30, label="b")], "w": []}
    result = evaluate(truth, {"v": [seg(0, 10)], "w": [seg(1, 2, 0.5)]}, (0.5,))
    assert result.ap == {"a": (1.0,), "b": (0.0,)}
    assert result.average_map == 0.5
    assert (result.num_truth, result.num_predictions) == (2, 2)


def test_predictions_in_a_video_without_instances_are_false() -> None:
    truth = {"v": [seg(0, 10)], "empty": []}
    assert evaluate(truth, {"empty": [seg(0, 10, 0.9)], "v": [seg(0, 10, 0.8)]}).ap["a"][0] == 0.5


def test_unknown_labels_and_videos_are_ignored_and_counted() -> None:
    predictions = {
        "v": [seg(0, 10, 0.5), seg(0, 10, 0.9, "dance"), seg(1, 2, 0.8, "dance")],
        "other": [seg(0, 10, 0.9), seg(0, 1, 0.3, "dance")],
        "nothing": [],
    }
    result = evaluate({"v": [seg(0, 10)]}, predictions)
    assert result.average_map == 1.0
    assert result.ignored_labels == {"dance": 2}
    assert result.ignored_videos == {"other": 2}
    assert result.num_predictions == 1
    assert result.warnings == (
        "2 predictions ignored, 1 label not in the ground truth: 'dance'",
        "2 predictions ignored, 1 video not in the ground truth: 'other'",
    )


def test_unknown_videos_can_count_as_false() -> None:
    predictions = {"other": [seg(0, 10, 0.9)], "v": [seg(0, 10, 0.8)]}
    matching = match_segments({"v": [seg(0, 10)]}, predictions, DEFAULT_TIOU_THRESHOLDS, unknown_videos=True)
    result = score_matching(matching, predictions)
    assert result.average_map == 0.5
    assert result.ignored_videos == {}
    assert result.warnings == ()


def test_empty_instances_count_as_missed() -> None:
    videos, empty = {"v": [seg(0, 10)]}, [("a", None), ("b", None), ("b", None)]
    result = score_matching(
        match_segments(videos, videos, DEFAULT_TIOU_THRESHOLDS, empty_truth=empty), videos
    )
    assert result.ap == {"a": (0.5, 0.5, 0.5), "b": (0.0, 0.0, 0.0)}
    assert result.num_truth == 4


def test_equal_scores_are_visited_by_video_then_time() -> None:
    truth = {"v1": [seg(0, 10)], "v2": []}
    right_first = {"v2": [seg(0, 10)], "v1": [seg(0, 10)]}
    assert evaluate(truth, right_first).ap["a"][0] == 1.0
    truth = {"v1": [], "v2": [seg(0, 10)]}
    assert evaluate(truth, right_first).ap["a"][0] == 0.5
    assert ap([seg(0, 10)], [seg(20, 30), seg(0, 10)]) == 1.0
    assert ap([seg(20, 30)], [seg(20, 30), seg(0, 10)]) == 0.5


@pytest.mark.parametrize("truth", [{}, {"v": []}])
def test_an_empty_truth_is_refused(truth: dict[str, list[Segment]]) -> None:
    with pytest.raises(UsageError, match="no action instance"):
        evaluate(truth, {"v": [seg(0, 1)]})


@pytest.mark.parametrize("thresholds", [(), (0.0,), (1.1,), (float("nan"),), (0.5, -0.1)])
def test_thresholds_out_of_range_are_refused(thresholds: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="tIoU thresholds"):
        evaluate({"v": [seg(0, 1)]}, {}, thresholds)


def test_scene_accuracy() -> None:
    truth = {"a": "yard", "b": "lawn", "c": "lawn", "d": None}
    assert scene_accuracy(truth, {"a": "yard", "b": "yard", "d": "lawn", "e": "lawn"}) == pytest.approx(1 / 3)
    with pytest.raises(UsageError, match="scene"):
        scene_accuracy({"d": None}, {"d": "lawn"})


# --- against a transcription of the protocol, sentence by sentence --------------------------------


def slow_ap(
    truth: dict[str, list[Segment]], predictions: dict[str, list[Segment]], label: str, threshold: float
) -> float:
    """AP of one class at one threshold with loops only."""
    ranked = [(-s.score, v, s.start_seconds, s.end_seconds, s) for v in truth for s in predictions.get(v, [])]
    ranked = sorted((row for row in ranked if row[4].label == label), key=lambda row: row[:4])
    locked: set[tuple[str, int]] = set()
    hits = []
    for _, video, _, _, prediction in ranked:
        instances = [s for s in truth[video] if s.label == label]
        instances.sort(key=lambda s: (s.start_seconds, s.end_seconds))
        order = sorted(range(len(instances)), key=lambda i: (-tiou(prediction, instances[i]), i))
        free = [
            i for i in order
            if tiou(prediction, instances[i]) >= threshold - 1e-9 and (video, i) not in locked
        ]  # fmt: skip
        hits.append(bool(free))
        locked.update((video, i) for i in free[:1])
    count = sum(s.label == label for segments in truth.values() for s in segments)
    precision = [sum(hits[: n + 1]) / (n + 1) for n in range(len(hits))]
    return sum(max(precision[n:]) for n in range(len(hits)) if hits[n]) / count


bounds = st.tuples(st.integers(0, 20), st.integers(1, 10))
any_segment = st.builds(
    lambda span, score, label: seg(span[0] / 2, (span[0] + span[1]) / 2, score / 4, label),
    bounds,
    st.integers(0, 4),
    st.sampled_from("ab"),
)
any_videos = st.dictionaries(st.sampled_from(["v1", "v2", "v3"]), st.lists(any_segment, max_size=8))


@given(any_videos, any_videos, st.sampled_from([0.1, 0.5, 0.75, 1.0]))
def test_equals_the_slow_transcription(
    truth: dict[str, list[Segment]], predictions: dict[str, list[Segment]], threshold: float
) -> None:
    labels = {s.label for segments in truth.values() for s in segments}
    if not labels:
        return
    result = evaluate(truth, predictions, (threshold,))
    assert set(result.ap) == labels
    for label in labels:
        assert result.ap[label][0] == pytest.approx(slow_ap(truth, predictions, label, threshold))


@given(any_videos, any_videos, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(
    truth: dict[str, list[Segment]], predictions: dict[str, list[Segment]], random: Any
) -> None:
    if not any(truth.values()):
        return

    def mixed(videos: dict[str, list[Segment]]) -> dict[str, list[Segment]]:
        items = [(video, random.sample(segments, len(segments))) for video, segments in videos.items()]
        random.shuffle(items)
        return dict(items)

    assert evaluate(mixed(truth), mixed(predictions)).ap == evaluate(truth, predictions).ap


# --- against the official code --------------------------------------------------------------------


@pytest.mark.parametrize("case", ["montes2016_06_e100", "x360_predictions_made", "mmaction2_tiny"])
def test_equals_the_official_code(shared_data: Path, case: str) -> None:
    folder = shared_data / "eval"
    expected = json.loads((folder / "expected.json").read_text())["cases"][case]
    # With tied scores only the figures for unique scores in listing order are a target.
    target = expected.get("ties_first_listed_first", expected)
    truth = read_ground_truth(folder / expected["ground_truth"], empty_segments="count").subset("validation")
    predictions = read_segments(folder / target.get("file", expected["file"]))

    def run(thresholds: list[float]) -> Any:
        empty = [(label, None) for video in truth.videos for label in video.empty_labels]
        matching = match_segments(
            truth.segments, predictions, thresholds, unknown_videos=True, empty_truth=empty
        )
        return score_matching(matching, predictions)

    result = run(expected["thresholds"])
    assert result.map_per_tiou == pytest.approx(target["mAP"], abs=1e-6)
    assert result.average_map == pytest.approx(target["average_mAP"], abs=1e-6)
    assert (result.num_truth, result.num_predictions) == (expected["instances"], expected["predictions"])
    for label, values in target.get("AP_per_class", {}).items():
        assert result.ap[label] == pytest.approx(values, abs=1e-6)
    for label, value in target.get("AP_per_class_at_0.5", {}).items():
        assert result.ap[label][0] == pytest.approx(value, abs=1e-6)
    if "mAP_360x" in target:
        assert run([0.5, 0.75, 0.95]).map_per_tiou == pytest.approx(target["mAP_360x"], abs=1e-6)


def test_pairs_are_compared_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)

    def drawn(count: int) -> dict[str, list[Segment]]:
        videos: dict[str, list[Segment]] = {"v0": [], "v1": [], "v2": []}
        for _ in range(count):
            start, length = rng.integers(0, 30), rng.integers(1, 8)
            label = "ab"[rng.integers(2)]
            videos[f"v{rng.integers(3)}"].append(seg(start, start + length, rng.random(), label))
        return videos

    truth, predictions = drawn(40), drawn(200)
    whole = evaluate(truth, predictions, TENTHS)
    monkeypatch.setattr("tsm_runtime.evaluation.matching._BLOCK_PAIRS", 7)
    assert evaluate(truth, predictions, TENTHS) == whole
    assert 0 < whole.average_map < 1
