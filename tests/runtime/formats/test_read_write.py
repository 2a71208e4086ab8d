"""Writing whole files, and detection JSON and CSV there and back."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import result_of, seg
from hypothesis import given
from hypothesis import strategies as st

from tsm_runtime.errors import RunError, UsageError
from tsm_runtime.files import whole_folder, write_whole
from tsm_runtime.formats.csv_table import results_to_csv
from tsm_runtime.formats.detection_json import results_to_json
from tsm_runtime.formats.read_write import read_segments
from tsm_runtime.results import Result, SceneScore

# --- whole files ----------------------------------------------------------------------------------


class DiskFullError(OSError):
    pass


def fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on every file takes two bytes, then the disk is full."""
    original = Path.open

    @contextmanager
    def broken(path: Path, mode: str = "r") -> Iterator[object]:
        with original(path, mode) as file:

            class Broken:
                def write(self, content: bytes) -> int:
                    file.write(content[:2])
                    raise DiskFullError(28, "No space left on device")

            yield Broken()

    monkeypatch.setattr(Path, "open", broken)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("data", [b"\x00\xff", "Grüße\n", "", "lone \udcff"])
def test_write_whole_writes_all(tmp_path: Path, data: bytes | str) -> None:
    write_whole(tmp_path / "out", data)
    expected = data if isinstance(data, bytes) else data.replace("\udcff", "\\udcff").encode()
    assert (tmp_path / "out").read_bytes() == expected
    assert names(tmp_path) == ["out"]


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.json"
    target.write_bytes(b"old")
    fill_the_disk(monkeypatch)
    with pytest.raises(RunError, match=r"cannot write .*out\.json: No space left on device"):
        write_whole(target, b"new content")
    monkeypatch.undo()
    assert names(tmp_path) == ["out.json"]
    assert target.read_bytes() == b"old"


def test_a_failed_write_of_a_new_file_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_the_disk(monkeypatch)
    with pytest.raises(RunError):
        write_whole(tmp_path / "out.json", b"new content")
    assert names(tmp_path) == []


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "out.json", b"new")
    assert names(tmp_path) == []


@pytest.mark.parametrize(("place", "words"), [("no/such/out", "No such file"), ("folder", "Is a directory")])
def test_a_target_that_cannot_be_written_is_named(tmp_path: Path, place: str, words: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match=words) as caught:
        write_whole(tmp_path / place, b"x")
    assert str(tmp_path / place) in str(caught.value)


