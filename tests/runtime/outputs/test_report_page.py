"""The report page as text: escaping, policy, addresses, what the data holds, contrast of the colours."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import result_of, seg
from hypothesis import given
from hypothesis import strategies as st

from tsm_runtime.errors import RunError, UsageError
from tsm_runtime.formats.ground_truth import VideoAnnotation
from tsm_runtime.outputs.class_colors import NUM_COLORS, color_slots
from tsm_runtime.outputs.report import page as page_module
from tsm_runtime.outputs.report.content import (
    EvaluationCharts,
    MemberSegments,
    Report,
    ScoreStrip,
    VideoReport,
)
from tsm_runtime.outputs.report.page import report_page, write_report
from tsm_runtime.results import BACKGROUND, IntervalScores, Segment

ASSETS = files("tsm_runtime.outputs.report") / "assets"
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    '"><img src=x onerror=alert(1)>',
    "a\u2028b\u2029c",
    "@@DATA@@",
    "&lt;b&gt;",
    "lone \udcff",
)


def page_of(*videos: VideoReport, title: str = "T", **more: Any) -> str:
    return report_page(Report(title=title, videos=videos), Path("out/page.html"), **more)


def data_of(page: str) -> Any:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def only_video(*args: Any, **kwargs: Any) -> Any:
    return data_of(page_of(VideoReport(*args, **kwargs)))["videos"][0]


# --- escaping and policy --------------------------------------------------------------------------


@given(st.text(st.characters(codec=None)) | st.sampled_from(HOSTILE))
def test_any_text_is_text(text: str) -> None:
    label = text if text.strip() else "x"
    result = result_of(seg(label, 0, 1), video_id=text)
    page = page_of(VideoReport(result=result), title=text)
    assert page.isascii()
    assert page.count("<script") == 2
    assert page.lower().count("</script") == 2
    assert page.count("<title>") == page.count("</title>") == 1
    data = data_of(page)
    assert data["title"] == data["videos"][0]["id"] == text
    assert data["labels"] == [label]


def test_the_title_is_escaped() -> None:
    page = page_of(VideoReport(result=result_of()), title='<b>"é" & \udcff')
    assert "<title>&lt;b&gt;&quot;&#233;&quot; &amp; ?</title>" in page


@pytest.mark.parametrize("embed", [False, True])
def test_the_policy_allows_this_script_and_style_and_no_network(embed: bool) -> None:
    page = page_of(VideoReport(result=result_of()), embed=embed)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    rules = {name: rest for name, _, rest in (part.partition(" ") for part in policy.split("; "))}
    assert rules["default-src"] == rules["connect-src"] == rules["form-action"] == "'none'"
    for tag, rule in (('<script type="module">', "script-src"), ("<style>", "style-src")):
        text = page.split(tag)[1].split("</")[0]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert "http" not in policy
    assert "*" not in policy
    assert ("'self'" in rules["media-src"]) is not embed


def test_no_address_of_the_network_and_no_parsed_html() -> None:
    page = page_of(VideoReport(result=result_of(seg("a", 0, 1))))
    assert set(re.findall(r"\w+://[^\s\"']*", page)) == {
        "http://www.w3.org/2000/svg"
    }  # a name, not an address
    assert "@import" not in page
    assert "url(" not in page
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch("):
        assert forbidden not in page
    assert re.findall(r"""(?:src|href)=["'](?!data:|#)""", page) == []
    assert re.search(r"<[^>]* (?:on\w+|style)=", page.split("<script")[0]) is None


# --- videos ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("video", "expected"),
    [
        ("out/clip.mp4", "clip.mp4"),
        ("out/sub/clip.mp4", "sub/clip.mp4"),
        ("videos/a b#1?.mp4", "../videos/a%20b%231%3F.mp4"),
        ("out/javascript:alert(1).mp4", "javascript%3Aalert%281%29.mp4"),
        ('out/"><img onerror=x>.mp4', "%22%3E%3Cimg%20onerror%3Dx%3E.mp4"),
        ("out/50%.mp4", "50%25.mp4"),
        ("out/é.mp4", "%C3%A9.mp4"),
    ],
)
def test_a_video_is_named_relative_to_the_page(video: str, expected: str) -> None:
    media = only_video(result=result_of(), video=Path(video))["media"]
    assert media == {"src": expected, "name": Path(video).name}


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux")
def test_a_name_that_is_not_utf8_keeps_its_bytes() -> None:
    media = only_video(result=result_of(), video=Path(os.fsdecode(b"out/\xff.mp4")))["media"]
    assert media["src"] == "%FF.mp4"


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "real" / "v.mp4").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    report = Report(title="T", videos=(VideoReport(result=result_of(), video=tmp_path / "real" / "v.mp4"),))
    page = report_page(report, tmp_path / "link" / "page.html")
    assert data_of(page)["videos"][0]["media"]["src"] == "../v.mp4"


