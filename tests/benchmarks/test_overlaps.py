"""What the benchmark of short and overlapping actions counts, chooses and tells."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.results import BACKGROUND, IntervalScores, Segment
from tsm_train.data.video import TrainingVideo

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from _overlap_rows import (
    Grid,
    Source,
    bins_of,
    overlap_name,
    perfect_scores,
    rows_of,
    specs_of,
    traits_of,
    ways_of,
)

SPEC = ClipSpec(interval_seconds=0.5)
NONE = Grid((1,), (0.0,), (0.0,))


def segment(label: str, start: float, end: float) -> Segment:
    return Segment(label=label, start_seconds=start, end_seconds=end)


def video(name: str, *segments: Segment, seconds: float = 4.0) -> TrainingVideo:
    return TrainingVideo(
        video_id=name,
        path=Path(f"{name}.mp4"),
        capture=name,
        subset="test",
        segments=segments,
        duration_seconds=seconds,
    )


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([], "alone"),
        ([("a", 1.0, 2.0)], "alone"),  # of the same label
        ([("b", 0.0, 1.0), ("c", 2.0, 3.0)], "alone"),  # they touch it
        ([("b", 0.0, 1.4)], "less than half"),
        ([("b", 0.0, 1.5)], "half or more"),
        ([("b", 1.1, 1.4), ("c", 1.2, 1.4)], "less than half"),  # their union is 0.3 s
        ([("b", 1.0, 1.3), ("c", 1.7, 2.0)], "half or more"),
    ],
)
def test_how_much_others_cover(others: list[tuple[str, float, float]], expected: str) -> None:
    own = segment("a", 1.0, 2.0)
    assert overlap_name(own, [own, *(segment(*other) for other in others)]) == expected


def test_traits_tell_short_from_long() -> None:
    truth = {"v": [segment("a", 1.0, 1.4), segment("b", 1.0, 1.44), segment("a", 2.0, 3.0)]}
    length, overlap, both = traits_of(truth)
    assert list(length.values.values()) == ["short", "long", "long"]
    assert list(overlap.values.values()) == ["half or more", "half or more", "alone"]
    assert list(both.values.values()) == ["short, half or more", "long, half or more", "long, alone"]


def test_a_perfect_classifier_says_what_intervals_are_taught() -> None:
    """a covers [0, 2), b [0.5, 1) and [1.75, 2) of it: b's second half second is half covered by both."""
    one = video("v", segment("a", 0.0, 2.0), segment("b", 0.5, 1.0), segment("b", 1.75, 2.0), seconds=2.5)
    softmax = perfect_scores([one], ("a", "b", BACKGROUND), [SPEC])[SPEC]["v"]
    assert softmax.action.argmax(axis=1).tolist() == [0, 1, 0, 0, 2]  # b is the shorter where both cover all
    assert softmax.action.sum(axis=1).tolist() == [1.0] * 5
    sigmoid = perfect_scores([one], ("a", "b"), [SPEC])[SPEC]["v"]
    assert sigmoid.action.tolist() == [[1, 0], [1, 1], [1, 0], [1, 1], [0, 0]]


def test_a_perfect_classifier_of_overlapping_intervals_is_averaged() -> None:
    one = video("v", segment("a", 0.5, 1.0), seconds=1.5)
    (_, half) = specs_of(SPEC, (1, 2))
    cells = perfect_scores([one], ("a",), [half])[half]["v"]
    # Intervals at 0, 0.25, 0.5, 0.75, 1: of a are those at 0.25, 0.5, 0.75; a cell is the mean of two.
    assert cells.action[:, 0].tolist() == [0, 0.5, 1, 1, 0.5, 0]


def perfect_source(labels: tuple[str, ...], *videos: TrainingVideo) -> Source:
    scores = perfect_scores(videos, labels, [SPEC])
    return Source("perfect", labels, [SPEC], scores, scores)


