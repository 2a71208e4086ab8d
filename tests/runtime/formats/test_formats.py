"""Every format of segments: what it looks like, there and back, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fakes import result_of, seg
from hypothesis import given, settings
from hypothesis import strategies as st

from tsm_runtime.errors import UsageError
from tsm_runtime.formats.names import IN_FRAMES, PER_VIDEO, SUFFIXES, Format, format_of
from tsm_runtime.formats.read_write import encode_results, read_segments
from tsm_runtime.formats.text import hide, lanes, reveal
from tsm_runtime.formats.via import read_via
from tsm_runtime.results import Result, SceneScore, Segment

NASTY = [
    *(
        "=1+1",
        "+a",
        "-a",
        "@SUM(A1)",
        "'=a",
        "a --> b",
        "-->",
        "<script>alert(1)</script>",
        "a&amp;b",
        "&lt;",
    ),
    *(
        'say "hi", twice',
        "two\nlines",
        "a\n\nb",
        "\r",
        " around ",
        "tab\there",
        "\\n",
        "\\u000a",
        "\\\\u0001",
    ),
    *(
        "\x00\x01\x1f",
        "\x85\u2028\u2029",
        "\ufffe\uffff",
        "日本語 😀 e\u0301",
        "NOTE x",
        "1",
        "WEBVTT",
        "]]>",
        "{}",
    ),
    "00:00:01.000 --> 00:00:02.000",
]
SCENES = (SceneScore(label="lawn", score=0.25), SceneScore(label="yard & <co>", score=0.75))

labels = st.one_of(
    st.sampled_from(NASTY),
    st.text(min_size=1, max_size=8),
    st.text(alphabet="\\u0a1d<>-&;#\n\r\t \"',=", min_size=1, max_size=12),
).filter(lambda text: bool(text.strip()))
ids = st.one_of(st.sampled_from([*NASTY, "a/b.c", "x.mp4"]), st.text(min_size=1, max_size=6)).filter(
    lambda text: bool(text.strip())
)
segments = st.lists(
    st.builds(
        lambda label, start, length, score: seg(label, start / 1000, (start + length) / 1000, score / 1e6),
        labels,
        st.integers(0, 400_000_000),
        st.one_of(st.integers(1, 3), st.integers(1, 100_000_000)),
        st.integers(0, 1_000_000),
    ),
    max_size=5,
)


def by_time(found: list[Segment] | tuple[Segment, ...]) -> list[Segment]:
    return sorted(found, key=lambda s: (s.start_seconds, s.end_seconds, s.label, s.score))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


def there_and_back(folder: Path, format_: Format, results: list[Result], stem: str = "name") -> object:
    path = folder / f"{stem}{SUFFIXES[format_]}"
    path.write_bytes(encode_results(results, format_))
    return read_segments(path)


# --- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["vtt", "eaf"])
@settings(max_examples=50)
@given(segments, ids, st.sampled_from([(), SCENES]))
def test_one_video_with_id_and_scores(
    folder: Path, format_: Format, found: list[Segment], video_id: str, scenes: tuple[SceneScore, ...]
) -> None:
    back = there_and_back(folder, format_, [result_of(*found, video_id=video_id, scenes=scenes)])
    assert isinstance(back, dict)
    assert {name: by_time(entries) for name, entries in back.items()} == {video_id: by_time(found)}


@pytest.mark.parametrize("format_", ["srt", "audacity"])
@settings(max_examples=50)
@given(segments, ids)
def test_one_video_without_id_and_scores(
    folder: Path, format_: Format, found: list[Segment], video_id: str
) -> None:
    back = there_and_back(folder, format_, [result_of(*found, video_id=video_id, scenes=SCENES)], "cam.one")
    assert isinstance(back, dict)
    expected = by_time([replace(segment, score=1.0) for segment in found])
    assert {name: by_time(entries) for name, entries in back.items()} == {"cam.one": expected}


@pytest.mark.parametrize("format_", ["json", "jsonl", "via"])
@settings(max_examples=30)
@given(st.lists(st.tuples(ids, segments), min_size=1, max_size=3, unique_by=lambda pair: pair[0]))
def test_many_videos(folder: Path, format_: Format, videos: list[tuple[str, list[Segment]]]) -> None:
    results = [result_of(*found, video_id=video_id) for video_id, found in videos]
    back = there_and_back(folder, format_, results)
    assert isinstance(back, dict)
    assert list(back) == [video_id for video_id, _ in videos]
    for video_id, found in videos:
        assert by_time(back[video_id]) == by_time(found)


@pytest.mark.parametrize("format_", ["vtt", "srt", "eaf"])
@settings(max_examples=50)
@given(st.floats(0, 1e6), st.floats(1e-7, 10))
def test_milliseconds_are_the_nearest_and_never_empty(
    folder: Path, format_: Format, start: float, length: float
) -> None:
    back = there_and_back(folder, format_, [result_of(seg("a", start, start + length), video_id="name")])
    assert isinstance(back, dict)
    (found,) = back["name"]
    assert abs(found.start_seconds - start) <= 0.0005 + 1e-9
    expected_end = start + length if length > 0.001 else start
    assert abs(found.end_seconds - expected_end) <= 0.0015 + 1e-9
    assert found.end_seconds - found.start_seconds >= 0.001 - 1e-9


@given(st.text(alphabet="\\u0a1\n\tx", max_size=12))
def test_hidden_text_is_revealed_and_holds_nothing_forbidden(text: str) -> None:
    hidden = hide(text, re.compile(r"[\n\t]"))
    assert not re.search(r"[\n\t]", hidden)
    assert reveal(hidden) == text


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), max_size=12))
def test_lanes_do_not_overlap_and_are_as_few_as_at_once(spans: list[tuple[int, int]]) -> None:
    bounds = [(start, start + length) for start, length in spans]
    chosen = lanes(bounds)
    for lane in set(chosen):
        inside = sorted(span for span, its in zip(bounds, chosen, strict=True) if its == lane)
        assert all(first[1] <= second[0] for first, second in pairwise(inside))
    at_once = max((sum(s <= t < e for s, e in bounds) for t in range(30)), default=0)
    assert len(set(chosen)) == at_once


# --- what they look like --------------------------------------------------------------------------


def text_of(format_: Format, *found: Segment, scenes: tuple[SceneScore, ...] = ()) -> str:
    return encode_results([result_of(*found, scenes=scenes)], format_).decode()


def test_vtt() -> None:
    long_and_late = seg("hug <b>", 0.5, 3661.0014, 0.5)
    assert text_of("vtt", long_and_late, seg("wave", 0, 1, 0.1234567), scenes=SCENES) == (
        "WEBVTT\n\n"
        "NOTE video: clip\n\n"
        "NOTE scene: yard &amp; &lt;co&gt; (0.75)\n\n"
        "1 score=0.123457\n00:00:00.000 --> 00:00:01.000\nwave\n\n"
        "2 score=0.500000\n00:00:00.500 --> 01:01:01.001\nhug &lt;b&gt;\n"
    )


def test_srt() -> None:
    assert text_of("srt", seg("a\nb --> c", 0, 360_000.25), seg("wave", 1, 2), scenes=SCENES) == (
        "1\n00:00:00,000 --> 100:00:00,250\na\\u000ab --\\u003e c\n\n2\n00:00:01,000 --> 00:00:02,000\nwave\n"
    )


def test_audacity() -> None:
    assert text_of("audacity", seg("hug", 0, 1.5, 0.2), seg("a\tb", 2, 2.1234567)) == (
        "0.000000\t1.500000\thug\n2.000000\t2.123457\ta\\u0009b\n"
    )


def test_json_lines() -> None:
    lines = text_of("jsonl", seg("hug\n", 0, 1.5, 0.2), scenes=SCENES).split("\n")
    assert lines[1:] == [r'{"video": "clip", "label": "hug\n", "segment": [0.0, 1.5], "score": 0.2}', ""]
    assert json.loads(lines[0]) == {
        "video": "clip", "duration": 10.04, "intervals": 20, "complete": True, "gaps": [],
        "corrupt_frames": 0,
        "scenes": [{"label": "yard & <co>", "score": 0.75}, {"label": "lawn", "score": 0.25}],
    }  # fmt: skip


def test_eaf_puts_overlapping_segments_on_tiers_of_their_own(tmp_path: Path) -> None:
    found = (seg("hug", 0, 2, 0.5), seg("hug", 1, 3, 0.6), seg("wave", 2, 2.5))
    media = tmp_path / "my video.mp4"
    data = encode_results([result_of(*found, scenes=SCENES)], "eaf", media={"clip": media})
    root = ElementTree.fromstring(data)
    order = [child.tag for child in root]
    assert order == ["HEADER", "TIME_ORDER", *["TIER"] * 4, *["LINGUISTIC_TYPE"] * 2, "CONSTRAINT"]
    slots = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE", "")) for slot in root.iter("TIME_SLOT")}
    tiers = {
        tier.get("TIER_ID"): [
            (slots[a.get("TIME_SLOT_REF1")], slots[a.get("TIME_SLOT_REF2")], a.findtext("ANNOTATION_VALUE"))
            for a in tier.iter("ALIGNABLE_ANNOTATION")
        ]
        for tier in root.iter("TIER")
        if tier.get("PARENT_REF") is None
    }
    assert tiers == {
        "actions": [(0, 2000, "hug"), (2000, 2500, "wave")],
        "actions 2": [(1000, 3000, "hug")],
    }
    identities = [element.get("ANNOTATION_ID") for element in root.iter() if element.get("ANNOTATION_ID")]
    assert len(identities) == len(set(identities)) == 6
    descriptor = root.find("HEADER/MEDIA_DESCRIPTOR")
    assert descriptor is not None
    assert descriptor.get("MEDIA_URL") == media.as_uri()
    assert descriptor.get("RELATIVE_MEDIA_URL") == "./my video.mp4"
    assert {p.get("NAME"): p.text for p in root.iter("PROPERTY")} == {
        "tsm-tal video": "clip",
        "tsm-tal scene": "yard & <co> (0.75)",
    }


def test_via_is_a_project_of_the_annotator_and_readable_by_360x_tools() -> None:
    results = [result_of(seg("hug", 0, 1.5, 0.25), scenes=SCENES), result_of(video_id="b")]
    project = json.loads(encode_results(results, "via", media={"clip": Path("videos/clip.mkv")}))
    assert project["project"]["vid_list"] == list(project["view"]) == ["1", "2"]
    assert project["metadata"] == {
        "1_1": {"vid": "1", "flg": 0, "z": [0.0, 1.5], "xy": [], "av": {"1": "hug", "2": "0.25"}}
    }
    assert project["attribute"]["1"]["anchor_id"] == "FILE1_Z2_XY0"
    assert project["attribute"]["1"]["options"] == {"hug": "hug"}
    for vid, view in project["view"].items():
        (fid,) = view["fid_list"]
        assert project["file"][fid]["fid"] == fid == vid
    assert [file["fname"] for file in project["file"].values()] == ["clip.mkv", "b"]
    assert project["file"]["1"]["type"] == 4  # a video


def test_via_offers_all_classes_of_the_model() -> None:
    project = json.loads(encode_results([result_of(seg("hug", 0, 1))], "via", labels=["wave", "hug"]))
    assert project["attribute"]["1"]["options"] == {"wave": "wave", "hug": "hug"}


@pytest.mark.parametrize("format_", sorted(PER_VIDEO - IN_FRAMES))
def test_a_format_for_one_video_refuses_two(format_: Format) -> None:
    with pytest.raises(UsageError, match=f"format {format_} holds one video, but there are 2; .*FOLDER/"):
        encode_results([result_of(), result_of(video_id="b")], format_)


@pytest.mark.parametrize("format_", ["json", "jsonl", "csv", "via", "kaggle"])
def test_two_results_of_one_id_are_refused(format_: Format) -> None:
    with pytest.raises(ValueError, match="'clip'"):
        encode_results([result_of(), result_of()], format_)


@pytest.mark.parametrize("format_", sorted({*SUFFIXES} - {"parquet", "chapters"} - IN_FRAMES))
def test_a_file_name_that_is_not_utf8_gives_utf8(format_: Format) -> None:
    text = encode_results([result_of(seg("walking", 0, 1), video_id="a\udcff")], format_).decode()
    assert text.strip()


@pytest.mark.parametrize(
    ("name", "format_"),
    [("a.JSON", "json"), ("a.ndjson", "jsonl"), ("a.b.srt", "srt"), ("x.txt", "audacity"), ("a", None)],
)
def test_a_name_asks_for_a_format(name: str, format_: Format | None) -> None:
    assert format_of(name) == format_


# --- what other tools write -----------------------------------------------------------------------

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def call(name: str, text: str) -> Path:
        (tmp_path / name).write_bytes(text.encode())
        return tmp_path / name

    return call


def test_a_vtt_of_another_tool(write: Write) -> None:
    text = (
        "\ufeffWEBVTT - made by hand\r\nKind: captions\r\n\r\nSTYLE\r\n::cue {}\r\n\r\n"
        "00:01.500 --> 00:02.000 align:start line:0\r\n<v Ann>hug &amp; <i>kiss</i></v>\r\n\r\n"
        "NOTE a remark\r\nof two lines\r\n\r\n"
        "intro\r\n01:00:00.000 --> 01:00:01.000\r\nfirst\r\nsecond"
    )
    assert read_segments(write("my.vtt", text)) == {
        "my": [seg("hug & kiss", 1.5, 2), seg("first\nsecond", 3600, 3601)]
    }


def test_an_srt_of_another_tool(write: Write) -> None:
    text = "\ufeff\n\n1\n0:00:01,5 --> 0:00:02,25  X1:0\nC:\\new\n\n00:00:03.000-->00:00:04.000\nb"
    assert read_segments(write("my.srt", text)) == {"my": [seg("C:\\new", 1.5, 2.25), seg("b", 3, 4)]}


def test_audacity_with_frequencies(write: Write) -> None:
    text = "0.5\t1\tbird\r\n\\\t1000.0\t2000.0\r\n2\t3\ta\tb\r\n"
    assert read_segments(write("my.txt", text)) == {"my": [seg("bird", 0.5, 1), seg("a\tb", 2, 3)]}


EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="x" DATE="2020-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0">
 <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"/>
 <TIME_ORDER>
  <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="500"/>
  <TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="2500"/><TIME_SLOT TIME_SLOT_ID="ts4"/>
 </TIME_ORDER>
 <TIER TIER_ID="walk"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1"
  TIME_SLOT_REF2="ts3"><ANNOTATION_VALUE/></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
 <TIER TIER_ID="other"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2"
  TIME_SLOT_REF2="ts1"><ANNOTATION_VALUE>a &amp; b</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>
  </ANNOTATION></TIER>
 <TIER TIER_ID="words" PARENT_REF="other"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a3"
  TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts4"><ANNOTATION_VALUE>part</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>
  </ANNOTATION></TIER>
</ANNOTATION_DOCUMENT>
"""


