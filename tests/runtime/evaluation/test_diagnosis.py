"""Diagnosis: one table with every kind of error, worked out by hand, and bins of instances."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.diagnosis import KINDS, classify_predictions, diagnose
from tsm_runtime.evaluation.instance_traits import DETAD_BORDERS, Trait, parse_bins, read_traits
from tsm_runtime.evaluation.matching import Matching, match_segments
from tsm_runtime.evaluation.modes import MODES
from tsm_runtime.formats.ground_truth import read_ground_truth
from tsm_runtime.results import Segment


def seg(start: float, end: float, score: float = 1.0, label: str = "a") -> Segment:
    return Segment(label=label, start_seconds=start, end_seconds=end, score=score)


TRUTH = {"v": [seg(0, 10), seg(20, 30, label="b")], "w": [seg(0, 10)], "empty": []}
FOUND = {
    "v": [
        seg(0, 10, 0.9),  # true
        seg(0, 9, 0.8),  # the same instance again
        seg(20, 29, 0.7),  # b's instance, tIoU 0.9
        seg(0, 4, 0.6),  # tIoU 0.4
        seg(27, 33, 0.5),  # b's instance, tIoU 3/13
        seg(50, 60, 0.4),
    ],
    "empty": [seg(0, 10, 0.3)],
    "w": [seg(0, 10, 0.1)],  # true, at the end
}
ORDER = [
    "true positive",
    "double detection",
    "wrong label",
    "localisation",
    "confusion",
    "background",
    "background",
    "true positive",
]


@pytest.fixture
def matching() -> Matching:
    return match_segments(TRUTH, FOUND, (0.5,))


def test_kinds(matching: Matching) -> None:
    assert [KINDS[code] for code in classify_predictions(matching)[:, 0]] == ORDER


def test_kinds_depend_on_the_threshold() -> None:
    matching = match_segments(TRUTH, FOUND, (0.3, 0.95))
    low, high = ([KINDS[code] for code in column] for column in classify_predictions(matching).T)
    assert low[3] == "double detection"  # 0.4 reaches 0.3, but the instance is taken
    assert high[1:3] == ["localisation", "confusion"]  # 0.9 does not reach 0.95


def test_on_equal_tiou_the_own_class_decides() -> None:
    truth = {"v": [seg(0, 10, label="b"), seg(0, 10)]}
    matching = match_segments(truth, {"v": [seg(0, 10, 0.9), seg(0, 10, 0.8)]}, (0.5,))
    assert [KINDS[code] for code in classify_predictions(matching)[:, 0]] == ORDER[:2]


def test_profile(matching: Matching) -> None:
    # a has G = 2 instances: slices of two predictions. b has none.
    profile = diagnose(matching).profile
    assert profile.kinds == KINDS
    assert profile.predictions == (2, 2, 2, 2)
    assert profile.shares == (
        (0.5, 0.5, 0, 0, 0, 0),
        (0, 0, 0.5, 0.5, 0, 0),
        (0, 0, 0, 0, 0.5, 0.5),
        (0.5, 0, 0, 0, 0, 0.5),
    )


def test_only_the_best_ten_g_are_looked_at() -> None:
    # One instance: G = 1, so ten predictions; the right one is the eleventh.
    found = {"v": [seg(20 + i, 21 + i, 0.9 - i / 100) for i in range(10)] + [seg(0, 10, 0.1)]}
    diagnosis = diagnose(match_segments({"v": [seg(0, 10)]}, found, (0.5,)))
    assert diagnosis.profile.predictions == (1,) * 10
    assert all(shares[-1] == 1 for shares in diagnosis.profile.shares)
    assert all(gain.average_map == 0 for gain in diagnosis.gains)


def test_gains(matching: Matching) -> None:
    # a: hits at 1 and 8, AP = (1 + 2/8) / 2; b: 0. Normalised, N = 3/2: (1 + 1.5 / (1.5 + 6)) / 2.
    # Removing n false positives: 2 / (8 - n) and 1.5 / (7.5 - n); halved by recall, and by the mean with b.
    diagnosis = diagnose(matching)
    assert diagnosis.normalised_map == pytest.approx((1 + 0.2) / 4)
    removed = {"double detection": 1, "wrong label": 1, "localisation": 1, "confusion": 1, "background": 2}
    assert [gain.kind for gain in diagnosis.gains] == list(removed)
    for gain in diagnosis.gains:
        n = removed[gain.kind]
        assert gain.average_map == pytest.approx((2 / (8 - n) - 2 / 8) / 4)
        assert gain.normalised_map == pytest.approx((1.5 / (7.5 - n) - 0.2) / 4)


def test_bins(matching: Matching) -> None:
    scenes = {("v", "a", 0.0, 10.0): "yard", ("v", "b", 20.0, 30.0): "yard", ("w", "a", 0.0, 10.0): "lawn"}
    (trait,) = diagnose(matching, [Trait(name="scene", values=scenes)]).traits
    lawn, yard = trait.bins
    # lawn: the prediction that found v's instance is left out; six false ones come first: 1.5 / 7.5.
    assert (lawn.name, lawn.instances, lawn.missed) == ("lawn", 1, 0.0)
    assert lawn.normalised_map == pytest.approx(0.2)
    # yard: a is found first, b is not found.
    assert (yard.name, yard.instances, yard.missed) == ("yard", 2, 0.5)
    assert yard.normalised_map == pytest.approx(0.5)


def test_what_is_found_among_many_false_ones_counts_as_missed() -> None:
    # N = 1: normalised precision 1 / (1 + n) is 0.05 at n = 19, which is not enough.
    for false, missed in ((18, 0.0), (19, 1.0)):
        found = {"v": [seg(20 + i, 21 + i, 0.9) for i in range(false)] + [seg(0, 10, 0.1)]}
        assert diagnose(match_segments({"v": [seg(0, 10)]}, found, (0.5,))).missed == missed


def test_rules_that_do_not_fit_are_refused() -> None:
    kit = match_segments({"v": [seg(0, 5)]}, {}, (0.5,), MODES["360x-kit"].rules)
    with pytest.raises(UsageError, match="found once"):
        diagnose(kit)
    empty = match_segments({"v": []}, {}, (0.5,), empty_truth=[("a", "v")])
    with pytest.raises(UsageError, match="longer than 0"):
        diagnose(empty)


def test_without_predictions_everything_is_missed() -> None:
    diagnosis = diagnose(match_segments(TRUTH, {}, (0.5, 0.75)))
    assert (diagnosis.normalised_map, diagnosis.missed) == (0.0, 1.0)
    assert diagnosis.profile.shares == ()


# --- bins -----------------------------------------------------------------------------------------


def lengths(
    borders: tuple[float, ...] | None, values: list[float], num_bins: int = 5
) -> list[tuple[str, int]]:
    truth = {"v": [seg(10 * i, 10 * i + 1) for i in range(len(values))]}
    matching = match_segments(truth, {}, (0.5,))
    known = {("v", "a", 10.0 * i, 10.0 * i + 1): value for i, value in enumerate(values)}
    bins = Trait(name="length", values=known, borders=borders).bins(matching, num_bins)
    return [(name, len(rows)) for name, rows in bins]


def test_given_borders() -> None:
    assert lengths((2.0, 4.0), [1, 2, 2.5, 4, 5]) == [("up to 2", 2), ("2 to 4", 2), ("above 4", 1)]
    assert lengths((9.0,), [1, 2]) == [("up to 9", 2)]


def test_quantile_borders() -> None:
    assert lengths(None, list(range(1, 9)), num_bins=2) == [("up to 4.5", 4), ("above 4.5", 4)]
    assert lengths(None, [1, 1, 1, 2]) == [("up to 1", 3), ("above 1.4", 1)]
    assert lengths(None, [3, 3, 3]) == [("all", 3)]


def test_parse_bins() -> None:
    assert parse_bins([]) == ({}, 5)
    assert parse_bins(["3", "length=1,2.5"]) == ({"length": (1.0, 2.5)}, 3)
    assert parse_bins(["detad", "length=5"]) == ({**DETAD_BORDERS, "length": (5.0,)}, 5)
    for text in ("", "0", "length", "scene=1", "length=", "length=2,1", "length=1,nan", "-3"):
        with pytest.raises(UsageError, match="--bins"):
            parse_bins([text])


def test_traits_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    annotations = [
        {"label": "a", "segment": [0, 5], "agreement": 0.75},
        {"label": "a", "segment": [7, 7]},
        {"label": "a", "segment": [10, 12]},
        {"label": "b", "segment": [10, 20]},
    ]
    video = {"duration": 20, "scene": "yard", "view": "front", "annotations": annotations}
    database = {"v": video, "w": {"annotations": [{"label": "b", "segment": [0, 1]}]}}
    path.write_text(json.dumps({"database": database}))
    truth = read_ground_truth(path, empty_segments="count")
    traits = {trait.name: trait for trait in read_traits(path, truth, {"length": (3.0,)})}
    assert list(traits) == ["length", "coverage", "instances", "agreement", "scene", "view"]
    assert traits["length"].borders == (3.0,)
    first, second, third, other = (
        ("v", "a", 0.0, 5.0), ("v", "a", 10.0, 12.0), ("v", "b", 10.0, 20.0), ("w", "b", 0.0, 1.0)
    )  # fmt: skip
    assert traits["length"].values == {first: 5, second: 2, third: 10, other: 1}
    assert traits["coverage"].values == {first: 0.25, second: 0.1, third: 0.5}
    assert traits["instances"].values == {first: 2, second: 2, third: 1, other: 1}
    assert traits["agreement"].values == {first: 0.75}
    assert set(traits["view"].values.values()) == {"front"}
    matching = match_segments(truth.segments, {}, (0.5,))
    ((name, rows),) = traits["agreement"].bins(matching, 5)
    assert (name, matching.truth.end[rows].tolist()) == ("all", [5.0])
    found = diagnose(matching, list(traits.values()))
    assert [sum(b.instances for b in trait.bins) for trait in found.traits] == [4, 3, 4, 1, 3, 3]
    assert np.isfinite([b.normalised_map for trait in found.traits for b in trait.bins]).all()


@pytest.mark.parametrize(
    ("extra", "fault"),
    [({"agreement": "high"}, "entry 1: \"agreement\" is 'high'"), ({"agreement": float("nan")}, "is nan")],
)
def test_a_wrong_agreement_is_named(tmp_path: Path, extra: dict[str, object], fault: str) -> None:
    path = tmp_path / "truth.json"
    entry = {"label": "a", "segment": [0, 5], **extra}
    path.write_text(json.dumps({"database": {"v": {"annotations": [entry]}}}))
    with pytest.raises(UsageError, match=fault):
        read_traits(path, read_ground_truth(path), {})