def test_one_label_an_interval_misses_what_is_covered() -> None:
    videos = [
        video("v", segment("a", 0.0, 1.0), segment("b", 2.0, 3.0)),
        video("w", segment("a", 0.0, 3.0), segment("b", 1.0, 2.0)),
    ]
    plain = {}
    for labels in (("a", "b"), ("a", "b", BACKGROUND)):
        row = rows_of(perfect_source(labels, *videos), videos, videos, NONE)[0]
        assert row.way == "plain"
        plain[labels] = row
    sigmoid, softmax = plain.values()
    assert sigmoid.judged.evaluation.average_map == 1.0
    # Softmax cuts the long a of w in two: [0, 1) and [2, 3) instead of [0, 3).
    found = [(s.label, s.start_seconds, s.end_seconds) for s in softmax.judged.predictions["w"]]
    assert found == [("a", 0.0, 1.0), ("b", 1.0, 2.0), ("a", 2.0, 3.0)]
    truth = {v.video_id: v.segments for v in videos}
    bins = bins_of(softmax.judged, truth)["length, overlap"]
    assert (bins["long, alone"]["instances"], bins["long, alone"]["found"]) == (2, 100.0)
    assert (bins["long, less than half"]["instances"], bins["long, less than half"]["found"]) == (1, 0.0)
    assert (bins["long, half or more"]["instances"], bins["long, half or more"]["found"]) == (1, 100.0)
    assert all(part["found"] == 100.0 for part in bins_of(sigmoid.judged, truth)["overlap"].values())


def test_ways_of_a_softmax_head() -> None:
    specs = specs_of(SPEC, (1, 2, 4))
    one = video("v", segment("a", 0.0, 1.0))
    scores = perfect_scores([one], ("a", BACKGROUND), specs)
    source = Source("s", ("a", BACKGROUND), specs, scores, scores)
    ways = ways_of(source, [one], Grid((1, 2, 4), (0.0, 0.6), (0.0, 0.7)))
    used = {
        way: sorted(
            (one.spec.num_overlapping, one.rules.smoothing_seconds, one.rules.min_duration_seconds)
            for one in settings
        )
        for way, settings in ways.items()
    }
    assert used == {
        "plain": [(1, 0.0, 0.0)],
        "stride t/2": [(2, 0.0, 0.0)],
        "stride t/4": [(4, 0.0, 0.0)],
        "smoothing": [(1, 0.0, 0.0), (1, 0.6, 0.0)],
        "shortest duration": [(1, 0.0, 0.0), (1, 0.0, 0.7)],
        "all, chosen": [(m, w, d) for m in (1, 2, 4) for w in (0.0, 0.6) for d in (0.0, 0.7)],
    }
    assert {s.rules.thresholds for settings in ways.values() for s in settings} == {()}


def scores_of(*columns: list[float]) -> dict[str, IntervalScores]:
    action = np.array(columns, np.float32).T
    return {"v": IntervalScores(indices=np.arange(len(action)), action=action)}


def test_thresholds_fit_the_scores_that_they_are_for() -> None:
    """Smoothing over three intervals makes 0.9 beside zeros 0.3: a threshold chosen for it lies below."""
    one = video("v", segment("a", 1.0, 1.5), seconds=2.5)
    scores = {SPEC: scores_of([0.1, 0.0, 0.9, 0.0, 0.1])}
    source = Source("s", ("a",), [SPEC], scores, scores)
    ways = ways_of(source, [one], Grid((1,), (1.5,), (0.0,)))
    assert [s.rules.thresholds for s in ways["plain, thresholds 0.5"]] == [(0.5,)]
    (chosen,) = (s.rules.thresholds for s in ways["plain"])
    assert chosen == (pytest.approx(0.5),)  # between 0.9 and 0.1
    smooth = {s.rules.thresholds for s in ways["smoothing"] if s.rules.smoothing_seconds}
    assert (0.5,) in smooth
    assert min(smooth)[0] < 0.34


def test_validation_chooses_and_the_test_videos_are_told() -> None:
    """On validation a shortest duration helps, on the test video it drops what is true."""
    labels = ("a", BACKGROUND)
    short, long = [0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1], [0.9, 0.9, 0.1, 0.1, 0.95, 0.1, 0.1, 0.1]
    validation = {SPEC: scores_of(long, [1 - x for x in long])}
    test = {SPEC: scores_of(short, [1 - x for x in short])}
    known, unknown = video("v", segment("a", 0.0, 1.0)), video("v", segment("a", 1.0, 1.5))
    source = Source("s", labels, [SPEC], validation, test)
    rows = rows_of(source, [known], [unknown], Grid((1,), (0.0,), (1.0,)))
    reported = {row.way: (row.validation_map, row.judged.evaluation.average_map) for row in rows}
    assert reported["plain"] == (0.5, 1.0)  # the false one has the higher score
    assert reported["shortest duration"] == (1.0, 0.0)
    truth = {"v": unknown.segments}
    assert "difference" not in rows[0].described(truth, rows[0])
    assert rows[0].described(truth, rows[0])["map"] == 100.0