def test_an_eaf_of_elan(write: Write) -> None:
    assert read_segments(write("my.eaf", EAF)) == {"my": [seg("a & b", 0.5, 1), seg("walk", 1, 2.5)]}


BILLION_LAUGHS = (
    '<?xml version="1.0"?>\n<!DOCTYPE lolz [\n <!ENTITY lol0 "lol">\n'
    + "".join(f' <!ENTITY lol{n + 1} "{f"&lol{n};" * 10}">\n' for n in range(9))
    + "]>\n<ANNOTATION_DOCUMENT>&lol9;</ANNOTATION_DOCUMENT>\n"
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BILLION_LAUGHS, "line 2: declares a document type"),
        (
            '<!DOCTYPE a SYSTEM "file:///etc/passwd"><ANNOTATION_DOCUMENT/>',
            "line 1: declares a document type",
        ),
        ("<ANNOTATION_DOCUMENT>&lol;</ANNOTATION_DOCUMENT>", "line 1: not XML: undefined entity"),
        ("<ANNOTATION_DOCUMENT>\n<TIER>", "line 2: not XML"),
        ("", "not XML: no element found"),
        ("<html/>", "root element is <html>"),
        (EAF.replace("milliseconds", "PAL-frames"), "times are in PAL-frames"),
        (
            EAF.replace('REF2="ts3"', 'REF2="ts4"'),
            "annotation 'a1' on tier 'walk': its TIME_SLOT_REF2 has no",
        ),
        (
            EAF.replace('REF2="ts3"', 'REF2="ts9"'),
            "annotation 'a1' on tier 'walk': its TIME_SLOT_REF2 has no",
        ),
        (EAF.replace('REF2="ts3"', 'REF2="ts2"'), "annotation 'a1' .*start < end"),
        (EAF.replace('"2500"', '"2_5"'), "annotation 'a1' .*no time in milliseconds"),
    ],
)
def test_a_wrong_eaf_is_named(write: Write, text: str, words: str) -> None:
    path = write("a.eaf", text)
    with pytest.raises(UsageError, match=words) as caught:
        read_segments(path)
    assert str(caught.value).startswith(str(path))


