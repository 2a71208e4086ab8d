"""`tsm-fuse` through its entry point: exit code, standard output, standard error and files."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from entry import Command, command
from fakes import result_of, seg

from tsm_runtime import __version__
from tsm_runtime.bundle.manifest import sha256
from tsm_runtime.commands.fuse import main
from tsm_runtime.evaluation.protocol import evaluate
from tsm_runtime.formats.detection_json import results_to_json
from tsm_runtime.formats.read_write import read_segments
from tsm_runtime.fusion.ensemble_file import read_ensemble
from tsm_runtime.fusion.fuse import fuse_results
from tsm_runtime.results import SceneScore, Segment


@pytest.fixture
def tsm_fuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Command:
    """The command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return command("tsm-fuse", main, monkeypatch, capfdbinary)


def write(path: str, videos: dict[str, list[Segment]], **more: Any) -> Path:
    results = {
        video: [
            {"label": s.label, "segment": [s.start_seconds, s.end_seconds], "score": s.score} for s in found
        ]
        for video, found in videos.items()
    }
    Path(path).write_text(json.dumps({"results": results, **more}), encoding="utf-8")
    return Path(path)


@pytest.fixture
def two(tsm_fuse: Command) -> tuple[Path, Path]:
    """Two members' files in the current folder."""
    first = write("a.json", {"u": [seg("walk", 0, 4, 0.9), seg("wave", 8, 9, 0.4)], "v": []})
    second = write("b.json", {"u": [seg("walk", 0, 4, 0.5)], "v": [seg("wave", 1, 2, 0.8)]})
    return first, second


def rows(document: str) -> dict[str, list[tuple[Any, ...]]]:
    return {
        video: [(d["label"], *d["segment"], d["score"]) for d in found]
        for video, found in json.loads(document)["results"].items()
    }


def files() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


# --- what it writes -------------------------------------------------------------------------------


def test_the_papers_ensemble(tsm_fuse: Command, two: tuple[Path, Path]) -> None:
    done = tsm_fuse(*two, "--weights", "0.6,0.4", "-o", "fused.json")
    assert done == (0, "", "")
    assert rows(Path("fused.json").read_text()) == {
        "u": [("walk", 0.0, 4.0, 0.74), ("wave", 8.0, 9.0, 0.24)],
        "v": [("wave", 1.0, 2.0, 0.32)],
    }
    assert read_segments(Path("fused.json"))["v"] == [seg("wave", 1, 2, 0.32)]


def test_a_member_of_another_program_is_read_by_its_columns(
    tsm_fuse: Command, two: tuple[Path, Path]
) -> None:
    Path("c.csv").write_text("clip,from,to,what,p\nu,0,100,walk,0.5\nv,25,50,wave,0.8\n")
    columns = "video=clip,start=from,end=to,label=what,score=p,unit=frames"
    given = ("--columns", columns, "--frame-rate", "25")
    assert rows(tsm_fuse(two[0], "c.csv", *given).out) == rows(tsm_fuse(*two).out)
    Path("truth.csv").write_text("clip,from,to,what,p\nu,0,100,walk,1\nv,25,50,wave,1\n")
    assert tsm_fuse(two[0], "c.csv", *given, "--fit", "truth.csv", "-o", "fit.toml").code == 0
    assert len(read_ensemble(Path("fit.toml")).members) == 2


