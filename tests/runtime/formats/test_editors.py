"""Files for editors, read back by OpenTimelineIO and its adapters, and the formats that count frames."""

from __future__ import annotations

import json
from pathlib import Path

import opentimelineio as otio
import pytest
from media import counted, write_video
from pympi import Eaf

from tsm_runtime.errors import BackendError, UsageError
from tsm_runtime.formats.names import Format
from tsm_runtime.formats.options import ReadOptions
from tsm_runtime.formats.read_write import encode_results, read_segments
from tsm_runtime.formats.result_file import result_of_segments
from tsm_runtime.results import Result, Segment

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the adapters' imports


def seg(label: str, start: float, end: float, score: float = 0.5) -> Segment:
    return Segment(label=label, start_seconds=start, end_seconds=end, score=score)


FOUND = result_of_segments("day", [seg("run", 1.0, 2.48, 0.75), seg("sit & wait", 2.0, 12.0)])


def text_of(format_: Format, *results: Result, rate: float = 25.0) -> str:
    return encode_results(results, format_, frame_rate=rate).decode()


# --- editors --------------------------------------------------------------------------------------


def test_an_edit_list_is_read_by_an_editor() -> None:
    text = text_of("edl", FOUND)
    (track,) = otio.adapters.read_from_string(text, "cmx_3600", rate=25).tracks
    clips = list(track)
    spans = [(c.source_range.start_time.value, c.source_range.duration.value) for c in clips]
    assert spans == [(25, 37), (50, 250)]
    assert [c.name for c in clips] == ["day", "day"]
    assert [[m.name for m in c.markers] for c in clips] == [["run"], ["sit & wait"]]


def test_an_edit_list_counts_real_frames_without_drop_frames() -> None:
    text = text_of("edl", result_of_segments("a", [seg("run", 3600.0, 3601.0)]), rate=29.97)
    first = round(3600 * 29.97)
    expected = f"{first // 108000:02}:{first // 1800 % 60:02}:{first // 30 % 60:02}:{first % 30:02}"
    assert f"C        {expected} " in text


def test_an_edit_list_has_one_frame_rate(tmp_path: Path) -> None:
    media = {
        name: write_video(tmp_path / f"{name}.mp4", counted(4), rate=fps)
        for name, fps in (("a", 25), ("b", 30))
    }
    results = [result_of_segments(name, [seg("run", 0, 0.1)]) for name in media]
    with pytest.raises(UsageError, match="an edit list has one frame rate, the videos have 25, 30"):
        encode_results(results, "edl", media=media)
    assert json.loads(encode_results(results, "label-studio", media=media))[1]["data"] == {
        "video": "b.mp4",
        "fps": 30.0,
    }


@pytest.mark.parametrize("rate", [25.0, 29.97])
def test_final_cut_markers_are_read_by_an_editor(rate: float) -> None:
    text = text_of("fcpxml", FOUND, rate=rate)
    (clip,) = otio.adapters.read_from_string(text, "fcpx_xml").find_clips()
    found = [
        (m.name, m.marked_range.start_time.to_seconds(), m.marked_range.duration.to_seconds())
        for m in clip.markers
    ]
    assert [name for name, _, _ in found] == ["run", "sit & wait"]
    for (_, start, length), segment in zip(found, FOUND.segments, strict=True):
        assert start == pytest.approx(segment.start_seconds, abs=1 / rate)
        assert start + length == pytest.approx(segment.end_seconds, abs=1 / rate)


def test_opentimelineio_markers() -> None:
    timeline = otio.adapters.read_from_string(text_of("otio", FOUND), "otio_json")
    (clip,) = timeline.find_clips()
    assert clip.name == "day"
    assert [(m.name, m.marked_range.start_time.to_seconds()) for m in clip.markers] == [
        ("run", 1.0),
        ("sit & wait", 2.0),
    ]
    assert clip.markers[0].metadata["tsm-tal"]["score"] == 0.75


def test_opentimelineio_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentimelineio", None)
    with pytest.raises(BackendError, match=r"pip install 'tsm-tal\[otio\]'"):
        text_of("otio", FOUND)