def via_entries(**entries: object) -> str:
    return json.dumps({"metadata": entries})


def test_both_spellings_of_via(write: Write) -> None:
    internal = {"vid": "1", "flg": 0, "z": [7.25, 35], "xy": [], "av": {"1": "phone"}}
    published = {"duration": [5.5, 7.5], "action": {"1": "sit"}}
    skipped = {
        "p": {"z": [1.0], "av": {"1": "x"}}, "q": {"z": [], "av": {"2": "lawn"}}, "r": {"action": {"1": "x"}},
        "s": {"duration": [1, 2]}, "t": {"duration": [1, 2], "action": {"2": "x"}},
    }  # fmt: skip
    path = write("0e7c.json", via_entries(a=internal, b=published, **skipped))
    assert read_segments(path) == {"0e7c": [seg("sit", 5.5, 7.5), seg("phone", 7.25, 35)]}
    assert read_segments(write("none.json", via_entries())) == {"none": []}


def test_the_default_row_of_via_is_no_class(write: Write) -> None:
    project = {
        "attribute": {"1": {"aname": "TEMPORAL-SEGMENTS", "options": {"default": "Default", "1": "hug"}}},
        "metadata": {
            "1_a": {"vid": "1", "z": [0, 1], "av": {"1": "1"}},
            "1_b": {"vid": "1", "z": [2, 3], "av": {"1": "default"}},
        },
    }
    path = write("new.json", json.dumps(project))
    assert read_segments(path) == {"new": [seg("hug", 0, 1)]}
    faults: list[str] = []
    read_via(path, project, faults)
    (said,) = faults
    assert said.startswith(f"{path}: entry '1_b': segment [2.0, 3.0] stands in VIA's row 'Default'")
    project["attribute"] = {}  # a class that is called so
    named = read_segments(write("named.json", json.dumps(project)))
    assert [segment.label for segment in named["named"]] == ["1", "default"]