def test_options_reach_the_fusion(tsm_fuse: Command, two: tuple[Path, Path]) -> None:
    present = tsm_fuse(*two, "--denominator", "present", "--min-score", "0.5")
    assert rows(present.out) == {"u": [("walk", 0.0, 4.0, 0.7)], "v": [("wave", 1.0, 2.0, 0.8)]}
    write("c.json", {"u": [seg("walk", 1, 5, 0.5), seg("wave", 20, 21)]})
    assert rows(tsm_fuse("a.json", "c.json").out)["u"][0] == ("walk", 0.0, 5.0, 0.45)
    assert len(rows(tsm_fuse("a.json", "c.json", "--iou", "0.7").out)["u"]) == 4
    nms = rows(tsm_fuse("a.json", "c.json", "--method", "nms").out)
    assert nms["u"][0] == ("walk", 0.0, 4.0, 0.45)
    assert [row[0] for row in nms["u"]].count("walk") == 1
    soft = tsm_fuse("a.json", "c.json", "--method", "soft-nms-gaussian", "--sigma", "0.25")
    assert json.loads(soft.out)["external_data"]["fusion"]["sigma"] == 0.25
    # tIoU 3/5: 0.25 exp(-0.36 / 0.25)
    assert rows(soft.out)["u"][1] == ("walk", 1.0, 5.0, 0.059232)


def test_csv_in_and_out(tsm_fuse: Command, two: tuple[Path, Path]) -> None:
    Path("c.csv").write_text("video,label,start,end,score\nu,walk,0,4,0.7\n")
    done = tsm_fuse("a.json", "c.csv", "-o", "fused.csv")
    assert done.code == 0
    assert "1 of 2 videos are not in all members ('v')" in done.err
    assert Path("fused.csv").read_text() == (
        "video,label,start,end,score\nu,walk,0.0,4.0,0.8\nu,wave,8.0,9.0,0.2\n"
    )
    assert tsm_fuse("a.json", "c.csv", "--quiet").err == ""


def test_kaggle_in_and_out(tsm_fuse: Command) -> None:
    write("a.json", {"u": [seg("walk", 2, 14, 0.9)]})
    write("b.json", {"u": [seg("walk", 2, 14, 0.5), seg("rare", 0, 1, 0.5)]})
    done = tsm_fuse("a.json", "b.json", "--format", "kaggle")
    assert (done.code, done.out) == (2, "")
    assert "no class id for" in done.err
    Path("map.json").write_text('{"walk": 7, "rare": null}')
    kaggle = ("--format", "kaggle", "--label-map", "map.json", "-o", "fused.csv")
    assert tsm_fuse("a.json", "b.json", *kaggle).code == 0
    text = Path("fused.csv").read_text()
    assert text.splitlines()[0] == "id,prediction"
    assert 'u_0_10,"[[7, 2.0, 10.0, 0.7]]"' in text
    write("c.json", {"u": [seg("walk", 10, 14, 0.5)]})
    back = tsm_fuse("fused.csv", "c.json", "--label-map", "map.json")
    assert ("walk", 10.0, 14.0, 0.6) in rows(back.out)["u"]


def test_what_members_tell_is_kept(tsm_fuse: Command) -> None:
    scenes = (SceneScore(label="park", score=0.8), SceneScore(label="bar", score=0.2))
    first = replace(
        result_of(seg("walk", 0, 1, 0.9), scenes=scenes), gaps=((1.0, 2.0),), duration_seconds=10.0
    )
    second = replace(result_of(seg("walk", 0, 1, 0.5)), complete=False, gaps=((1.5, 3.0),), num_intervals=40)
    reported = {"model": {"bundle_sha256": "0123"}, "options": {"min_score": 0.1}}
    Path("a.json").write_bytes(results_to_json([first], reported))
    Path("b.json").write_bytes(results_to_json([second], {}))
    document = json.loads(tsm_fuse("a.json", "b.json", "--weights", "3,1").out)
    assert list(document) == ["version", "results", "scenes", "external_data"]
    assert document["scenes"]["clip"] == [{"label": "park", "score": 0.8}, {"label": "bar", "score": 0.2}]
    external = document["external_data"]
    assert external["fusion"] == {"method": "paper", "iou": 0.5, "denominator": "all", "min_score": 0.0}
    assert external["members"] == [
        {
            "file": "a.json",
            "sha256": sha256(Path("a.json").read_bytes()),
            "weight": 3.0,
            "temperature": 1.0,
            "external_data": reported,
        },
        {
            "file": "b.json",
            "sha256": sha256(Path("b.json").read_bytes()),
            "weight": 1.0,
            "temperature": 1.0,
            "external_data": {},
        },
    ]
    assert external["versions"] == {"tsm-tal": __version__}
    assert external["videos"]["clip"] == {
        "members": [1, 2],
        "duration": 10.04,
        "intervals": 40,
        "complete": False,
        "gaps": [[1.0, 3.0]],
        "corrupt_frames": 0,
    }