def test_an_embedded_video_is_inside(tmp_path: Path) -> None:
    video = tmp_path / "v.WEBM"
    video.write_bytes(b"\x00\x01video\xff")
    data = data_of(page_of(VideoReport(result=result_of(), video=video), embed=True))
    head, _, body = data["videos"][0]["media"]["src"].partition(",")
    assert head == "data:video/webm;base64"
    assert base64.b64decode(body) == video.read_bytes()


def test_what_cannot_be_embedded_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = tmp_path / "v.mp4"
    with pytest.raises(UsageError, match=r"v\.mp4: cannot be read: No such file"):
        page_of(VideoReport(result=result_of(), video=video), embed=True)
    video.write_bytes(bytes(11))
    monkeypatch.setattr(page_module, "_LARGEST_EMBEDDED_BYTES", 10)
    with pytest.raises(UsageError, match=r"too large to embed .* leave out --embed"):
        page_of(VideoReport(result=result_of(), video=video), embed=True)


def test_the_page_never_replaces_the_video(tmp_path: Path) -> None:
    video = tmp_path / "v.mp4"
    video.write_bytes(b"video")
    report = Report(title="T", videos=(VideoReport(result=result_of(), video=video),))
    with pytest.raises(UsageError, match="would replace the video"):
        write_report(video, report)
    assert video.read_bytes() == b"video"


def test_writing_gives_the_page_or_an_error(tmp_path: Path) -> None:
    report = Report(title="T", videos=(VideoReport(result=result_of()),))
    write_report(tmp_path / "page.html", report)
    assert (tmp_path / "page.html").read_text() == report_page(report, tmp_path / "page.html")
    with pytest.raises(RunError, match="cannot write"):
        write_report(tmp_path / "none" / "page.html", report)


# --- what the data holds --------------------------------------------------------------------------


def test_segments_of_result_members_and_truth() -> None:
    truth = VideoAnnotation(
        video_id="clip", subset="", duration_seconds=None, scene="day", segments=(seg("b", 0, 12),)
    )
    video = VideoReport(
        result=result_of(seg("c", 4, 5, 0.5), seg("a", 1, 2, 0.25)),
        members=(MemberSegments(name="one", segments=(seg("a", 1, 3, 0.75),)),),
        truth=truth,
    )
    data = data_of(page_of(video))
    assert data["labels"] == ["a", "b", "c"]
    (shown,) = data["videos"]
    assert [member["name"] for member in shown["members"]] == ["fused", "one"]
    assert shown["members"][0]["segments"] == [[0, 1.0, 2.0, 0.25, 0], [2, 4.0, 5.0, 0.5, 0]]
    assert shown["members"][1]["segments"] == [[0, 1.0, 3.0, 0.75, 0]]
    assert shown["truth"] == {"scene": "day", "segments": [[1, 0.0, 12.0, 1.0, 0]]}
    assert shown["duration"] == 12.0  # the truth reaches beyond the 10.04 s of the video
    assert shown["facts"]["duration"] == 10.04


def test_overlapping_segments_of_one_class_get_lanes() -> None:
    spans = [(0, 4), (1, 2), (2, 3), (4, 5)]
    shown = only_video(result=result_of(*(seg("a", *span) for span in spans), seg("b", 0, 4)))
    lanes = {(s[0], s[1], s[2]): s[4] for s in shown["members"][0]["segments"]}
    assert lanes == {(0, 0, 4): 0, (0, 1, 2): 1, (0, 2, 3): 1, (0, 4, 5): 0, (1, 0, 4): 0}


def test_lanes_have_an_end() -> None:
    shown = only_video(result=result_of(*(seg("a", n / 10, 9) for n in range(20))))
    assert {s[4] for s in shown["members"][0]["segments"]} == {0, 1, 2, 3}


def test_scores_are_bytes_by_label_and_intervals_are_runs() -> None:
    scores = IntervalScores(
        indices=np.array([2, 3, 7]), action=np.array([[0, 1], [0.5, 0.5], [0.2, 0.8]], np.float32)
    )
    strip = ScoreStrip(scores=scores, labels=("walk", BACKGROUND), interval_seconds=0.25)
    page = page_of(VideoReport(result=result_of(), strip=strip))
    shown = data_of(page)["videos"][0]["strip"]
    assert data_of(page)["labels"] == ["walk", BACKGROUND]
    assert shown["runs"] == [[2, 2], [7, 1]]
    assert shown["interval"] == 0.25
    # 0.5 * 255 = 127.5 goes to the even neighbour 128; 0.2 -> 51; 0.8 -> 204.
    assert list(base64.b64decode(shown["data"])) == [0, 128, 51, 255, 128, 204]