def test_a_via_project_of_two_videos_with_options(write: Write) -> None:
    project = {
        "project": {"pname": "Untitled", "vid_list": ["1", "2"]},
        "attribute": {"1": {"aname": "A", "anchor_id": "FILE1_Z2_XY0", "type": 4, "options": {"0": "hug"}}},
        "file": {"7": {"fid": 7, "fname": "C:\\videos\\one.two.MP4"}, "8": {"fid": 8, "fname": "other.x"}},
        "view": {"1": {"fid_list": [7]}, "2": {"fid_list": ["8"]}},
        "metadata": {
            "1_a": {"vid": "1", "z": [0, 1], "av": {"1": "0", "2": "not a score"}},
            "2_a": {"vid": "2", "z": [2, 3], "av": {"1": "wave"}},
        },
    }
    assert read_segments(write("via_project_01Jan.json", json.dumps(project))) == {
        "one.two": [seg("hug", 0, 1)],
        "other.x": [seg("wave", 2, 3)],
    }
    project["file"] = {"7": {"fname": "x.mp4"}, "8": {"fname": "x.avi"}}
    with pytest.raises(UsageError, match="two of its files have the same name"):
        read_segments(write("a.json", json.dumps(project)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (via_entries(k={"z": [2, 1], "av": {"1": "a"}}), "entry 'k': .*start < end"),
        (via_entries(k={"z": ["x", 1], "av": {"1": "a"}}), "entry 'k': .*float"),
        (via_entries(k={"z": [0, float("nan")], "av": {"1": "a"}}), "entry 'k': .*not finite"),
        (via_entries(k={"z": [0, 1], "av": {"1": " "}}), "entry 'k': empty label"),
        (via_entries(k=[]), "entry 'k': .*object"),
        ('{"metadata": []}', "not a VIA 3 project"),
    ],
)
def test_a_wrong_via_file_is_named(write: Write, text: str, words: str) -> None:
    path = write("a.json", text)
    with pytest.raises(UsageError, match=words) as caught:
        read_segments(path)
    assert str(caught.value).startswith(str(path))