def test_fusing_files_is_fusing_results(tsm_fuse: Command) -> None:
    rng = random.Random(7)
    members = []
    for name in ("a.json", "b.json", "c.json"):
        found = [
            seg(rng.choice("xyz"), start := rng.uniform(0, 20), start + rng.uniform(0.1, 5), rng.random())
            for _ in range(40)
        ]
        scenes = tuple(SceneScore(label=label, score=rng.random()) for label in "pq")
        members.append(result_of(*found, scenes=scenes))
        Path(name).write_bytes(results_to_json(members[-1:], {}))
    document = json.loads(tsm_fuse("a.json", "b.json", "c.json", "--weights", "0.5,0.3,0.2").out)
    once = json.loads(results_to_json([fuse_results(members, (0.5, 0.3, 0.2))], {}))
    assert document["results"] == once["results"]
    assert document["scenes"] == once["scenes"]
    reported = document["external_data"]["videos"]["clip"]
    del reported["members"]
    assert reported == once["external_data"]["videos"]["clip"]


def test_the_order_of_files_and_segments_does_not_matter(tsm_fuse: Command, two: tuple[Path, Path]) -> None:
    first = json.loads(tsm_fuse("a.json", "b.json", "--weights", "0.7,0.3").out)
    content = json.loads(Path("a.json").read_text())["results"]
    turned = {video: list(reversed(found)) for video, found in reversed(content.items())}
    Path("a.json").write_text(json.dumps({"results": turned}))
    second = json.loads(tsm_fuse("b.json", "a.json", "--weights", "0.3,0.7").out)
    assert json.dumps(first["results"]) == json.dumps(second["results"])


def test_other_tools_files(tsm_fuse: Command, two: tuple[Path, Path]) -> None:
    external = {"used": True, "details": float("nan"), "videos": ["none of ours"]}
    write("c.json", {"u": [seg("walk", 0, 4, 0.6)]}, version="VERSION 1.3", external_data=external)
    document = json.loads(tsm_fuse("a.json", "c.json").out)
    assert document["external_data"]["members"][1]["external_data"] == {"used": True, "details": "nan"}
    assert document["external_data"]["videos"]["u"] == {"members": [1, 2]}


# --- labels ---------------------------------------------------------------------------------------


def test_another_spelling_is_refused_and_mapped(tsm_fuse: Command, two: tuple[Path, Path]) -> None:
    write("c.json", {"u": [seg("Walk ", 0, 4, 0.5), seg("wave", 0, 1, 0.5)]})
    done = tsm_fuse("a.json", "c.json", "-o", "fused.json")
    assert (done.code, done.out) == (2, "")
    assert "label 'walk' is 'Walk ' in another member" in done.err
    assert '--labels TABLE, a JSON file such as {"walk": "Walk "}' in done.err
    assert "fused.json" not in files()
    Path("labels.json").write_text('{"Walk ": "walk", "run": "walk"}')
    done = tsm_fuse("a.json", "c.json", "--labels", "labels.json")
    assert done.code == 0
    assert "labels.json: no member has 'run'" in done.err
    assert rows(done.out)["u"][1] == ("walk", 0.0, 4.0, 0.7)
    assert json.loads(done.out)["external_data"]["fusion"]["labels"] == {"Walk ": "walk", "run": "walk"}
    Path("labels.toml").write_text('"Walk " = "walk"')
    assert tsm_fuse("a.json", "c.json", "--labels", "labels.toml").code == 0


