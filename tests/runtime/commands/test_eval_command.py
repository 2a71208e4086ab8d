"""`tsm-eval` through its entry point: exit code, standard output, standard error and files."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from entry import Command, command

from tsm_runtime import __version__
from tsm_runtime.commands.evaluate import main
from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.thresholds import parse_thresholds


@pytest.fixture
def tsm_eval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Command:
    """The command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return command("tsm-eval", main, monkeypatch, capfdbinary)


def video(*annotations: tuple[float, float, str], **more: object) -> dict[str, Any]:
    entries = [{"segment": [start, end], "label": label} for start, end, label in annotations]
    return {"subset": "validation", "duration": 40.0, "annotations": entries, **more}


def found(*detections: tuple[float, float, str, float]) -> list[dict[str, Any]]:
    return [{"segment": [s, e], "label": label, "score": score} for s, e, label, score in detections]


TRUTH = {"v": video((0, 10, "run"), (20, 30, "sit"), scene="yard"), "w": video((5, 9, "run"), scene="lawn")}
FOUND = {
    "v": found((0, 10, "run", 0.9), (20, 27, "sit", 0.8), (30, 35, "sit", 0.3)),
    "w": found((20, 30, "run", 0.7)),
}
SCENES = {"v": [{"label": "lawn", "score": 0.2}, {"label": "yard", "score": 0.8}], "w": []}


def write(truth: object = TRUTH, predictions: object = FOUND, **more: object) -> tuple[Path, Path]:
    """Write truth.json and found.json in the current folder."""
    Path("truth.json").write_text(json.dumps({"database": truth}))
    Path("found.json").write_text(json.dumps({"results": predictions, **more}))
    return Path("truth.json"), Path("found.json")


# --- output ---------------------------------------------------------------------------------------


def test_json(tsm_eval: Command) -> None:
    # run: one of two found, first; sit: tIoU 7/10.
    code, out, err = tsm_eval(*write(scenes=SCENES), "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["classes"] == {
        "run": {"0.5": 0.5, "0.75": 0.5, "0.95": 0.5},
        "sit": {"0.5": 1.0, "0.75": 0.0, "0.95": 0.0},
    }
    assert document["tiou"] == {"0.5": 0.75, "0.75": 0.25, "0.95": 0.25}
    assert document["average"] == pytest.approx(1.25 / 3)
    assert (document["mode"], document["subset"]) == ("tsm", "validation")
    assert (document["videos"], document["instances"], document["predictions"]) == (2, 3, 4)
    assert document["scene"] == {"top1": 0.5, "videos": 2}
    assert document["ties"]["tied_predictions"] == 0
    assert document["ties"]["tiou"]["0.5"] == {"lowest": 0.75, "highest": 0.75, "exact": True}
    # Proposals at the end: run of v at all ten tIoUs, sit of v (0.7) at five of ten, run of w at none.
    assert document["recall"]["at"]["100"] == pytest.approx(1.5 / 3)
    assert document["warnings"] == []
    assert "bootstrap" not in document
    assert "diagnosis" not in document


def test_tables(tsm_eval: Command) -> None:
    code, out, err = tsm_eval(*write(scenes=SCENES), "--bootstrap", 50, "--diagnose", "--tiou", "0.5,0.75")
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert ["run", "50.00", "50.00", "50.00"] in rows
    assert ["sit", "100.00", "0.00", "50.00"] in rows
    assert ["all", "classes", "(mAP)", "75.00", "25.00", "50.00"] in rows
    assert "scene top-1 50.00 % of 2 videos" in out
    assert "50 replicates" in out
    assert "double detection" in out
    assert "coverage" in out


def test_output_files(tsm_eval: Command) -> None:
    files = write()
    assert tsm_eval(*files, "--json", "--output", "scores.json") == (0, "", "")
    assert Path("scores.json").read_text() == tsm_eval(*files, "--json", "-o", "-").out
    assert tsm_eval(*files, "-o", "scores.txt") == (0, "", "")
    assert "all classes (mAP)" in Path("scores.txt").read_text()
    code, out, err = tsm_eval(*files, "-o", "missing/scores.txt")
    assert (code, out) == (2, "")
    assert "there is no folder missing" in err


