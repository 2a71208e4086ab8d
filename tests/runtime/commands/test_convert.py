"""`tsm-convert`: formats into each other, through the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from entry import Command, command
from media import counted, write_video

from tsm_runtime.commands.convert import main
from tsm_runtime.formats.annotations import read_annotations


@pytest.fixture
def convert(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    return command("tsm-convert", main, monkeypatch, capfdbinary)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "t.csv"
    path.write_text("clip,begin,finish,what\na.mp4,0.4,1.2,run\nb.mp4,1,2,sit\na.mp4,1.2,2,sit\n")
    return path


COLUMNS = ("--columns", "video=clip,start=begin,end=finish,label=what")


def test_to_annotations_that_training_reads(convert: Command, table: Path, tmp_path: Path) -> None:
    output = tmp_path / "truth.json"
    assert convert(table, output, *COLUMNS, "--subset", "validation") == (0, "", "")
    read = read_annotations(output).subset("validation")
    assert {v.video_id: [s.label for s in v.segments] for v in read.videos} == {
        "a": ["run", "sit"],
        "b": ["sit"],
    }


def test_a_file_per_video_with_the_frame_rate_of_the_videos(
    convert: Command, table: Path, tmp_path: Path
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a", "b"):
        write_video(videos / f"{name}.mp4", counted(4), rate=5)
    output = f"{tmp_path}/labels/"
    assert convert(table, output, *COLUMNS, "--format", "frame-labels", "--videos", videos).code == 0
    written = {path.name: path.read_text().split() for path in Path(output).iterdir()}
    assert written == {
        "a.txt": ["background"] * 2 + ["run"] * 4 + ["sit"] * 4,
        "b.txt": ["background"] * 5 + ["sit"] * 5,
    }


def test_scores_are_kept_and_folders_read(convert: Command, tmp_path: Path) -> None:
    found = {"results": {"a": [{"label": "run", "segment": [0, 1], "score": 0.25}]}}
    (tmp_path / "found.json").write_text(json.dumps(found))
    assert convert(tmp_path / "found.json", tmp_path / "p.boris").code == 0
    back = convert(tmp_path / "p.boris", "-", "--format", "json")
    assert json.loads(back.out)["results"] == found["results"]
    labels = tmp_path / "audacity"
    labels.mkdir()
    (labels / "x.txt").write_text("0.5\t1.5\trun\n")
    (labels / "y.txt").write_text("0.5\t1.5\tsit\n")
    assert convert(labels, "-", "--format", "csv").out.splitlines()[1:] == [
        "x,run,0.5,1.5,1.0",
        "y,sit,0.5,1.5,1.0",
    ]


@pytest.mark.parametrize("format_", ["boris", "label-studio", "frame-labels", "one-hot", "eaf", "audacity"])
def test_real_annotations_there_and_back(
    convert: Command, shared_data: Path, tmp_path: Path, format_: str
) -> None:
    data = shared_data / "ut_interaction"
    one_file = {"boris": "a.boris", "label-studio": "a.json"}
    there = f"{tmp_path}/{one_file.get(format_, 'folder/')}"
    truth = data / "ground_truth.json"
    assert convert(truth, there, "--format", format_, "--videos", data / "videos").code == 0
    assert convert(there, tmp_path / "back.json", "--frame-rate", 25).code == 0
    before = {video.video_id: video.segments for video in read_annotations(truth).videos}
    after = {video.video_id: video.segments for video in read_annotations(tmp_path / "back.json").videos}
    assert before.keys() == after.keys()
    for name, segments in before.items():
        ordered = sorted(segments, key=lambda segment: segment.start_seconds)
        assert [s.label for s in after[name]] == [s.label for s in ordered]
        for one, other in zip(after[name], ordered, strict=True):
            assert one.start_seconds == pytest.approx(other.start_seconds, abs=1e-3)
            assert one.end_seconds == pytest.approx(other.end_seconds, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("t.csv", "out.json"), "t.csv: no column video"),
        (("t.csv", "out.vtt", *COLUMNS), "holds one video, but 2 were given; choose a folder"),
        (("t.csv", "out.edl", *COLUMNS), "the frame rate of video 'a' is unknown; give --frame-rate"),
        (("t.csv", "out.json", "--videos", "nowhere"), "--videos nowhere: there is no such folder"),
        (("t.csv", "no/out.json", *COLUMNS), "there is no folder no"),
        (("t.csv", "out.json", *COLUMNS, "--frame-rate", "0"), "frame rate is 0; expected a number above 0"),
        (("gone.csv", "out.json"), "gone.csv: cannot be read"),
    ],
)
def test_what_a_user_can_get_wrong(
    convert: Command,
    table: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = convert(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert not list(tmp_path.glob("out*"))