def test_labels_that_nobody_else_has_are_refused_unless_meant(
    tsm_fuse: Command, two: tuple[Path, Path]
) -> None:
    write("c.json", {"u": [seg("gehen", 0, 4, 0.5)]})
    done = tsm_fuse("a.json", "b.json", "c.json")
    assert done.code == 2
    assert "c.json: none of its labels ('gehen') is a label of another member ('walk', 'wave')" in done.err
    assert "--labels" in done.err
    Path("labels.json").write_text('{"gehen": "gehen"}')
    assert tsm_fuse("a.json", "b.json", "c.json", "--labels", "labels.json").code == 0


def test_scene_labels_are_checked_and_mapped_too(tsm_fuse: Command, two: tuple[Path, Path]) -> None:
    segments = {"u": [seg("walk", 0, 4)]}
    write("c.json", segments, scenes={"u": [{"label": "Park", "score": 0.6}]})
    write("d.json", segments, scenes={"u": [{"label": "park", "score": 0.2}]})
    done = tsm_fuse("c.json", "d.json")
    assert done.code == 2
    assert "label 'Park' is 'park' in another member" in done.err
    Path("labels.json").write_text('{"Park": "park"}')
    done = tsm_fuse("c.json", "d.json", "--labels", "labels.json")
    assert json.loads(done.out)["scenes"] == {"u": [{"label": "park", "score": 0.4}]}


# --- what it refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "0 member given"),
        (["a.json"], "1 member given; fusion takes two or more"),
        (["a.json", "none.json"], "none.json: cannot be read: No such file"),
        (["a.json", "folder"], "folder: cannot be read: Is a directory"),
        (["a.json", "text.json"], "text.json: not JSON"),
        (["a.json", "other.json"], 'other.json: no "results" object'),
        (["a.json", "empty.json"], "empty.json: holds no video"),
        (["a.json", "negative.json"], "'walk' has the score -1.5; fusion takes confidences of 0 or more"),
        (["a.json", "scenes.json"], "scenes.json: scenes of video 'u', entry 1"),
        (["a.json", "a.json"], "a.json is given twice; to let it count for more, give it a higher weight"),
        (["a.json", "link.json"], "link.json is given twice"),
        (["a.json", "elsewhere.json"], "no video is in two members, so there is nothing to fuse"),
        (["a.json", "b.json", "--weights", "1"], "--weights 1: 1 weight for 2 members"),
        (["a.json", "b.json", "--weights", "1,0"], "--weights 1,0: weight 0: expected a number above 0"),
        (["a.json", "b.json", "--weights", "1,-2"], "weight -2"),
        (["a.json", "b.json", "--weights", "1,nan"], "weight nan"),
        (["a.json", "b.json", "--weights", "1,,2"], "'' is no number; expected e.g. 0.6,0.4"),
        (["a.json", "b.json", "--iou", "1.5"], "--iou 1.5: expected 0 to 1"),
        (["a.json", "b.json", "--iou", "nan"], "--iou nan"),
        (["a.json", "b.json", "--min-score", "-1"], "--min-score -1: expected 0 to 1"),
        (["a.json", "b.json", "--sigma", "0"], "--sigma 0"),
        (["a.json", "b.json", "--method", "mean"], "tsm-fuse --help"),
        (["a.json", "b.json", "-o", "folder"], "--output folder is a folder"),
        (["a.json", "b.json", "-o", "nowhere/x.json"], "--output nowhere/x.json: there is no folder nowhere"),
        (["a.json", "b.json", "-o", "b.json"], "--output b.json is a member"),
        (["a.json", "b.json", "-o", ""], "--output is empty"),
        (["a.json", "b.json", "-o", "x.srt"], "--output x.srt: tsm-fuse writes JSON and CSV"),
        (["a.json", "b.json", "--labels", "none.json"], "none.json: cannot be read"),
        (["a.json", "b.json", "--labels", "text.json"], "text.json: not JSON"),
        (["a.json", "b.json", "--labels", "a.json"], 'a.json: expected a table {"from": "to"} of labels'),
        (["a.json", "b.json", "--labels", "blank.json"], "'walk' would become an empty label"),
        (["a.json", "b.json", "--calibrate"], "--calibrate goes with --fit"),
        (["a.json", "b.json", "--subset", "x"], "--subset goes with --fit"),
        (["--ensemble", "none.toml"], "none.toml: cannot be read"),
        (["a.json", "b.json", "--ensemble", "one.toml"], "2 files for the 1 member of one.toml"),
        (["--ensemble", "one.toml"], "one.toml: member 1 names no file of segments"),
        (["--ensemble", "one.toml", "--iou", "0.4"], "--iou beside --ensemble"),
        (["a.json", "b.json", "--fit", "none.json"], "none.json: cannot be read"),
        (["a.json", "b.json", "--fit", "truth.json", "--weights", "1,2"], "--weights beside --fit"),
        (["a.json", "b.json", "--fit", "truth.json", "--subset", "x"], "no video of subset 'x'"),
        (["a.json", "b.json", "--fit", "truth.json"], "--fit truth.json: one video only"),
        (["a.json", "loud.json", "--fit", "truth.json", "--calibrate"], "loud.json: video 'u': score 7"),
    ],
)
def test_refuses(tsm_fuse: Command, two: tuple[Path, Path], arguments: list[str], message: str) -> None:
    Path("folder").mkdir()
    Path("text.json").write_text("walk 0 4")
    Path("other.json").write_text("{}")
    write("empty.json", {})
    write("negative.json", {"u": [seg("walk", 0, 4, -1.5)]})
    write("loud.json", {"u": [seg("walk", 0, 4, 7)]})
    write("scenes.json", {"u": [seg("walk", 0, 4)]}, scenes={"u": [{"label": 3}]})
    write("elsewhere.json", {"w": [seg("walk", 0, 4)]})
    Path("link.json").symlink_to("a.json")
    Path("blank.json").write_text('{"walk": " "}')
    Path("one.toml").write_text('members = [{bundle = "b"}]')
    truth = {"u": {"subset": "validation", "annotations": [{"label": "walk", "segment": [0, 4]}]}}
    Path("truth.json").write_text(json.dumps({"database": truth}))
    before = {name: Path(name).read_bytes() for name in files() if Path(name).is_file()}
    done = tsm_fuse(*arguments, *([] if "-o" in arguments else ["-o", "out"]))
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.startswith("tsm-fuse: ")
    assert done.err.count("\n") <= 2
    assert {name: Path(name).read_bytes() for name in files() if Path(name).is_file()} == before