def test_a_report_of_two_runs(tsm_eval: Command) -> None:
    truth, predictions = write()
    other = Path(predictions).with_name("other.json")
    other.write_text('{"results": {}}')
    code, _, err = tsm_eval(truth, predictions, "--report", "page.html", "--compare", other)
    assert code == 0, err
    page = Path("page.html").read_text()
    assert "against other: average mAP" in page
    assert '"name":"other"' in page.replace('": "', '":"')
    code, _, err = tsm_eval(truth, predictions, "--compare", other)
    assert (code, "give both" in err) == (2, True)


def test_a_report(tsm_eval: Command) -> None:
    code, out, err = tsm_eval(*write(scenes=SCENES), "--report", "page.html", "--diagnose")
    assert (code, err) == (0, "")
    assert "run" in out
    page = re.search(r'id="data">(.*?)</script>', Path("page.html").read_text(), re.DOTALL)
    assert page is not None
    data = json.loads(page[1])
    assert [video["id"] for video in data["videos"]] == ["v", "w"]
    assert data["evaluation"]["diagnosis"]
    code, out, err = tsm_eval(*write(), "--report", "nowhere/page.html")
    assert (code, out) == (2, "")
    assert "there is no folder nowhere" in err


def test_gzipped_files(tsm_eval: Command) -> None:
    files = write()
    plain = tsm_eval(*files, "--json").out
    for path in files:
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert tsm_eval("truth.json.gz", "found.json.gz", "--json") == (0, plain, "")
    Path("found.json.gz").write_bytes(Path("found.json.gz").read_bytes()[:-20])
    code, _, err = tsm_eval("truth.json.gz", "found.json.gz")
    assert code == 2
    assert "found.json.gz: damaged gzip file" in err


def test_the_bootstrap_and_the_diagnosis_in_json(tsm_eval: Command) -> None:
    files = write()
    document = json.loads(tsm_eval(*files, "--json", "--bootstrap", 40, "--diagnose", "--bins", "2").out)
    assert document["bootstrap"]["replicates"] == 40
    assert document["bootstrap"]["tiou"].keys() == {"0.5", "0.75", "0.95"}
    assert 0 <= document["bootstrap"]["average"]["low"] <= document["bootstrap"]["average"]["high"] <= 1
    names = [trait["name"] for trait in document["diagnosis"]["traits"]]
    assert names == ["length", "coverage", "instances", "scene"]
    assert (
        tsm_eval(*files, "--json", "--bootstrap", 40).out == tsm_eval(*files, "--json", "--bootstrap", 40).out
    )


def test_help_and_version(tsm_eval: Command) -> None:
    assert tsm_eval("--version").out == f"tsm-tal {__version__}\n"
    code, out, _ = tsm_eval("--help")
    assert code == 0
    for mode in (
        "tsm: the default",
        "activitynet: ",
        "actionformer: ",
        "opentad: ",
        "mmaction2: ",
        "360x-kit: ",
    ):
        assert mode in out


# --- subset ---------------------------------------------------------------------------------------


def test_subsets(tsm_eval: Command) -> None:
    files = write({**TRUTH, "t": video((0, 9, "run"), subset="training")}, {**FOUND, "t": FOUND["w"]})
    code, out, err = tsm_eval(*files, "--json")
    assert (code, json.loads(out)["subset"], json.loads(out)["videos"]) == (0, "validation", 2)
    assert err == (
        "truth.json: subsets 'training', 'validation': 'validation' is evaluated; --subset takes another\n"
        "found.json: 1 prediction ignored: in 1 video of another subset: 't'\n"
    )
    document = json.loads(tsm_eval(*files, "--json", "--subset", "training").out)
    assert (document["subset"], document["instances"], document["average"]) == ("training", 1, 0.0)
    code, out, err = tsm_eval(*files, "--subset", "test")
    assert (code, out) == (2, "")
    assert "no video of subset 'test'; subsets in the annotations: 'training', 'validation'" in err


def test_several_subsets_without_validation(tsm_eval: Command) -> None:
    truth = {"v": video((0, 1, "run"), subset="a"), "w": video((0, 1, "run"), subset="b")}
    code, _, err = tsm_eval(*write(truth))
    assert code == 2
    assert "several subsets, 'a', 'b'; choose one with --subset" in err