def test_permissions_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    ordinary, target = tmp_path / "ordinary", tmp_path / "target"
    ordinary.write_bytes(b"")
    write_whole(target, b"1")
    assert target.stat().st_mode == ordinary.stat().st_mode
    target.chmod(0o640)
    write_whole(target, b"2")
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_links_and_devices_stay_what_they_are(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    write_whole(link, b"1")
    assert link.is_symlink()
    assert (tmp_path / "real").read_bytes() == b"1"
    write_whole(Path(os.devnull), b"1")
    assert not Path(os.devnull).is_file()


def fill(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_text(content)
    (folder / "models").mkdir()
    (folder / "models" / "model.onnx").write_text(content)


def test_a_whole_folder_appears_and_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    for content in ("first", "second"):
        with whole_folder(target) as folder:
            fill(folder, content)
            before = (target / "manifest.json").read_text() if target.exists() else None
        assert before in (None, "first")
        assert (target / "models" / "model.onnx").read_text() == content
    assert names(tmp_path) == ["bundle"]


def fail_within(target: Path, error: Exception) -> None:
    with whole_folder(target) as folder:
        (folder / "manifest.json").write_text("new")
        raise error


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with whole_folder(target) as folder:
        fill(folder, "old")
    with pytest.raises(ZeroDivisionError):
        fail_within(target, ZeroDivisionError())
    with pytest.raises(RunError, match=r"cannot write folder .*bundle: .*No space left on device"):
        fail_within(target, DiskFullError(28, "No space left on device"))
    assert (target / "manifest.json").read_text() == "old"
    assert names(tmp_path) == ["bundle"]


def test_a_failed_exchange_brings_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "bundle"
    with whole_folder(target) as folder:
        fill(folder, "old")
    original = Path.rename
    calls: list[Path] = []

    def second_fails(source: Path, goal: Path) -> Path:
        calls.append(source)
        if len(calls) == 2:
            raise DiskFullError(28, "No space left on device")
        return original(source, goal)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(RunError), whole_folder(target) as folder:
        fill(folder, "new")
    assert (target / "manifest.json").read_text() == "old"
    assert names(tmp_path) == ["bundle"]


def test_an_empty_folder_is_taken_another_is_not(tmp_path: Path) -> None:
    target = tmp_path / "home"
    target.mkdir()
    with whole_folder(target) as folder:
        (folder / "config.pbtxt").write_text("")
    with pytest.raises(UsageError, match=r"holds other files \(no manifest\.json\)"), whole_folder(target):
        pass
    with whole_folder(target, marker="config.pbtxt") as folder:
        (folder / "config.pbtxt").write_text("new")
    with pytest.raises(UsageError, match="not a folder"), whole_folder(target / "config.pbtxt"):
        pass
    assert names(tmp_path) == ["home"]
    assert (target / "config.pbtxt").read_text() == "new"


# --- JSON and CSV ---------------------------------------------------------------------------------


def test_the_json_holds_everything_and_looks_so() -> None:
    scenes = (SceneScore(label="lawn", score=0.25), SceneScore(label="yard", score=0.75))
    found = replace(
        result_of(seg("hug", 0.0, 1.5, 0.123456789), seg("kick", 2.0, 2.5), scenes=scenes),
        complete=False,
        gaps=((3.0, 4.0000000001),),
        corrupt_frames=2,
    )
    text = results_to_json([found, result_of(video_id="b")], {"bundle": "0" * 64, "versions": {"numpy": "2"}})
    assert text.decode() == (
        "{\n"
        ' "version": "tsm-tal 1",\n'
        ' "results": {\n'
        '  "clip": [\n'
        '   {"label": "hug", "segment": [0.0, 1.5], "score": 0.123457},\n'
        '   {"label": "kick", "segment": [2.0, 2.5], "score": 1.0}\n'
        "  ],\n"
        '  "b": []\n'
        " },\n"
        ' "scenes": {"clip": [{"label": "yard", "score": 0.75}, '
        '{"label": "lawn", "score": 0.25}], "b": []},\n'
        ' "external_data": {\n'
        f'  "bundle": "{"0" * 64}",\n'
        '  "versions": {"numpy": "2"},\n'
        '  "videos": {\n'
        '   "clip": {"duration": 10.04, "intervals": 20, "complete": false, '
        '"gaps": [[3.0, 4.0]], "corrupt_frames": 2},\n'
        '   "b": {"duration": 10.04, "intervals": 20, "complete": true, "gaps": [], "corrupt_frames": 0}\n'
        "  }\n"
        " }\n"
        "}\n"
    )


def test_the_csv_holds_one_line_per_segment() -> None:
    found = result_of(seg("hug", 0.0, 1.5, 0.1234567), seg('say "hi", twice', 2.0, 2.5))
    assert results_to_csv([found, result_of(video_id="empty")]) == (
        'video,label,start,end,score\nclip,hug,0.0,1.5,0.123457\nclip,"say ""hi"", twice",2.0,2.5,1.0\n'
    )
    assert results_to_csv([]) == "video,label,start,end,score\n"


@pytest.mark.parametrize("label", ["=1+1", "+a", "-a", "@SUM(A1)", "\ta", "\ra", "'=a"])
def test_a_formula_in_a_csv_is_made_harmless(tmp_path: Path, label: str) -> None:
    text = results_to_csv([result_of(seg(label, 0, 1), video_id=label)])
    cells = text.split("\n", 1)[1].split(",")
    assert all(cell.strip('"').startswith("'") for cell in cells[:2])
    assert not any(cell.startswith("'") for cell in cells[2:])
    write_whole(tmp_path / "out.csv", text)
    assert read_segments(tmp_path / "out.csv") == {label: [seg(label, 0, 1)]}


def test_two_results_of_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="'clip'"):
        results_to_json([result_of(), result_of()], {})
    with pytest.raises(ValueError, match="'clip'"):
        results_to_csv([result_of(), result_of()])


def test_a_number_that_is_not_finite_never_reaches_a_file() -> None:
    with pytest.raises(ValueError, match="JSON"):
        results_to_json([replace(result_of(), duration_seconds=math.inf)], {})
    with pytest.raises(ValueError, match="'lawn'"):
        SceneScore(label="lawn", score=math.nan)


any_text = st.text(min_size=1, max_size=8).filter(lambda text: bool(text.strip()))
any_segment = st.builds(
    lambda label, start, length, score: seg(label, start / 1000, (start + length) / 1000, score / 1e6),
    any_text,
    st.integers(0, 10_000_000),
    st.integers(1, 10_000_000),
    st.integers(0, 1_000_000),
)
any_results = st.lists(
    st.builds(
        lambda video_id, segments: result_of(*segments, video_id=video_id),
        any_text,
        st.lists(any_segment, max_size=4),
    ),
    max_size=4,
    unique_by=lambda result: result.video_id,
)


@given(any_results)
def test_json_there_and_back(tmp_path_factory: pytest.TempPathFactory, results: list[Result]) -> None:
    path = tmp_path_factory.mktemp("json") / "out.json"
    data = results_to_json(results, {"options": {"text": [r.video_id for r in results]}})
    assert data == results_to_json(results, {"options": {"text": [r.video_id for r in results]}})
    assert data.endswith(b"}\n")
    write_whole(path, data)
    assert read_segments(path) == {r.video_id: list(r.segments) for r in results}


@given(any_results)
def test_csv_there_and_back(tmp_path_factory: pytest.TempPathFactory, results: list[Result]) -> None:
    path = tmp_path_factory.mktemp("csv") / "out.csv"
    write_whole(path, results_to_csv(results))
    assert read_segments(path) == {r.video_id: list(r.segments) for r in results if r.segments}


def test_a_file_name_that_is_not_utf8_survives_json(tmp_path: Path) -> None:
    (tmp_path / "out.json").write_bytes(
        results_to_json([result_of(seg("hug", 0, 1), video_id="a\udcff")], {})
    )
    assert list(read_segments(tmp_path / "out.json")) == ["a\udcff"]


# --- reading --------------------------------------------------------------------------------------


def test_reads_what_other_tools_write(shared_data: Path) -> None:
    found = read_segments(shared_data / "eval" / "x360_predictions_made.json")
    assert sum(len(segments) for segments in found.values()) == 339


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"label": "a", "segment": [0, 1]}, "score"),
        ({"segment": [0, 1], "score": 1}, "label"),
        ({"label": "a", "score": 1}, "segment"),
        ({"label": "a", "segment": [0, 1], "score": "high"}, "float"),
        ({"label": "", "segment": [0, 1], "score": 1}, "empty label"),
        ({"label": "a", "segment": [1, 1], "score": 1}, "start < end"),
        ({"label": "a", "segment": [-1, 1], "score": 1}, "0 <= start"),
        ({"label": "a", "segment": [0, float("nan")], "score": 1}, "not finite"),
        ({"label": "a", "segment": [0, 1], "score": float("nan")}, "not finite"),
        (3, "object"),
    ],
)
def test_a_wrong_detection_is_named(tmp_path: Path, entry: object, words: str) -> None:
    path = tmp_path / "found.json"
    good = {"label": "a", "segment": [0, 1], "score": 1}
    path.write_text(json.dumps({"results": {"v1": [], "v2": [good, entry]}}))
    with pytest.raises(UsageError, match=words) as caught:
        read_segments(path)
    assert str(caught.value).startswith(f"{path}: video 'v2', entry 2: ")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "nonsense", "not JSON"),
        ("a.json", '{"database": {}}', "results"),
        ("a.json", '{"results": {"v": {}}}', "'v': expected a list"),
        ("a.csv", "", "no column video, label, start, end, score"),
        ("a.csv", "video,label,start,end\n", "no column score"),
        ("a.csv", "video,label,start,end,score\nv,a,0,1\n", "line 2: 4 cells, the header has 5"),
        ("a.csv", "video,label,start,end,score\nv,a,0,x,1\n", r"line 2 \(video 'v'\): end is 'x'"),
        ("a.csv", "video,label,start,end,score\n\nv,a,0,nan,1\n", r"line 3 \(video 'v'\): .*not finite"),
        ("a.csv", "video,label,start,end,score\nv,a,1,1,1\n", r"line 2 .*start < end"),
        ("a.csv", "video,label,start,end,score\nv,,0,1,1\n", "line 2 .*empty label"),
        ("a.csv", 'video,label,start,end,score\nv,"a,0,1,1\n', "line 2: not CSV"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, name: str, content: str, words: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UsageError, match=words) as caught:
        read_segments(path)
    assert str(caught.value).startswith(str(path))


def test_csv_columns_may_come_in_another_order(tmp_path: Path) -> None:
    path = tmp_path / "a.CSV"
    path.write_bytes(b"\xef\xbb\xbfscore,end,start,label,video,note\r\n0.5,2,1,a,v,x\r\n")
    assert read_segments(path) == {"v": [seg("a", 1, 2, 0.5)]}