def test_the_page_of_two_hours_of_scores_stays_small() -> None:
    count, classes = 4 * 7200, 35
    scores = IntervalScores(indices=np.arange(count), action=np.zeros((count, classes), np.float32))
    labels = tuple(f"class {n}" for n in range(classes))
    empty = len(page_of(VideoReport(result=result_of())))
    strip = ScoreStrip(scores=scores, labels=labels, interval_seconds=0.25)
    full = len(page_of(VideoReport(result=result_of(), strip=strip)))
    assert empty < 100_000
    assert full - empty < count * classes * 4 / 3 + 3000


def test_unknown_facts_are_not_shown() -> None:
    assert only_video(result=result_of(), has_facts=False)["facts"] is None


def test_faults_of_the_caller() -> None:
    with pytest.raises(ValueError, match="a video or an evaluation"):
        Report(title="T")
    with pytest.raises(ValueError, match="the id 'clip'"):
        Report(title="T", videos=(VideoReport(result=result_of()), VideoReport(result=result_of())))
    scores = IntervalScores(indices=np.arange(1), action=np.zeros((1, 2), np.float32))
    with pytest.raises(ValueError, match="2 action scores for 1 labels"):
        ScoreStrip(scores=scores, labels=("a",), interval_seconds=1.0)
    with pytest.raises(ValueError, match=r"an interval of 0\.0 s"):
        ScoreStrip(scores=scores, labels=("a", "b"), interval_seconds=0.0)
    with pytest.raises(ValueError, match="'c', bar 'b', part 'p': nan"):
        EvaluationCharts(evaluation=None, diagnosis={"c": {"b": {"p": float("nan")}}})  # type: ignore[arg-type]


def test_a_segment_without_length_on_the_page_does_not_exist() -> None:
    with pytest.raises(ValueError, match="start < end"):
        Segment(label="a", start_seconds=1.0, end_seconds=1.0)


# --- colours --------------------------------------------------------------------------------------


@given(st.lists(st.text(min_size=1), unique=True, max_size=25))
def test_labels_share_colours_only_when_there_are_too_few(labels: list[str]) -> None:
    slots = color_slots(labels)
    assert slots == color_slots(reversed(labels))
    used = [list(slots.values()).count(slot) for slot in range(NUM_COLORS)]
    assert max(used) - min(used) <= 1
    assert sum(used) == len(labels)


def test_a_label_keeps_its_colour_beside_others() -> None:
    # The CRC-32 of "sit" and of "run" both end in 4 (binascii), that of "walk" in 3.
    assert color_slots(["walk"]) == {"walk": 3}
    assert color_slots(["sit", "run", "walk"]) == {"run": 4, "sit": 5, "walk": 3}


def theme_colors(theme: int) -> dict[str, tuple[float, float, float]]:
    """Colours of style.css; theme 0 is light, 1 dark."""
    style = (ASSETS / "style.css").read_text()
    pairs = re.findall(r"--([\w-]+): light-dark\(#(\w{6}), #(\w{6})\);", style)
    return {name: tuple(bytes.fromhex(both[theme])) for name, *both in pairs}  # type: ignore[misc]


def luminance(color: tuple[float, float, float]) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(first: tuple[float, float, float], second: tuple[float, float, float]) -> float:
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_of_black_and_white() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast_is_enough(theme: int) -> None:
    colors = theme_colors(theme)
    surfaces = ("page", "panel", "raised")
    for text in ("text", "muted", "accent"):
        for surface in surfaces:
            assert contrast(colors[text], colors[surface]) >= 4.5, (text, surface)
    assert contrast(colors["warning"], colors["warning-page"]) >= 4.5
    assert contrast(colors["on-accent"], colors["accent"]) >= 4.5
    # The confusion matrix puts text on up to 40 % of the accent.
    mixed = tuple(0.4 * a + 0.6 * b for a, b in zip(colors["accent"], colors["raised"], strict=True))
    assert contrast(colors["text"], mixed) >= 4.5  # type: ignore[arg-type]
    # What is no text needs 3:1.
    graphics = ("control", "playhead", *(f"class-{n}" for n in range(NUM_COLORS)))
    for name in graphics:
        for surface in ("panel", "raised"):
            assert contrast(colors[name], colors[surface]) >= 3, (name, surface)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_class_colours_differ(theme: int) -> None:
    colors = theme_colors(theme)
    classes = [np.array(colors[f"class-{n}"]) for n in range(NUM_COLORS)]
    for i, first in enumerate(classes):
        for second in classes[:i]:
            assert np.abs(first - second).sum() > 60


def test_every_asset_is_used() -> None:
    there = {entry.name for entry in ASSETS.iterdir()}
    assert there == {"page.html", "style.css", *page_module._SCRIPTS}