def test_help_tells_both_denominators_and_version(tsm_fuse: Command) -> None:
    done = tsm_fuse("--help")
    assert done.code == 0
    reported = " ".join(done.out.split())
    assert "over all members that have the video" in reported
    assert "over the members that found the segment" in reported
    assert tsm_fuse("--version").out == f"tsm-tal {__version__}\n"


# --- fit and ensemble -----------------------------------------------------------------------------


@pytest.fixture
def validation(tsm_fuse: Command) -> dict[str, list[Segment]]:
    """Ground truth of eight videos, a good member a.json and a bad one b.json, in the current folder."""
    rng = random.Random(3)
    truth = {f"v{k}": [seg("xy"[i % 2], 10 * i, 10 * i + 4) for i in range(6)] for k in range(8)}
    members: list[dict[str, list[Segment]]] = [{}, {}]
    for member, noise in zip(members, (0.1, 1.0), strict=True):
        for video, true in truth.items():
            member[video] = [
                seg(s.label, s.start_seconds + rng.uniform(0, noise), s.end_seconds, rng.uniform(0.3, 1))
                for s in true
                if rng.random() > noise / 3
            ]
            member[video] += [seg("x", k, k + 2, rng.uniform(0, noise)) for k in range(5, 50, 20)]
    write("a.json", members[0], external_data={"model": {"bundle_sha256": "00ff"}})
    write("b.json", members[1])
    database = {
        video: {
            "annotations": [{"label": s.label, "segment": [s.start_seconds, s.end_seconds]} for s in true]
        }
        for video, true in truth.items()
    }
    Path("truth.json").write_text(json.dumps({"database": database}))
    return truth