def test_real_360x_annotations(shared_data: Path, tmp_path: Path) -> None:
    paths = sorted((shared_data / "x360_annotations" / "TAL_annotations").glob("*.json"))
    truth = json.loads((shared_data / "eval" / "x360_ground_truth.json").read_text())["database"]
    assert len(paths) == 20
    for path in paths:
        expected = [(a["label"], *map(float, a["segment"])) for a in truth[path.stem]["annotations"]]
        found = read_segments(path)
        assert list(found) == [path.stem]
        assert sorted((s.label, s.start_seconds, s.end_seconds) for s in found[path.stem]) == sorted(expected)
    broken = tmp_path / "broken.json"
    broken.write_bytes(paths[0].read_bytes().replace(b'"speaking"', b'"spe\xffking"', 1))
    with pytest.raises(
        UsageError, match=r"broken\.json: not UTF-8 text \(invalid start byte at byte \d+; save it as UTF-8\)"
    ):
        read_segments(broken)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.vtt", "no header", "line 1: no WEBVTT header"),
        ("a.vtt", "WEBVTTX\n", "line 1: no WEBVTT header"),
        ("a.vtt", "WEBVTT\n\n1\n00:02.000 --> 00:01.000\na", "line 4 .*start < end"),
        (
            "a.vtt",
            "WEBVTT\n\n1\nno times -->\na",
            "line 4: expected two times around -->, got 'no times -->'",
        ),
        ("a.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\n<i></i>", "line 3 .*empty label"),
        ("a.srt", "1\n00:00:01,000 -> 00:00:02,000\na", "no cue with times in it"),
        ("a.srt", "\n\n1\n00:00:01,000 --> 00:00:01,000\na", "line 4: .*start < end"),
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\n\n", "line 2: empty label"),
        ("a.txt", "0\t1\ta\n1.5\t1.5\tpoint\n", "line 2: .*start < end"),
        ("a.txt", "0\t1\ta\nx\t2\tb\n", "line 2: expected start<tab>end<tab>label"),
        ("a.txt", "0\t1\n", "line 1: empty label"),
        ("a.txt", "nan\t1\ta\n", "line 1: .*not finite"),
        ("a.jsonl", '{"video": "v"}\n\n{"video"', "line 3: not JSON"),
        ("a.jsonl", '{"label": "a"}\n', 'line 1: expected an object with "video"'),
        ("a.jsonl", "3\n", 'line 1: expected an object with "video"'),
        ("a.jsonl", '{"video": "v", "label": "a", "score": 1}\n', r"line 1 \(video 'v'\): .*segment"),
    ],
)
def test_a_wrong_text_file_is_named(write: Write, name: str, text: str, words: str) -> None:
    path = write(name, text)
    with pytest.raises(UsageError, match=words) as caught:
        read_segments(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    "format_", ["json", "jsonl", "csv", "vtt", "srt", "eaf", "via", "audacity", "kaggle"]
)
@pytest.mark.parametrize("name", ["other.dat", "other.txt"])
def test_the_content_determines_the_format_where_the_name_does_not(
    tmp_path: Path, format_: Format, name: str
) -> None:
    found = (seg("walking", 0, 1), seg("eating", 2, 3))
    (tmp_path / name).write_bytes(encode_results([result_of(*found, video_id="other")], format_))
    assert read_segments(tmp_path / name) == {"other": list(found)}
    assert read_segments(tmp_path / name) != {}


def test_json_lines_under_the_name_of_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(encode_results([result_of(seg("hug", 0, 1))], "jsonl"))
    assert read_segments(tmp_path / "a.json") == {"clip": [seg("hug", 0, 1)]}
