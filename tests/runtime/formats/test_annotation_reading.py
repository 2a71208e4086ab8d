"""Ground truth from CSV, VIA and ActivityNet files: what is read, and where a fault is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from entry import command
from hypothesis import given
from hypothesis import strategies as st

from tsm_runtime.commands import evaluate as eval_cli
from tsm_runtime.errors import UsageError
from tsm_runtime.formats.annotations import annotation_format, read_annotations, read_via_file
from tsm_runtime.formats.csv_truth import read_scenes
from tsm_runtime.formats.ground_truth import GroundTruth
from tsm_runtime.formats.options import ReadOptions
from tsm_runtime.results import Segment

WRITTEN_BY_VIA = {"1_a": {"vid": "1", "flg": 0, "z": [7.25, 35.0], "xy": [], "av": {"1": "operating phone"}}}
PUBLISHED = {"1_1_1": {"duration": [7.25, 35.0], "action": {"1": "operating phone"}}}


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def found(truth: GroundTruth) -> dict[str, list[tuple[str, float, float]]]:
    return {
        video.video_id: [(s.label, s.start_seconds, s.end_seconds) for s in video.segments]
        for video in truth.videos
    }


def first_fault(read: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- CSV ------------------------------------------------------------------------------------------

CSV = 'video,label,start,end\nb,walk,0.5,2\na,wave,1,1.5\nb,"stand, still",3,4.25\nidle,,,\n'


def test_csv(tmp_path: Path) -> None:
    path = written(tmp_path / "truth.csv", CSV)
    assert annotation_format(path) == "csv"
    assert found(read_annotations(path)) == {
        "b": [("walk", 0.5, 2.0), ("stand, still", 3.0, 4.25)],
        "a": [("wave", 1.0, 1.5)],
        "idle": [],
    }


def test_csv_of_a_spreadsheet(tmp_path: Path) -> None:
    text = "\ufeffnote,end,start,label,video\r\n,2,0.5,'=wave,'-v1\r\n"
    assert found(read_annotations(written(tmp_path / "t.csv", text))) == {"-v1": [("=wave", 0.5, 2.0)]}


BAD_ROWS = [
    ("a,walk,x,2", "line 2 (video 'a'): start is 'x'; expected seconds"),
    ("a,walk,1,", "line 2 (video 'a'): end is ''; expected seconds"),
    ("a,,1,2", "line 2 (video 'a'): empty label"),
    (",walk,1,2", "line 2: empty video"),
    ("a,walk,2,1", "line 2 (video 'a'): segment 'walk' must satisfy 0 <= start < end, got [2.0, 1.0]"),
    ("a,walk,-1,1", "must satisfy 0 <= start < end, got [-1.0, 1.0]"),
    ("a,walk,nan,1", "line 2 (video 'a'): segment 'walk' has a bound or score that is not finite"),
    ("a,background,0,1", "line 2: segment [0, 1]: label 'background' is reserved"),
    ("a,walk,1", "line 2: 3 cells, the header has 4"),
]


@pytest.mark.parametrize(("row", "said"), BAD_ROWS)
def test_the_error_of_a_wrong_row_names_its_line(tmp_path: Path, row: str, said: str) -> None:
    path = written(tmp_path / "t.csv", f"video,label,start,end\n{row}\n")
    message = first_fault(lambda: read_annotations(path))
    assert message.startswith(str(path))
    assert said in message


def test_all_faults_are_collected_and_the_rest_is_read(tmp_path: Path) -> None:
    rows = [row for row, _ in BAD_ROWS]
    path = written(tmp_path / "t.csv", "\n".join(["video,label,start,end", *rows, "good,walk,1,2"]))
    faults: list[str] = []
    truth = read_annotations(path, faults=faults)
    assert found(truth)["good"] == [("walk", 1.0, 2.0)]
    assert sum(len(video.segments) for video in truth.videos) == 1
    assert [f"line {n}" in fault for n, fault in enumerate(faults, start=2)] == [True] * len(BAD_ROWS)


def test_csv_without_a_column(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "video,label,begin,end\n")
    assert "no column start; expected the header video,label,start,end" in first_fault(
        lambda: read_annotations(path)
    )


def test_scenes(tmp_path: Path) -> None:
    path = written(tmp_path / "s.csv", 'video,scene,note\na,Kitchen,\nb,"Hotel & Stay",x\na,Kitchen,again\n')
    assert read_scenes(path) == {"a": "Kitchen", "b": "Hotel & Stay"}
    bad = written(tmp_path / "b.csv", "video,scene\na,Kitchen\na,Nature\n,Nature\nc, \n")
    assert "line 3: video 'a' has the scene 'Kitchen' already" in first_fault(lambda: read_scenes(bad))
    faults: list[str] = []
    assert read_scenes(bad, faults=faults) == {"a": "Kitchen"}
    assert [fault.rsplit(": ", 1)[1] for fault in faults[1:]] == ["empty video", "empty scene"]


# --- VIA ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metadata", [WRITTEN_BY_VIA, PUBLISHED], ids=["z/av", "duration/action"])
def test_both_spellings(tmp_path: Path, metadata: Any) -> None:
    path = written(tmp_path / "morning.json", {"metadata": metadata})
    assert annotation_format(path) == "via"
    assert found(read_annotations(path)) == {"morning": [("operating phone", 7.25, 35.0)]}


def test_a_project_of_three_videos_with_labels_from_a_list(tmp_path: Path) -> None:
    """As VIA 3 saves it: the label is the number of an option."""
    project = {
        "attribute": {"1": {"aname": "TEMPORAL-SEGMENTS", "type": 4, "options": {"0": "walk", "1": "wave"}}},
        "file": {str(n): {"fid": str(n), "fname": f"{name}.mp4"} for n, name in enumerate("abc", start=1)},
        "view": {str(n): {"fid_list": [str(n)]} for n in (1, 2, 3)},
        "metadata": {
            "1_x": {"vid": "1", "z": [1, 2], "xy": [], "av": {"1": "1"}},
            "2_y": {"vid": "2", "z": [3.5, 4], "xy": [], "av": {"1": "0"}},
            "2_point": {"vid": "2", "z": [3.5], "xy": [], "av": {"1": "0"}},
            "2_region": {"vid": "2", "z": [], "xy": [2, 1, 1, 5, 5], "av": {"1": "0"}},
        },
    }
    path = written(tmp_path / "via.json", project)
    faults: list[str] = []
    truth = read_annotations(path, faults=faults)
    assert found(truth) == {"a": [("wave", 1.0, 2.0)], "b": [("walk", 3.5, 4.0)]}
    assert faults == []
    assert truth.unannotated == ("c",)
    assert truth.warnings == (f"{path}: no entry for 1 of 3 videos: not annotated, left out: c",)
    as_background = read_annotations(path, options=ReadOptions(unannotated="background"))
    assert found(as_background) == {"a": [("wave", 1.0, 2.0)], "b": [("walk", 3.5, 4.0)], "c": []}
    assert as_background.warnings == ()


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"z": [1, 2], "av": {}}, 'segment [1.0, 2.0] has no action ("z" or "duration", and "av"'),
        ({"duration": [1, 2]}, "segment [1.0, 2.0] has no action"),
        ({"action": {"1": "walk"}}, "no times"),
        ({"z": [2, 1], "av": {"1": "walk"}}, "must satisfy 0 <= start < end"),
        ({"z": ["1", 2], "av": {"1": "walk"}}, "Expected `float`, got `str`"),
        ({"z": [1, 2], "av": {"1": " "}}, "empty label"),
        ("walk", "Expected `object`, got `str`"),
    ],
)
def test_the_error_of_a_wrong_entry_names_its_key(tmp_path: Path, entry: Any, said: str) -> None:
    path = written(tmp_path / "v.json", {"metadata": {"1_bad": entry, **WRITTEN_BY_VIA}})
    faults: list[str] = []
    assert found(read_annotations(path, faults=faults)) == {"v": [("operating phone", 7.25, 35.0)]}
    (fault,) = faults
    assert fault.startswith(f"{path}: entry '1_bad': ")
    assert said in fault


def test_the_reserved_label(tmp_path: Path) -> None:
    path = written(tmp_path / "v.json", {"metadata": {"1": {"z": [1, 2], "av": {"1": "background"}}}})
    assert "segment [1, 2]: label 'background' is reserved" in first_fault(lambda: read_annotations(path))


def test_a_folder_of_projects(tmp_path: Path) -> None:
    for name in "ba":
        written(tmp_path / f"{name}.json", {"metadata": WRITTEN_BY_VIA})
    assert annotation_format(tmp_path) == "via"
    assert list(found(read_annotations(tmp_path))) == ["a", "b"]
    project = {
        "metadata": {"1": {"vid": "1", "z": [1, 2], "av": {"1": "x"}}},
        "file": {"1": {"fname": "a.mp4"}},
        "view": {"1": {"fid_list": ["1"]}},
    }
    written(tmp_path / "c.json", project)
    assert first_fault(lambda: read_annotations(tmp_path)) == (
        f"{tmp_path / 'c.json'}: video 'a' is annotated in a.json too"
    )
    written(tmp_path / "d.json", "{")
    faults: list[str] = []
    assert list(found(read_annotations(tmp_path, faults=faults))) == ["a", "b"]
    assert faults[1].startswith(f"{tmp_path / 'd.json'}: not JSON")
    (tmp_path / "none").mkdir()
    assert "no *.json in this folder" in first_fault(lambda: read_annotations(tmp_path / "none"))


def test_bytes_that_are_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    path.write_bytes(json.dumps({"metadata": WRITTEN_BY_VIA}).encode().replace(b"phone", b"t\xe9l\xe9"))
    assert "not UTF-8 text" in first_fault(lambda: read_via_file(path))
    notes: list[str] = []
    (segments,) = read_via_file(path, notes=notes).values()
    assert [segment.label for segment in segments] == ["operating t\ufffdl\ufffd"]
    assert notes == [f"{path}: not UTF-8; the bytes in question were read as \ufffd"]


# --- ActivityNet ----------------------------------------------------------------------------------


def test_activitynet_faults_are_collected(tmp_path: Path) -> None:
    text = (
        '{"database": {"a": {"annotations": [{"label": "walk", "segment": [0, 1]}, {"label": "walk"},'
        ' {"label": "", "segment": [0, 1]}, {"label": "wave", "segment": [3, 2]}]},'
        ' "b": 3, "c": {"duration": -1}, "d": {"subset": "x"}, "d": {"subset": "y"}}}'
    )
    path = written(tmp_path / "t.json", text)
    assert annotation_format(path) == "activitynet"
    faults: list[str] = []
    truth = read_annotations(path, faults=faults)
    assert [(v.video_id, v.subset, len(v.segments)) for v in truth.videos] == [("a", "", 1), ("d", "y", 0)]
    assert [fault.removeprefix(f"{path}: ").split(":")[0] for fault in faults] == [
        "key 'd' is there 2 times; only the last counts",
        "video 'a', entry 2",
        "video 'a', entry 3",
        "video 'a', entry 4",
        "video 'b'",
        "video 'c'",
    ]


def test_what_is_no_annotation(tmp_path: Path) -> None:
    for content in ({}, [], 3, {"x": {}}):
        path = written(tmp_path / "x.json", content)
        assert 'neither "database" (ActivityNet JSON) nor "metadata"' in first_fault(
            lambda path=path: read_annotations(path)  # type: ignore[misc]
        )
    assert "cannot be read" in first_fault(lambda: read_annotations(tmp_path / "gone.csv"))


@pytest.mark.parametrize("spelling", ["z/av", "duration/action"])
def test_real_annotations_of_360x(shared_data: Path, spelling: str) -> None:
    """Counts by the list that came with the files."""
    folder = shared_data / "x360_annotations"
    rows = [line.split("\t") for line in (folder / "sessions.tsv").read_text().splitlines()[1:]]
    checked = 0
    for session, kind, _, instances, labels, last_end in rows:
        if kind == spelling:
            truth = read_annotations(folder / "TAL_annotations" / f"{session}.json")
            (video,) = truth.videos
            assert video.video_id == session
            assert len(video.segments) == int(instances)
            assert len({s.label for s in video.segments}) == int(labels)
            assert max(s.end_seconds for s in video.segments) == pytest.approx(float(last_end), abs=0.05)
            checked += 1
    assert checked == 10


@pytest.mark.parametrize("name", ["truth.csv", "truth.json", "via"])
def test_every_format_is_ground_truth_for_an_evaluation(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    entries = {"1_a": {"z": [1, 2], "av": {"1": "walk"}}, "1_b": {"z": [3, 5], "av": {"1": "wave"}}}
    if name == "truth.csv":
        written(tmp_path / name, "video,label,start,end\nclip,walk,1,2\nclip,wave,3,5\n")
    elif name == "via":
        (tmp_path / name).mkdir()
        written(tmp_path / name / "clip.json", {"metadata": entries})
    else:
        annotations = [{"label": "walk", "segment": [1, 2]}, {"label": "wave", "segment": [3, 5]}]
        written(tmp_path / name, {"database": {"clip": {"annotations": annotations}}})
    found_file = written(tmp_path / "found.csv", "video,label,start,end,score\nclip,walk,1,2,0.9\n")
    tsm_eval = command("tsm-eval", eval_cli.main, monkeypatch, capfdbinary)
    code, out, err = tsm_eval(tmp_path / name, found_file, "--json", "--diagnose")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["instances"], report["predictions"]) == (2, 1)
    assert report["average"] == pytest.approx(0.5)


# --- anything at all ------------------------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["1", "walk", "background", "", "\ud800"])
)
KEYS = (
    *("1", "2", "z", "av", "duration", "action", "vid", "metadata", "file", "view", "fid_list", "fname"),
    *("attribute", "options", "video_id", "database", "annotations", "label", "segment", "subset", "scene"),
)
CELLS = ("a", "walk", "1", "2.5", "-1", "nan", "1e999", "", '"', "'=x", "\r", " ")
keys = st.sampled_from(KEYS) | st.text(max_size=3)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)


def read_or_refuse(path: Path) -> None:
    """Whatever the file holds: sound segments, or a fault that names the file."""
    for faults in (None, []):
        messages: list[str] = []
        try:
            truth = read_annotations(path, faults=faults)
        except UsageError as error:
            messages.append(str(error))
        else:
            segments: list[Segment] = [s for video in truth.videos for s in video.segments]
            assert all(0 <= s.start_seconds < s.end_seconds and s.label.strip() for s in segments)
        assert all(str(path) in message for message in (*messages, *(faults or ())))


@given(
    content=st.dictionaries(keys, values)
    | st.builds(lambda x: {"metadata": {"1_a": x, **WRITTEN_BY_VIA}}, values)
    | st.builds(
        lambda entry, rest: {"metadata": {"k": entry}, **rest},
        st.fixed_dictionaries({}, optional=dict.fromkeys(("z", "av", "duration", "action", "vid"), values)),
        st.fixed_dictionaries({}, optional=dict.fromkeys(("file", "view", "attribute"), values)),
    )
    | st.builds(
        lambda video, entry: {"database": {"v": {**video, "annotations": [entry]}}},
        st.fixed_dictionaries({}, optional=dict.fromkeys(("subset", "duration", "scene"), values)),
        st.fixed_dictionaries({}, optional=dict.fromkeys(("label", "segment"), values)),
    )
)
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content))
    read_or_refuse(path)


@given(
    st.lists(
        st.lists(st.sampled_from(CELLS), max_size=5),
        max_size=4,
    )
    | st.text(max_size=40)
)
def test_any_csv_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    text = rows if isinstance(rows, str) else "\n".join([",".join(row) for row in rows])
    path.write_text("video,label,start,end\n" + text, encoding="utf-8", errors="surrogatepass", newline="")
    read_or_refuse(path)