def test_one_or_no_subset_takes_all(tsm_eval: Command) -> None:
    for name, reported in (("", None), ("training", "training")):
        truth = {key: {**value, "subset": name} for key, value in TRUTH.items()}
        code, out, err = tsm_eval(*write(truth), "--json")
        assert (code, err, json.loads(out)["subset"]) == (0, "", reported)
        assert json.loads(out)["videos"] == 2


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("detection", "fault"),
    [
        ((0.0, float("nan"), "run", 0.5), "not finite"),
        ((0.0, 1.0, "run", float("nan")), "not finite"),
    ],
)
def test_a_wrong_prediction_is_named(
    tsm_eval: Command, detection: tuple[float, float, str, float], fault: str
) -> None:
    code, out, err = tsm_eval(*write(predictions={**FOUND, "w": found((0, 1, "run", 0.5), detection)}))
    assert (code, out) == (2, "")
    assert "found.json: video 'w', entry 2: " in err
    assert fault in err


@pytest.mark.parametrize(
    ("annotation", "fault"),
    [
        ((0.0, float("nan"), "run"), "expected two finite numbers"),
        ((0.0, 1.0, " "), "empty label"),
    ],
)
def test_a_wrong_annotation_is_named(
    tsm_eval: Command, annotation: tuple[float, float, str], fault: str
) -> None:
    code, out, err = tsm_eval(*write({"v": TRUTH["v"], "w": video((0, 1, "run"), annotation)}))
    assert (code, out) == (2, "")
    assert "truth.json: video 'w', entry 2: " in err
    assert fault in err


@pytest.mark.parametrize(
    ("bounds", "fault"),
    [
        ((1.0, 1.0), "which have no length"),
        ((2.0, 1.0), "which have no length"),
        ((-1.0, 1.0), "which start below 0"),
    ],
)
def test_a_prediction_that_is_no_segment_is_left_out_and_counted(
    tsm_eval: Command, bounds: tuple[float, float], fault: str
) -> None:
    odd = found((0, 1, "run", 0.5), (*bounds, "run", 0.9))
    code, out, err = tsm_eval(*write(predictions={**FOUND, "w": odd}))
    assert code == 0
    assert f"1 prediction left out, {fault}; the first: video 'w', entry 2" in err
    without = tsm_eval(*write(predictions={**FOUND, "w": found((0, 1, "run", 0.5))}))
    assert out == without.out


@pytest.mark.parametrize(
    ("bounds", "fault"),
    [
        ((1.0, 1.0), "1 instance of length zero left out, the first in video 'w', entry 2"),
        ((-1.0, 1.0), "video 'w', entry 2: segment [-1.0, 1.0] starts before 0; left out"),
        ((2.0, 1.0), "video 'w', entry 2: segment [2.0, 1.0] ends before it starts; left out"),
    ],
)
def test_an_instance_that_is_no_segment_is_left_out_and_counted(
    tsm_eval: Command, bounds: tuple[float, float], fault: str
) -> None:
    odd = video((0, 1, "run"), (*bounds, "run"))
    code, out, err = tsm_eval(*write({"v": TRUTH["v"], "w": odd}))
    assert code == 0
    assert fault in err
    assert out == tsm_eval(*write({"v": TRUTH["v"], "w": video((0, 1, "run"))})).out


def test_unknown_names_are_told(tsm_eval: Command) -> None:
    predictions = {
        **FOUND,
        "W": FOUND["w"],
        "v": [*FOUND["v"], *found((0, 1, "Run", 0.1), (0, 1, "hop", 0.1))],
    }
    code, out, err = tsm_eval(*write(predictions=predictions), "--json")
    assert code == 0
    document = json.loads(out)
    assert document["ignored"] == {"labels": {"Run": 1, "hop": 1}, "videos": 1, "in_videos": 1}
    reported = err.splitlines()
    assert reported == document["warnings"]
    assert reported == [
        "found.json: 1 prediction ignored: in 1 video that the truth does not have: 'W'",
        "found.json: video 'v', entry 4: label 'Run' is not in the truth (probably 'run' misspelt); "
        "1 such prediction ignored",
        "found.json: video 'v', entry 5: label 'hop' is not in the truth; 1 such prediction ignored",
    ]


def test_two_spellings_in_the_truth_are_told(tsm_eval: Command) -> None:
    err = tsm_eval(*write({"v": video((0, 1, "run"), (3, 4, "Run"))})).err
    assert "truth.json: labels 'Run' and 'run' are two classes; is one of them misspelt?" in err


