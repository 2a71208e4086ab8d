"""The page of several videos: how it was made, colours, and the overview in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import DESKTOP, PHONE, Browser
from fakes import result_of, seg
from media import plain, write_video

from tsm_runtime.outputs.class_colors import DARK, LIGHT
from tsm_runtime.outputs.report.about import describe_run_for_page
from tsm_runtime.outputs.report.content import Report, ScoreStrip, VideoReport
from tsm_runtime.outputs.report.page import report_page, write_report
from tsm_runtime.outputs.report.page_data import page_data
from tsm_runtime.outputs.report.thumbnails import thumbnail
from tsm_runtime.results import IntervalScores

RED = (220, 30, 30)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("overview")
    found = {"a": (seg("walk", 0, 2), seg("sit", 2, 3)), "b": (seg("walk", 1, 2),), "c": ()}
    videos = tuple(
        VideoReport(
            result=replace(result_of(*segments, video_id=f"video {name}"), duration_seconds=4.0),
            video=write_video(folder / f"{name}.webm", [plain(RED)] * 100, codec="libvpx", options={}),
        )
        for name, segments in found.items()
    )
    about = {"date": "2026-01-01", "model": "<b>mine</b>"}
    report = Report(title="3 videos", videos=videos, about=about, caveats=("Only a <i>demo</i>.",))
    write_report(folder / "page.html", report)
    return folder / "page.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.driver.quit()


def test_the_overview_leads_to_a_video(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.errors() == []
    assert {url.partition(":")[0] for url in browser.requests()} <= {"file", "data"}
    assert browser.shown(".overview-row") == [
        "video a: 2 segments in 0:04", "video b: 1 segments in 0:04", "video c: 0 segments in 0:04"
    ]  # fmt: skip
    sizes = browser.run("return [...document.images].map(i => [i.naturalWidth, i.naturalHeight])")
    assert sizes == [[128, 96]] * 3
    widths = browser.run(
        "return [...document.querySelectorAll('.ethogram')].map(e => [...e.querySelectorAll('rect')]"
        ".map(r => Number(r.getAttribute('width'))))"
    )
    assert widths == [[500, 250], [250], []]
    assert browser.shown("#totals li") == ["walk0:03 in 2 videos", "sit0:01 in 1 video"]
    browser.click(".overview-row:nth-child(2)")
    assert browser.shown("#video-title") == ["video b"]
    assert browser.shown("#video-place") == ["2 of 3"]
    assert browser.run("return document.querySelector('[aria-current]').textContent").startswith("video b")
    browser.click("#overview-search")
    browser.press(*"O C")
    assert browser.shown(".overview-row") == ["video c: 0 segments in 0:04"]
    assert browser.shown("#overview-count") == ["1 of 3 videos"]


@pytest.mark.parametrize("size", [PHONE, DESKTOP])
def test_nothing_is_wider_than_the_window(browser: Browser, page: Path, size: tuple[int, int]) -> None:
    browser.open(page, size, "dark")
    assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")


def test_the_page_says_how_it_was_made(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.shown("#caveats p") == ["\u26a0Only a <i>demo</i>."]
    browser.click("#about summary")
    assert browser.shown("#about-list dd") == ["2026-01-01", "<b>mine</b>"]


def test_models_options_and_versions_are_named() -> None:
    model: dict[str, object] = {"bundle_sha256": "ab" * 32, "backbone": "resnet50", "backend": "onnxruntime"}
    model |= {"interval_seconds": 0.5}
    described = {"model": model, "options": {"start": 0.0, "end": None}, "versions": {"tsm-tal": "1"}}
    about = describe_run_for_page(described, ["mine"])
    assert about["model"] == "mine, resnet50, intervals of 0.5 s, on onnxruntime, bundle abababababab"
    assert (about["options"], about["versions"]) == ("start 0.0", "tsm-tal 1")
    both = {"fusion": {"method": "wbf"}, "members": [described, described], "versions": {}}
    assert list(describe_run_for_page(both, ["a", "b"]))[1:4] == ["model 1", "model 2", "options"]
    assert describe_run_for_page(both, ["a", "b"])["fusion"] == "method wbf"


def test_labels_that_are_drawn_choose_their_colours_before_the_others() -> None:
    """Ten drawn classes of forty have ten colours."""
    labels = tuple(f"class {n}" for n in range(40))
    drawn = labels[::4]
    strip = ScoreStrip(
        scores=IntervalScores(indices=np.arange(2), action=np.zeros((2, 40), np.float32)),
        labels=labels,
        interval_seconds=1.0,
    )
    segments = [seg(label, n, n + 1) for n, label in enumerate(drawn)]
    report = Report(title="T", videos=(VideoReport(result=result_of(*segments), strip=strip),))
    data = page_data(report, [None])
    colors = dict(zip(data["labels"], data["colors"], strict=True))
    assert sorted(colors[label] for label in drawn) == list(range(10))


def test_the_style_has_the_colours_of_videos_and_pictures() -> None:
    page = report_page(Report(title="T", videos=(VideoReport(result=result_of()),)), Path("p.html"))
    for number, (light, dark) in enumerate(zip(LIGHT, DARK, strict=True)):
        assert f"--class-{number}: light-dark({light}, {dark});" in page


def test_a_file_without_pictures_has_no_thumbnail(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"no video")
    assert thumbnail(tmp_path / "v.mp4", 1.0) is None
    assert thumbnail(tmp_path / "none.mp4", 1.0) is None
