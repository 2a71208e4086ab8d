"""Annotations of other people that once went wrong, and what is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tsm_runtime.evaluation.modes import MODES
from tsm_runtime.evaluation.reading import read_evaluation_input
from tsm_runtime.evaluation.summary import EvaluationReport, evaluate_input
from tsm_runtime.formats.read_write import read_segments


def report(folder: Path, mode: str, tiou: tuple[float, ...] = (0.5,)) -> EvaluationReport:
    (truth,) = (path for path in folder.iterdir() if path.name.startswith("truth"))
    given = read_evaluation_input(truth, folder / "pred.json", MODES[mode])
    return evaluate_input(given, MODES[mode], tiou)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("zero_length_prediction", "activitynet"),
        ("times_as_strings", "activitynet"),
        ("mmaction2_truth_form", "mmaction2"),
        ("actionformer_label_id_string", "actionformer"),
        ("csv_semicolon", "tsm"),
        ("csv_empty_rows_of_excel", "tsm"),
        ("gzipped_csv_truth", "tsm"),
    ],
)
def test_the_official_figure(shared_data: Path, name: str, mode: str) -> None:
    assert report(shared_data / "faults" / "annotations" / name, mode).evaluation.average_map == 1.0


def test_what_was_silent_is_reported(shared_data: Path) -> None:
    folder = shared_data / "faults" / "annotations"
    twice = report(folder / "key_twice_in_eval", "tsm")
    assert any("key 'a' is there 2 times" in line for line in twice.warnings)
    equal = report(folder / "equal_tious", "tsm", (0.1, 0.2))
    assert any("with several instances" in line and "equal tIoUs" in line for line in equal.warnings)


def test_times_of_the_video(shared_data: Path) -> None:
    folder = shared_data / "faults" / "annotations"
    (found,) = read_segments(folder / "eaf_time_origin" / "test-video.eaf").values()
    assert [(s.label, s.start_seconds, s.end_seconds) for s in found] == [
        ("run", 0.5, 1.32),
        ("jump", 2.399, 3.411),
    ]
    (found,) = read_segments(folder / "vtt_no_empty_line" / "a.vtt").values()
    assert [(s.label, s.start_seconds, s.end_seconds) for s in found] == [("run", 1, 2.5), ("jump", 3, 4.5)]