def test_a_truth_without_instances(tsm_eval: Command) -> None:
    for truth in ({}, {"v": video()}):
        code, out, err = tsm_eval(*write(truth))
        assert (code, out) == (2, "")
        assert "truth.json: no action instance in the chosen videos" in err


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (["--mode", "voc"], "no such mode; there are tsm, activitynet"),
        (["--tiou", "x"], "'x' is no number and no range"),
        (["--tiou", "1.5"], "1.5 is not in (0, 1]"),
        (["--bins", "4"], "--bins is for --diagnose"),
        (["--diagnose", "--bins", "size=3"], "give NAME=BORDERS"),
        (["--diagnose", "--bins", "length=3,2"], "rising numbers"),
        (["--diagnose", "--mode", "360x-kit"], "needs a mode in which an instance is found once"),
        (["--bootstrap", "1"], "at least 2 replicates"),
        (["--bootstrap", "-1"], "see tsm-eval --help"),
    ],
)
def test_wrong_usage(tsm_eval: Command, flags: list[str], fault: str) -> None:
    truth = {"v": {**video((0, 9, "run"))}, "w": video()}
    code, out, err = tsm_eval(*write(truth), *flags)
    assert (code, out) == (2, "")
    assert fault in err


def test_missing_files(tsm_eval: Command) -> None:
    truth, predictions = write()
    assert tsm_eval(truth, "none.json").code == 2
    assert tsm_eval("none.json", predictions).code == 2
    assert tsm_eval(truth).code == 2
    predictions.write_text("{")
    code, _, err = tsm_eval(truth, predictions)
    assert code == 2
    assert "found.json: not JSON" in err


@pytest.mark.parametrize(
    ("scenes", "fault"),
    [
        ([], '"scenes" is no object'),
        ({"v": {}}, "scenes of video 'v': expected a list"),
        ({"v": [{"label": "yard"}]}, "scenes of video 'v', entry 1"),
        ({"v": [{"label": "yard", "score": float("nan")}]}, "entry 1: scene 'yard': score nan is not finite"),
    ],
)
def test_wrong_scenes(tsm_eval: Command, scenes: object, fault: str) -> None:
    code, _, err = tsm_eval(*write(scenes=scenes))
    assert code == 2
    assert fault in err


# --- thresholds -----------------------------------------------------------------------------------


def test_thresholds() -> None:
    tenths = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.8999999999999999, 0.95]
    assert parse_thresholds("0.5:0.05:0.95") == tenths  # numpy.linspace, as in the official code
    assert parse_thresholds("0.3, 0.5:0.25:1") == [0.3, 0.5, 0.75, 1.0]
    for text in (
        "",
        "0.5,",
        "0.5:0.9",
        "0.5:0:0.9",
        "0.9:0.1:0.5",
        "0.5:0.2:0.95",
        "nan",
        "0.5,0.50",
        "0",
        "2",
    ):
        with pytest.raises(UsageError, match="--tiou"):
            parse_thresholds(text)


# --- the official figures -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "target"),
    [
        ("montes2016_06_e100", "ties_last_listed_first"),
        ("montes2016_06_e100", "ties_first_listed_first"),
        ("x360_predictions_made", None),
        ("mmaction2_tiny", None),
    ],
)
def test_equals_the_official_code(
    tsm_eval: Command, shared_data: Path, case: str, target: str | None
) -> None:
    folder = shared_data / "eval"
    expected = json.loads((folder / "expected.json").read_text())["cases"][case]
    figures = expected if target is None else expected[target]
    # Figures for scores in their order of listing belong to the file in which they are unique.
    file = folder / figures.get("file", expected["file"])
    code, out, _ = tsm_eval(folder / expected["ground_truth"], file, "--mode", "activitynet", "--json")
    assert code == 0
    document = json.loads(out)
    assert list(document["tiou"].values()) == pytest.approx(figures["mAP"], abs=1e-6)
    assert document["average"] == pytest.approx(figures["average_mAP"], abs=1e-6)
    assert document["instances"] == expected["instances"]
    assert document["predictions"] == expected["predictions"]
    for label, values in figures.get("AP_per_class", {}).items():
        assert list(document["classes"][label].values()) == pytest.approx(values, abs=1e-6)
    source = expected if target == "ties_last_listed_first" else figures
    for label, value in source.get("AP_per_class_at_0.5", {}).items():
        assert document["classes"][label]["0.5"] == pytest.approx(value, abs=1e-6)
