"""Modes: what each evaluator does differently, on tables worked out by hand from their rules."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.modes import MODES, describe_modes
from tsm_runtime.evaluation.reading import read_evaluation_input
from tsm_runtime.evaluation.summary import EvaluationReport, evaluate_input

Entry = tuple[float, float] | tuple[float, float, str] | tuple[float, float, str, int]


class Case:
    """A truth file and a detection file, written as short tables."""

    def __init__(self, folder: Path) -> None:
        self.truth, self.predictions = folder / "truth.json", folder / "predictions.json"

    def write(
        self, truth: Mapping[str, Sequence[Entry]], predictions: Mapping[str, Sequence[tuple[Any, ...]]]
    ) -> Case:
        database = {
            video: {"subset": "validation", "annotations": [annotation(*entry) for entry in entries]}
            for video, entries in truth.items()
        }
        results = {
            video: [
                {"label": rest[0] if rest else "a", "segment": [start, end], "score": score}
                for start, end, score, *rest in entries
            ]
            for video, entries in predictions.items()
        }
        self.truth.write_text(json.dumps({"database": database}))
        self.predictions.write_text(json.dumps({"results": results}))
        return self

    def report(self, mode: str, tiou: float = 0.5) -> EvaluationReport:
        given = read_evaluation_input(self.truth, self.predictions, MODES[mode])
        return evaluate_input(given, MODES[mode], (tiou,))

    def ap(self, mode: str, tiou: float = 0.5, label: str = "a") -> float:
        return self.report(mode, tiou).evaluation.ap[label][0]


def annotation(start: float, end: float, label: str = "a", label_id: int | None = None) -> dict[str, Any]:
    entry: dict[str, Any] = {"label": label, "segment": [start, end]}
    return entry if label_id is None else {**entry, "label_id": label_id}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


OFFICIAL = ["activitynet", "actionformer", "opentad"]


def test_equal_scores(case: Case) -> None:
    # One right, one wrong, one instance: 1 when the right one comes first, else 1/2.
    case.write({"xxv": [(0, 10)]}, {"xxv": [(0, 10, 0.5), (20, 30, 0.5)], "v": []})
    assert [case.ap(mode) for mode in OFFICIAL] == [0.5, 0.5, 0.5]
    assert case.ap("tsm") == 1.0
    case.write({"xxv": [(0, 10)]}, {"xxv": [(20, 30, 0.5), (0, 10, 0.5)]})
    assert [case.ap(mode) for mode in OFFICIAL] == [1.0, 1.0, 1.0]
    assert case.ap("tsm") == 1.0
    case.write({"xxv": [(0, 10)]}, {"v": [(0, 10, 0.5), (20, 30, 0.5)]})
    assert case.ap("mmaction2") == 1.0
    case.write({"xxv": [(0, 10)]}, {"v": [(20, 30, 0.5), (0, 10, 0.5)]})
    assert case.ap("mmaction2") == 0.5


def test_equal_tious_go_to_the_instance_listed_last(case: Case) -> None:
    # The first detection lies between both instances (tIoU 8/12 each); the second reaches [4, 14] only.
    # The official argsort()[::-1] takes the one listed last, [4, 14], and the second is false: 1/2.
    truth: list[Entry] = [(0, 10), (4, 14)]
    found = [(2, 12, 0.9), (6, 14, 0.8)]
    case.write({"v": truth}, {"v": found})
    assert case.ap("activitynet") == 0.5
    assert case.ap("tsm") == 1.0
    case.write({"v": truth[::-1]}, {"v": found})
    assert case.ap("activitynet") == 1.0
    assert case.ap("tsm") == 1.0


def test_a_tiou_just_below_the_threshold(case: Case) -> None:
    # 3 / 4 but for rounding: (0.1 + 0.3) - 0.1 is below 0.3 in binary.
    case.write({"v": [(0.1, 0.5)]}, {"v": [(0.1, 0.1 + 0.3 - 1e-16, 0.9)]})
    assert (case.ap("tsm", 0.75), case.ap("activitynet", 0.75)) == (1.0, 0.0)


def test_videos_without_truth(case: Case) -> None:
    case.write({"v": [(0, 10)]}, {"other": [(0, 10, 0.9)], "v": [(0, 10, 0.8)]})
    assert case.ap("tsm") == 1.0
    assert [case.ap(mode) for mode in (*OFFICIAL, "360x-kit")] == [0.5, 0.5, 0.5, 0.5]


def test_predictions_without_length_and_before_the_video(case: Case) -> None:
    """The code of ActivityNet takes both: [-1, 9] has a tIoU of 9 / 11, [5, 5] one of 0."""
    case.write({"v": [(0, 10)]}, {"v": [(-1, 9, 0.9), (5, 5, 0.8)]})
    figures = [case.ap("activitynet", tiou) for tiou in (0.5, 0.8, 0.85, 0.95)]
    assert figures == [1.0, 1.0, 0.0, 0.0]
    case.write({"v": [(0, 10)]}, {"v": [(5, 5, 0.9), (-1, 9, 0.8)]})
    assert case.ap("activitynet") == 0.5
    assert case.ap("tsm") == 0.0  # both are left out, and counted


def test_instances_of_length_zero(case: Case) -> None:
    case.write({"v": [(0, 10), (12, 12)]}, {"v": [(0, 10, 0.9)]})
    assert [case.ap(mode) for mode in (*OFFICIAL, "360x-kit")] == [0.5, 1.0, 1.0, 0.5]
    assert case.ap("tsm") == 1.0
    assert "1 instance of length zero left out, the first in video 'v', entry 2" in " ".join(
        case.report("tsm").warnings
    )


def test_duplicate_and_very_short_instances(case: Case) -> None:
    # A copy within 1 ms, and an instance of 0.5 ms: ActionFormer drops both, OpenTAD the copy alone.
    case.write({"v": [(0, 10), (0.0005, 10.0005), (20, 20.0005)]}, {"v": [(0, 10, 0.9)]})
    assert case.ap("activitynet") == pytest.approx(1 / 3)
    assert case.ap("actionformer") == 1.0
    assert case.ap("opentad") == pytest.approx(1 / 2)
    other_label: list[Entry] = [(0, 10), (0, 10, "b")]
    case.write({"v": other_label}, {"v": [(0, 10, 0.9), (0, 10, 0.9, "b")]})
    assert case.report("actionformer").evaluation.average_map == 1.0


@pytest.mark.parametrize("mode", ["activitynet", "mmaction2"])
def test_an_unknown_label_stops_the_official_code(case: Case, mode: str) -> None:
    case.write({"xxv": [(0, 10)]}, {"xxv": [(0, 10, 0.9)], "v": [(0, 10, 0.9, "b")]})
    with pytest.raises(UsageError, match=r"video 'v', entry 1: label 'b' is not in the truth\n.*stops here"):
        case.report(mode)


@pytest.mark.parametrize("mode", ["tsm", "opentad"])
def test_an_unknown_label_is_ignored_elsewhere(case: Case, mode: str) -> None:
    case.write({"v": [(0, 10)]}, {"v": [(0, 10, 0.9, "A"), (0, 10, 0.8), (0, 1, 0.7, "A")]})
    report = case.report(mode)
    assert report.evaluation.ap == {"a": (1.0,)}
    assert report.warnings == (
        f"{case.predictions}: video 'v', entry 1: label 'A' is not in the truth (probably 'a' misspelt); "
        "2 such predictions ignored",
    )


def test_class_ids_collide_in_actionformer(case: Case) -> None:
    # Classes of the subset: b (3), a (7) -> positions 0 and 1. Class c has id 1 and no instance here: its
    # predictions become predictions of a.
    case.write({"v": [(0, 10, "a", 7), (20, 30, "b", 3)]}, {})
    content = json.loads(case.truth.read_text())
    content["database"]["t"] = {"subset": "training", "annotations": [annotation(0, 1, "c", 1)]}
    case.truth.write_text(json.dumps(content))
    case.predictions.write_text(
        json.dumps(
            {
                "results": {
                    "v": [
                        {"label": "c", "segment": [40, 50], "score": 0.9},
                        {"label": "a", "segment": [0, 10], "score": 0.8},
                        {"label": "b", "segment": [20, 30], "score": 0.7},
                    ]
                }
            }
        )
    )
    report = case.report("actionformer")
    assert report.evaluation.ap == {"a": (0.5,), "b": (1.0,)}
    assert "class ids collide, as in the evaluator that is imitated: 'c' as 'a'" in report.warnings
    assert case.report("opentad").evaluation.ap == {"a": (1.0,), "b": (1.0,)}


def test_without_class_ids_collisions_are_not_imitated(case: Case) -> None:
    case.write({"v": [(0, 10)]}, {"v": [(0, 10, 0.9), (0, 10, 0.95, "b")]})
    report = case.report("actionformer")
    assert report.evaluation.ap == {"a": (1.0,)}
    assert any("no \"label_id\" for 'a', 'b'" in warning for warning in report.warnings)


def test_mmaction2_cuts_two_characters_from_the_ids_of_the_truth(case: Case) -> None:
    case.write({"v_abc": [(0, 10)]}, {"abc": [(0, 10, 0.9)]})
    assert (case.ap("mmaction2"), case.ap("activitynet")) == (1.0, 0.0)
    case.write({"abc": [(0, 10)]}, {"abc": [(0, 10, 0.9)]})
    report = case.report("mmaction2")
    assert report.evaluation.average_map == 0.0
    assert any("no video is among those of the truth" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    ("found", "standard", "kit"),
    [
        # precision 1, 1, 1, 3/4, 4/5; envelope at the four hits 1, 1, 1, 4/5; / 2
        pytest.param([(0, 4, s) for s in (0.9, 0.8, 0.7)] + [(8, 9, 0.6), (0, 4, 0.5)], 0.5, 1.9, id="1.9"),
        pytest.param([(0, 4, s) for s in (0.9, 0.8, 0.7, 0.6)], 0.5, 2.0, id="four copies"),
    ],
)
def test_the_kit_counts_an_instance_many_times(
    case: Case, found: list[tuple[float, float, float]], standard: float, kit: float
) -> None:
    case.write({"v": [(0, 4), (5, 7)]}, {"v": found})
    assert case.ap("activitynet") == pytest.approx(standard)
    assert case.ap("360x-kit") == pytest.approx(kit)


@pytest.mark.parametrize(
    ("true", "found", "tiou", "expected"),
    [
        pytest.param((0, 4), [(0, 0.2, 0.9), (0, 4, 0.8)], 0.5, 1.0, id="0.2 s is dropped"),
        pytest.param((0, 4), [(0, 0.3, 0.9), (0, 4, 0.8)], 0.5, 0.5, id="0.3 s is judged"),
        pytest.param((0, 1), [(0.099, 1, 0.9)], 0.95, 0.0, id="0.099 is rounded to 0.1 and stays"),
        pytest.param((0, 1), [(0.094, 1, 0.9)], 0.95, 1.0, id="0.09 moves to 0"),
        pytest.param((9, 10), [(9, 9.91, 0.9)], 0.95, 1.0, id="9.91 moves to 10"),
        pytest.param((8, 10), [(8, 14, 0.9)], 0.95, 1.0, id="a prediction ends with the cut"),
        pytest.param((8, 14), [(8, 10, 0.9)], 0.95, 1.0, id="an instance ends with the cut"),
        pytest.param((8, 10), [(12, 14, 0.9), (8, 10, 0.8)], 0.5, 0.5, id="behind the cut is false"),
    ],
)
def test_the_kit_changes_bounds(
    case: Case,
    true: tuple[float, float],
    found: list[tuple[float, float, float]],
    tiou: float,
    expected: float,
) -> None:
    case.write({"v": [true]}, {"v": found})
    assert case.ap("360x-kit", tiou) == pytest.approx(expected)


def test_the_kit_needs_cuts(case: Case) -> None:
    case.write({"v": [(11, 14)]}, {"v": [(11, 14, 0.9)]})
    with pytest.raises(UsageError, match=r"video 'v': nothing of instance .* is in \[0, 10\] s\n"):
        case.report("360x-kit")


def test_help_lists_every_mode_without_loading_numpy() -> None:
    for name, mode in MODES.items():
        assert f"{name}: " in describe_modes()
        assert mode.name == name
    program = "import sys, tsm_runtime.commands.evaluate; assert not {'numpy', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
