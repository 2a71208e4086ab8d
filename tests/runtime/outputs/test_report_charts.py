"""Curves and confusion of an evaluation page: tables worked by hand, and properties."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fakes import seg
from hypothesis import given, settings
from hypothesis import strategies as st

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.bootstrap import bootstrap_map
from tsm_runtime.evaluation.diagnosis import Diagnosis, ErrorProfile, Gain, TraitBin, TraitBins
from tsm_runtime.evaluation.matching import Matching, match_segments
from tsm_runtime.evaluation.protocol import evaluate
from tsm_runtime.formats.ground_truth import VideoAnnotation
from tsm_runtime.outputs.report.content import Confusion, PrecisionRecall, Report
from tsm_runtime.outputs.report.diagnosis_charts import diagnosis_charts
from tsm_runtime.outputs.report.evaluation_charts import (
    chart_evaluation,
    confusion_matrix,
    precision_recall,
    prediction_videos,
)
from tsm_runtime.outputs.report.page import report_page
from tsm_runtime.outputs.report.page_data import page_data
from tsm_runtime.results import Segment

Segments = dict[str, list[Segment]]


def matched(truth: list[Segment], predictions: list[Segment], *thresholds: float) -> Matching:
    return match_segments({"v": truth}, {"v": predictions}, thresholds or (0.5,))


@st.composite
def segment_sets(draw: st.DrawFn) -> Segments:
    bounds = st.tuples(st.integers(0, 8), st.integers(1, 4), st.sampled_from("abc"), st.integers(1, 5))
    lists = st.lists(bounds, max_size=8)
    return {
        video: [seg(label, start, start + length, score / 5) for start, length, label, score in draw(lists)]
        for video in ("v", "w")
    }


# --- precision over recall ------------------------------------------------------------------------


def test_steps_by_hand() -> None:
    # Hits: no, yes, yes, no, yes of 4 instances. Precision at the hits 1/2, 2/3, 3/5; envelope 2/3, 2/3, 3/5.
    truth = [seg("a", 10 * n, 10 * n + 5) for n in range(4)]
    places = [(90, 95), (0, 5), (10, 15), (80, 85), (20, 25)]
    predictions = [seg("a", *place, score=0.9 - n / 10) for n, place in enumerate(places)]
    (curve,) = precision_recall(matched(truth, predictions))
    assert (curve.label, curve.tiou) == ("a", 0.5)
    assert curve.recall == (0.5, 0.75)
    assert curve.precision == pytest.approx((2 / 3, 3 / 5))
    assert curve.area == pytest.approx(0.5 * 2 / 3 + 0.25 * 3 / 5)


def test_a_class_without_predictions_has_no_steps() -> None:
    (curve,) = precision_recall(matched([seg("a", 0, 1)], []))
    assert (curve.recall, curve.precision, curve.area) == ((), (), 0.0)


@settings(max_examples=50)
@given(segment_sets(), segment_sets())
def test_the_area_is_the_average_precision(truth: Segments, predictions: Segments) -> None:
    if not any(truth.values()):
        return
    thresholds = (0.3, 0.5, 0.75)
    expected = evaluate(truth, predictions, thresholds).ap
    curves = precision_recall(match_segments(truth, predictions, thresholds))
    assert [(c.label, c.tiou) for c in curves] == [(a, t) for a in sorted(expected) for t in thresholds]
    for curve in curves:
        assert curve.area == pytest.approx(expected[curve.label][thresholds.index(curve.tiou)])
        assert list(curve.recall) == sorted(set(curve.recall))
        assert list(curve.precision) == sorted(set(curve.precision), reverse=True)


def test_a_curve_checks_its_lengths() -> None:
    with pytest.raises(ValueError, match="1 recalls for 0 precisions"):
        PrecisionRecall(label="a", tiou=0.5, recall=(1.0,), precision=())


# --- confusion ------------------------------------------------------------------------------------


def test_confusion_by_hand() -> None:
    truth = [seg("a", 0, 10), seg("a", 20, 30), seg("b", 40, 50), seg("b", 60, 70)]
    predictions = [
        seg("a", 0, 10, 0.9),  # right
        seg("a", 1, 10, 0.8),  # a duplicate: nothing is free there
        seg("b", 21, 30, 0.7),  # a taken for b
        seg("a", 40, 50, 0.6),  # b taken for a ...
        seg("b", 41, 50, 0.5),  # ... but this finds that b, whatever its lower score
        seg("b", 90, 95, 0.4),  # nothing is there
    ]
    matrix = confusion_matrix(matched(truth, predictions))
    assert matrix.labels == ("a", "b")
    assert matrix.counts == (
        (1, 1, 0),  # true a: found, taken for b
        (0, 1, 1),  # true b: one found, one missed
        (2, 1, 0),  # nothing there: the duplicate, the a over a found b, the last b
    )


def test_the_higher_score_takes_the_instance_of_another_class() -> None:
    truth = [seg("a", 0, 10), seg("b", 50, 51), seg("c", 60, 61)]
    matrix = confusion_matrix(matched(truth, [seg("c", 0, 10, 0.3), seg("b", 0, 6, 0.9)]))
    assert matrix.counts[0] == (0, 1, 0, 0)
    assert matrix.counts[3] == (0, 0, 1, 0)


def test_the_best_instance_of_another_class_is_taken() -> None:
    truth = [seg("a", 0, 10), seg("b", 3, 10), seg("c", 90, 91)]
    matrix = confusion_matrix(matched(truth, [seg("c", 3, 10, 0.9)]))
    assert [row[2] for row in matrix.counts] == [0, 1, 0, 0]
    assert [row[3] for row in matrix.counts] == [1, 0, 1, 0]


def test_confusion_counts_empty_instances() -> None:
    matching = match_segments(
        {"v": [seg("a", 0, 10)]}, {"v": [seg("a", 0, 10, 0.4)]}, (0.5,), empty_truth=[("b", None)]
    )
    assert confusion_matrix(matching).counts == ((1, 0, 0), (0, 0, 1), (0, 0, 0))


def test_confusion_needs_its_threshold() -> None:
    with pytest.raises(UsageError, match=r"at tIoU 0\.5: the evaluation was done at 0\.75, 0\.95"):
        confusion_matrix(matched([seg("a", 0, 1)], [], 0.75, 0.95))


@settings(max_examples=50)
@given(segment_sets(), segment_sets())
def test_confusion_counts_everything_once(truth: Segments, predictions: Segments) -> None:
    if not any(truth.values()):
        return
    matching = match_segments(truth, predictions, (0.5,))
    matrix = confusion_matrix(matching)
    known = matrix.labels
    for i, label in enumerate(known):
        listed = [s for segments in predictions.values() for s in segments if s.label == label]
        assert sum(matrix.counts[i]) == sum(s.label == label for v in truth.values() for s in v)
        assert sum(row[i] for row in matrix.counts) == len(listed)
    assert sum(matrix.counts[i][i] for i in range(len(known))) == matching.hits.sum()
    assert matrix.counts[-1][-1] == 0


def test_a_matrix_checks_its_shape() -> None:
    with pytest.raises(ValueError, match="1 labels: expected 2 rows of 2 counts"):
        Confusion(labels=("a",), counts=((1,),), tiou=0.5)


# --- the whole evaluation -------------------------------------------------------------------------


def test_evaluation_report_gathers_everything() -> None:
    truth = {"v": [seg("a", 0, 10)], "w": [seg("b", 0, 10)]}
    predictions = {"v": [seg("a", 0, 10, 0.9), seg("z", 0, 10, 0.9)], "w": []}
    matching = match_segments(truth, predictions, (0.5, 0.75))
    drawn = bootstrap_map(matching, replicates=20)
    diagnosis = {"chart": {"bar": {"part": 0.25}}}
    report = chart_evaluation(
        matching, predictions, bootstrap=drawn, diagnosis=diagnosis, scene_accuracy=0.5, notes=["a note"]
    )
    shown = page_data(Report(title="T", evaluation=report), [])["evaluation"]
    assert shown["map"] == [0.5, 0.5]
    assert shown["ap"] == [[1.0, 1.0], [0.0, 0.0]]
    assert (shown["videos"], shown["truth"], shown["predictions"], shown["scene"]) == (2, 2, 1, 0.5)
    assert shown["bootstrap"]["average"] == [drawn.average.low, drawn.average.high]
    assert len(shown["bootstrap"]["tiou"]) == 2
    assert shown["curves"][0] == {"label": "a", "tiou": 0.5, "points": [[1.0, 1.0]]}
    assert shown["confusion"]["tiou"] == 0.5
    assert shown["diagnosis"] == [{"title": "chart", "bars": [["bar", [("part", 0.25)]]]}]
    assert shown["notes"] == ["a note"]


def test_without_one_half_the_confusion_is_at_the_lowest_threshold() -> None:
    report = chart_evaluation(matched([seg("a", 0, 1)], [], 0.75, 0.6), {})
    assert report.confusion is not None
    assert report.confusion.tiou == 0.6


def test_long_curves_are_thinned_to_what_can_be_seen() -> None:
    truth = [seg("a", 10 * n, 10 * n + 5) for n in range(1500)]
    predictions = []
    for n in range(1500):
        predictions.append(seg("a", 10 * n, 10 * n + 5, 1 - n / 1500))
        if n % 3 == 0:
            predictions.append(seg("a", 10 * n + 6, 10 * n + 8, 1 - n / 1500))
    report = chart_evaluation(matched(truth, predictions), {"v": predictions})
    points = page_data(Report(title="T", evaluation=report), [])["evaluation"]["curves"][0]["points"]
    assert len(points) < 900
    assert points[-1][0] == 1.0
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)


def test_timelines_of_an_evaluation_are_limited() -> None:
    videos = [
        VideoAnnotation(
            video_id=f"v{n}", subset="", duration_seconds=n, scene=None, segments=(seg("a", 0, 3),)
        )
        for n in range(5)
    ]
    predictions = {"v0": [seg("a", n, n + 1, n / 10) for n in range(6)], "v9": [seg("a", 0, 1)]}
    shown, notes = prediction_videos(videos, predictions, max_videos=2, max_segments=4)
    assert [video.result.video_id for video in shown] == ["v0", "v1"]
    assert [s.score for s in shown[0].result.segments] == [0.2, 0.3, 0.4, 0.5]
    assert shown[0].result.duration_seconds == 6.0
    assert shown[1].result.duration_seconds == 3.0  # the truth is longer than the claimed second
    assert [re.sub(r"\D+", " ", note).split() for note in notes] == [["2", "5"], ["4", "2"]]
    assert prediction_videos(videos, {})[1] == ()


def test_an_evaluation_page_is_written() -> None:
    truth = {"v": [seg("</script>", 0, 10)]}
    report = chart_evaluation(match_segments(truth, truth, (0.5,)), truth)
    page = report_page(Report(title="T", evaluation=report), Path("page.html"))
    assert page.count("</script") == 2


def test_a_diagnosis_becomes_charts() -> None:
    found = Diagnosis(
        profile=ErrorProfile(
            kinds=("true positive", "background"), shares=((0.75, 0.25), (0.5, 0.5)), predictions=(8, 4)
        ),
        gains=(Gain(kind="background", average_map=0.125, normalised_map=0.1),),
        normalised_map=0.5,
        missed=0.25,
        traits=(
            TraitBins(
                name="length", bins=(TraitBin(name="S", instances=6, normalised_map=0.375, missed=0.5),)
            ),
        ),
    )
    assert diagnosis_charts(found) == {
        "Kinds of prediction by rank, % (G: true instances of a class)": {
            "1 G (8)": {"true positive": 75.0, "background": 25.0},
            "2 G (4)": {"true positive": 50.0, "background": 50.0},
        },
        "Gain in average mAP without one kind of error, points": {"background": {"gain": 12.5}},
        "Normalised mAP by length, %": {"S (6)": {"normalised mAP": 37.5}},
        "Missed instances by length, %": {"S (6)": {"missed": 50.0}},
    }
