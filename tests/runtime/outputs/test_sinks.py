"""Where results go, and in which format."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import result_of, seg

from tsm_runtime.errors import UsageError
from tsm_runtime.formats.names import IN_FRAMES, SUFFIXES, Format
from tsm_runtime.formats.read_write import read_segments
from tsm_runtime.outputs.output_names import check_output, choose_format, label_ids_for
from tsm_runtime.outputs.sinks import Encoding, open_sink
from tsm_runtime.results import SceneScore
from tsm_runtime.video.finding import VideoInput

ONE = [VideoInput(Path("a.mp4"), "a")]
TWO = [*ONE, VideoInput(Path("b.mp4"), "b")]


@pytest.mark.parametrize(
    ("output", "requested", "chosen"),
    [
        (None, None, "json"),
        ("-", None, "json"),
        ("-", "srt", "srt"),
        ("out/", None, "json"),
        ("a.vtt", None, "vtt"),
        ("a.txt", None, "audacity"),
        ("a.txt", "csv", "csv"),
        ("a.csv", "kaggle", "kaggle"),
        ("/dev/stdout", None, "json"),
    ],
)
def test_the_format_is_the_requested_one_else_that_of_the_name(
    output: str | None, requested: Format | None, chosen: Format
) -> None:
    assert choose_format(output, requested) == chosen


@pytest.mark.parametrize("name", ["a.dat", "a.csv.gz"])
def test_a_suffix_of_no_format_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"--output {name}: no format has the suffix .*known: \.json"):
        choose_format(name, None)
    assert choose_format(name, "vtt") == "vtt"


@pytest.mark.parametrize(
    ("output", "requested"), [("a.srt", None), ("-", "vtt"), (None, "eaf"), ("a.json", "audacity")]
)
def test_a_format_for_one_video_takes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str | None, requested: Format | None
) -> None:
    monkeypatch.chdir(tmp_path)
    check_output(output, ONE, requested)
    with pytest.raises(
        UsageError, match="holds one video, but 2 were given; choose a folder: --output FOLDER/"
    ):
        check_output(output, TWO, requested)
    check_output("out/", TWO, choose_format(output, requested))


@pytest.mark.parametrize("format_", sorted(SUFFIXES.keys() - {"chapters"} - IN_FRAMES))
def test_a_folder_gets_a_file_per_video(tmp_path: Path, format_: Format) -> None:
    sink = open_sink(f"{tmp_path}/out/", format_, Encoding(format=format_))
    results = [
        result_of(seg("walking", n, n + 1), video_id=name) for n, name in enumerate(("x/clip1", "y.z"))
    ]
    for result in results:
        sink.add(result)
    sink.close()
    found = {}
    for result in results:
        path = tmp_path / "out" / f"{result.video_id}{SUFFIXES[format_]}"
        ((_, segments),) = read_segments(path).items()
        found[result.video_id] = segments
    assert found == {result.video_id: list(result.segments) for result in results}


def test_media_reach_the_file(tmp_path: Path) -> None:
    encoding = Encoding(format="via", media={"clip": Path("videos/clip.mkv")})
    sink = open_sink(f"{tmp_path}/a.json", "via", encoding)
    sink.add(result_of())
    sink.close()
    assert json.loads((tmp_path / "a.json").read_text())["file"]["1"]["fname"] == "clip.mkv"


def test_kaggle_writes_the_scene_track_beside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def write(name: str, scene: str | None) -> list[str]:
        scenes = () if scene is None else (SceneScore(label=scene, score=1.0),)
        sink = open_sink(f"{tmp_path}/{name}/", "kaggle", Encoding(format="kaggle"))
        sink.add(replace(result_of(), scenes=scenes))
        sink.close()
        return sorted(path.name for path in (tmp_path / name).iterdir())

    assert write("known", "Nature") == ["clip.csv", "clip_scenes.csv"]
    assert (tmp_path / "known" / "clip_scenes.csv").read_text().splitlines()[1].startswith("clip,0,0,0,0,1,0")
    assert write("none", None) == ["clip.csv"]
    assert caplog.messages == []
    assert write("other", "yard") == ["clip.csv"]
    assert "clip_scenes.csv: scene 'yard' is none of the 28 of 360+x" in caplog.text


def test_class_ids_are_checked_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text('{"dark": 1, "bright": null}')
    labels = ("dark", "bright", "background")
    assert label_ids_for("kaggle", tmp_path / "map.json", labels) == {"dark": 1, "bright": None}
    assert label_ids_for("kaggle", None, ("walking", "background"))["walking"] == 1
    label_ids_for("json", None, labels)
    with pytest.raises(UsageError, match="no class id for 'dark', 'bright'; give --label-map FILE"):
        label_ids_for("kaggle", None, labels)
    with pytest.raises(UsageError, match="--label-map is for --format kaggle only, not json"):
        label_ids_for("json", tmp_path / "map.json", labels)