def test_chapters_are_ten_seconds_apart_and_begin_at_zero() -> None:
    found = [
        seg("a", 4, 6),
        seg("b", 8, 9, 0.4),
        seg("c", 20, 21),
        seg("d", 3700, 3710),
        seg("e", 3702, 3709, 0.9),
    ]
    assert text_of("chapters", result_of_segments("x", found)) == "0:00 a\n0:20 c\n1:01:42 e\n"
    late = [seg("c", 20, 21), seg("d", 40, 41)]
    assert text_of("chapters", result_of_segments("x", late)).startswith("0:00 background\n0:20 c\n")
    with pytest.raises(UsageError, match=r"2 chapters: a video needs 3"):
        text_of("chapters", result_of_segments("x", [seg("c", 20, 21)]))


# --- formats that count frames --------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["frame-labels", "one-hot", "label-studio"])
def test_frames_there_and_back(tmp_path: Path, format_: Format) -> None:
    result = result_of_segments("day", [seg("run", 0.4, 1.0), seg("sit", 1.0, 3.0), seg("run", 3.5, 4.0)])
    suffix = {"frame-labels": "txt", "one-hot": "csv", "label-studio": "json"}[format_]
    path = tmp_path / f"day.{suffix}"
    path.write_text(text_of(format_, result, rate=10.0))
    found = read_segments(path, options=ReadOptions(frame_rate=10.0))["day"]
    assert [(s.label, s.start_seconds, s.end_seconds) for s in found] == [
        (s.label, s.start_seconds, s.end_seconds) for s in result.segments
    ]


def test_one_label_a_frame_is_that_of_the_highest_score() -> None:
    overlapping = result_of_segments("x", [seg("run", 0.0, 0.3, 0.9), seg("sit", 0.2, 0.5, 0.3)])
    assert text_of("frame-labels", overlapping, rate=10.0).split() == ["run"] * 3 + ["sit"] * 2
    rows = text_of("one-hot", overlapping, rate=10.0).splitlines()
    assert rows[0] == ",background,run,sit"
    assert rows[3] == "2,0,1,1"


def test_the_frame_rate_is_that_of_the_video(tmp_path: Path) -> None:
    media = {"day": write_video(tmp_path / "day.mp4", counted(4), rate=50)}
    text = encode_results([FOUND], "frame-labels", media=media).decode()
    assert text.split("\n")[50:52] == ["run", "run"]
    assert text.split("\n")[49] == "background"
    with pytest.raises(UsageError, match="the frame rate of video 'day' is unknown; give --frame-rate"):
        encode_results([FOUND], "frame-labels")


# --- ELAN, by pympi -------------------------------------------------------------------------------


def test_an_elan_file_of_pympi_is_read_and_ours_by_pympi(tmp_path: Path) -> None:
    document = Eaf()
    document.add_tier("actions")
    document.add_annotation("actions", 1000, 2500, "run")
    document.add_linked_file("day.mp4", mimetype="video/mp4", time_origin=500)
    document.to_file(tmp_path / "day.eaf")
    (found,) = read_segments(tmp_path / "day.eaf")["day"]
    assert (found.label, found.start_seconds, found.end_seconds) == ("run", 1.5, 3.0)
    (tmp_path / "ours.eaf").write_bytes(encode_results([FOUND], "eaf"))
    read = Eaf(tmp_path / "ours.eaf")
    assert read.get_annotation_data_for_tier("actions") == [(1000, 2480, "run")]
    assert read.get_annotation_data_for_tier("actions 2") == [(2000, 12000, "sit & wait")]


# --- BORIS ----------------------------------------------------------------------------------------


def test_a_boris_project_there_and_back(tmp_path: Path) -> None:
    found = [
        seg("run", 0.0, 2.0, 0.9),
        seg("run", 1.0, 3.0, 0.25),
        seg("sit", 3.0, 4.0),
        seg("run", 3.0, 5.0, 1.0),
    ]
    path = tmp_path / "p.boris"
    path.write_bytes(encode_results([result_of_segments("day", found), result_of_segments("b", [])], "boris"))
    read = read_segments(path)
    assert sorted(read["day"], key=lambda s: (s.start_seconds, s.score)) == sorted(
        found, key=lambda s: (s.start_seconds, s.score)
    )
    project = json.loads(path.read_text())
    assert [b["code"] for b in project["behaviors_conf"].values()] == ["run", "sit"]
    assert project["project_format_version"] == "7.0"