def test_fit_writes_an_ensemble_that_fuse_applies(
    tsm_fuse: Command, validation: dict[str, list[Segment]]
) -> None:
    fit = ("a.json", "b.json", "--fit", "truth.json", "--folds", 4, "--iou", 0.6, "--min-score", 0)
    done = tsm_fuse(*fit)
    assert (done.code, done.out) == (0, "")
    for line in ("a.json (best member)", "equal weights", "on the videos it was fitted to", "(4 folds)"):
        assert line in done.err
    assert "average mAP (%) over 8 videos, 48 instances" in done.err
    assert "with 8 videos the intervals themselves are rough" in done.err
    assert done.err.count("95 % interval") == 2
    ensemble = read_ensemble(Path("ensemble.toml"))
    assert [member.segments for member in ensemble.members] == ["a.json", "b.json"]
    assert ensemble.members[0].bundle_sha256 == "00ff"
    assert (ensemble.iou, ensemble.min_score) == (0.6, 0.0)
    assert ensemble.weights[0] > ensemble.weights[1]
    text = Path("ensemble.toml").read_text()

    assert tsm_fuse("--ensemble", "ensemble.toml", "-o", "fused.json").code == 0
    reported = [line.split()[-1] for line in done.err.splitlines() if "it was fitted to" in line]
    value = evaluate(validation, read_segments(Path("fused.json"))).average_map
    assert reported == [f"{100 * value:.2f}"]
    weights = ",".join(map(str, ensemble.weights))
    by_hand = tsm_fuse("a.json", "b.json", "--weights", weights, "--iou", "0.6").out
    assert rows(by_hand) == rows(Path("fused.json").read_text())

    assert tsm_fuse(*fit, "-o", "again.toml", "--quiet") == (0, "", "")
    assert Path("again.toml").read_text() == text
    Path("c.json").write_bytes(Path("b.json").read_bytes())
    other = tsm_fuse("a.json", "c.json", "--ensemble", "ensemble.toml")
    assert rows(other.out) == rows(Path("fused.json").read_text())


def test_a_fit_that_gains_nothing_writes_equal_weights(
    tsm_fuse: Command, validation: dict[str, list[Segment]]
) -> None:
    Path("c.json").write_bytes(Path("a.json").read_bytes())
    done = tsm_fuse("a.json", "c.json", "--fit", "truth.json", "--iou", 0.5, "--min-score", 0)
    assert done.code == 0
    assert "written: equal weights" in done.err
    assert "too few videos (8) to distinguish fitted from best member or from equal weights" in done.err
    assert read_ensemble(Path("ensemble.toml")).weights == (1.0, 1.0)


def test_temperatures_are_fitted_and_applied(tsm_fuse: Command, validation: dict[str, list[Segment]]) -> None:
    done = tsm_fuse(
        "a.json", "b.json", "--fit", "truth.json", "--calibrate", "--iou", 0.6, "--min-score", 0, "--folds", 2
    )
    assert done.code == 0
    assert "; temperatures " in done.err
    Path("hot.toml").write_text(
        'members = [{segments = "a.json", temperature = 2.0}, {segments = "b.json", weight = 0.000001}]\n'
        'denominator = "present"\niou = 1.0\n'
    )
    hot = tsm_fuse("--ensemble", "hot.toml")
    before = {s.start_seconds: s.score for s in read_segments(Path("a.json"))["v0"]}
    start = next(s for s in before if s % 10 < 0.1 and s not in (25, 45))
    p = round(before[start], 6)
    expected = 1 / (1 + ((1 - p) / p) ** 0.5)  # half the logit
    found = {row[1]: row[3] for row in rows(hot.out)["v0"]}
    assert found[round(start, 6)] == pytest.approx(expected, abs=2e-6)
    reported = json.loads(hot.out)["external_data"]["members"]
    assert [member["temperature"] for member in reported] == [2.0, 1.0]
