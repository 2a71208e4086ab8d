"""The review page in a real browser: edits by keyboard and pointer, and the truth file that they make."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from browser import PHONE
from media import counted, write_video
from reviewing import ReviewBrowser, StartServer, spans_of, truth_of

PTS = [
    0,
    40,
    100,
    133,
    200,
    400,
    410,
    500,
    640,
    700,
    800,
    900,
    1000,
    1130,
    1200,
    1300,
    1400,
    1500,
    1600,
    1777,
]
"""Milliseconds of a video whose frames are anything but even."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "videos"
    made.mkdir()
    write_video(made / "clip.webm", counted(len(PTS), step=12), pts=PTS, codec="libvpx", options={})
    return made


def add_label(browser: ReviewBrowser, label: str) -> None:
    browser.keys("g")
    browser.keys(label, "\ue007")
    browser.until(f"[...document.querySelectorAll('.class-name')].some(e => e.title === '{label}')")
    browser.run("document.activeElement.blur()")


def brightness(browser: ReviewBrowser) -> float:
    """Mean grey level of what the video shows."""
    return (
        float(
            browser.run(
                "const made = document.createElement('canvas'); made.width = made.height = 8;"
                "const pen = made.getContext('2d'); pen.drawImage(video, 0, 0, 8, 8);"
                "return pen.getImageData(0, 0, 8, 8).data.reduce((a, b) => a + b) / 64 - 255"
            )
        )
        / 3
    )


def test_steps_by_the_frames_own_times(
    review_browser: ReviewBrowser, start_server: StartServer, folder: Path
) -> None:
    review_browser.show(start_server(folder).address)
    for number in (1, 2, 3, 4, 5, 6, 7, 8):
        review_browser.step(".", PTS[number] / 1000)
        assert brightness(review_browser) == pytest.approx(12 * number, abs=5)
    for number in (7, 6, 5, 4):
        review_browser.step(",", PTS[number] / 1000)
        assert brightness(review_browser) == pytest.approx(12 * number, abs=5)


def test_a_video_is_annotated_by_keyboard_alone(
    review_browser: ReviewBrowser, start_server: StartServer, folder: Path
) -> None:
    browser = review_browser
    browser.show(start_server(folder, "--annotator", "anna").address)
    add_label(browser, "run")
    add_label(browser, "jump")
    browser.keys("1")
    browser.step(".", 0.04)
    browser.keys("i")
    for time in PTS[2:6]:
        browser.step(".", time / 1000)
    browser.keys("o")
    browser.saved()
    assert spans_of(folder) == [("run", 0.04, 0.4)]
    browser.keys("2")  # the new segment is selected
    browser.until("document.querySelector('.segment').ariaLabel.startsWith('jump')")
    browser.step(",", 0.2)
    browser.keys("s")
    browser.until("document.querySelectorAll('.segment').length === 2")
    browser.keys("[")
    browser.until("document.querySelector('.segment.selected')")
    browser.keys("m")
    browser.until("document.querySelectorAll('.segment').length === 1")
    browser.keys("z", control=True)
    browser.until("document.querySelectorAll('.segment').length === 2")
    browser.keys("0", "]", "\ue017")
    browser.until("document.querySelectorAll('.segment').length === 1")
    browser.keys("z", control=True)
    browser.until("document.querySelectorAll('.segment').length === 2")
    browser.keys("y", control=True)
    browser.until("document.querySelectorAll('.segment').length === 1")
    browser.keys("c")
    browser.keys("who is this?")
    browser.run("document.activeElement.blur()")
    browser.keys("\ue007")
    browser.until("document.getElementById('state').value === 'done'")
    browser.saved()
    entry = truth_of(folder)
    assert len(entry["annotations"]) == 1
    assert entry["annotations"][0]["by"] == "anna"
    assert entry["subset"] == "training"
    assert entry["review"]["comment"] == "who is this?"
    assert browser.errors() == []


def test_an_answer_older_than_the_last_edit_changes_nothing(
    review_browser: ReviewBrowser, start_server: StartServer, folder: Path
) -> None:
    """Each save is announced to the page, which then reads the video: here the answers come late."""
    browser = review_browser
    browser.show(start_server(folder).address)
    add_label(browser, "run")
    browser.run(
        "const real = window.fetch; window.late = 0;"
        "window.fetch = async (url, options) => {"
        "  const answer = await real(url, options);"
        "  if (!String(url).startsWith('/api/video?') || options.method !== 'GET') return answer;"
        "  await new Promise((done) => setTimeout(done, 1500)); window.late += 1; return answer;"
        "}"
    )
    browser.keys("i")
    for time in PTS[1:5]:
        browser.step(".", time / 1000)
    browser.keys("o")
    browser.saved()
    browser.step(",", PTS[3] / 1000)
    browser.keys("0", "s")
    browser.until("document.querySelectorAll('.segment').length === 2")
    browser.saved()
    browser.until("window.late >= 2")
    browser.keys("z", control=True)
    browser.until("document.querySelectorAll('.segment').length === 1")


def test_a_dragged_bound_snaps_to_a_frame(
    review_browser: ReviewBrowser, start_server: StartServer, folder: Path
) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    entry = {"annotations": [{"label": "run", "segment": [0.1, 0.9]}], "subset": "training"}
    (folder / "ground_truth.json").write_text(json.dumps({"database": {"clip": entry}}))
    review_browser.show(start_server(folder).address)
    grip = review_browser.driver.find_element(By.CSS_SELECTOR, ".segment .grip.end")
    width = review_browser.run("return document.getElementById('timeline-content').clientWidth")
    seconds = 1.777 + 0.1
    pixels = round(0.52 * width / seconds)  # to about 1.42: the nearest frame is at 1.4
    ActionChains(review_browser.driver).drag_and_drop_by_offset(grip, pixels, 0).perform()
    review_browser.saved()
    ((label, start, end),) = spans_of(folder)
    assert (label, start) == ("run", 0.1)
    assert end in [time / 1000 for time in PTS]
    assert end > 1.2


def test_drafts_look_different_and_become_truth(
    review_browser: ReviewBrowser, start_server: StartServer, folder: Path, tmp_path: Path
) -> None:
    drafts = {"clip": [{"label": "run", "segment": [0.2, 0.8], "score": 0.9}]}
    (tmp_path / "drafts.json").write_text(json.dumps({"results": drafts}))
    review_browser.show(start_server(folder, "--drafts", tmp_path / "drafts.json").address)
    assert review_browser.segments() == []
    assert "draft" in review_browser.text(".video-facts")
    review_browser.click(".draft")
    review_browser.saved()
    assert spans_of(folder) == [("run", 0.2, 0.8)]
    looks = [
        review_browser.run("return getComputedStyle(document.querySelector(arguments[0])).background", which)
        for which in (".draft", ".segment")
    ]
    assert looks[0] != looks[1]
    assert "being checked" in review_browser.text(".video-facts")


def test_two_tabs_show_the_same_and_a_foreign_change_is_a_conflict(
    review_browser: ReviewBrowser, start_server: StartServer, folder: Path
) -> None:
    browser = review_browser
    server = start_server(folder)
    browser.show(server.address)
    add_label(browser, "run")
    first = browser.driver.current_window_handle
    browser.driver.switch_to.new_window("tab")
    second = browser.driver.current_window_handle
    browser.show(server.address)
    browser.keys("i")
    browser.step(".", 0.04)
    browser.keys("o")
    browser.saved()
    browser.driver.switch_to.window(first)
    browser.until("document.querySelectorAll('.segment').length === 1")
    browser.driver.switch_to.window(second)
    # Another program writes between this page's reading and its next edit.
    browser.run(
        "window.real = window.fetch; window.held = [];"
        "window.fetch = (...a) => new Promise(go => held.push(() => go(window.real(...a))))"
    )
    browser.keys("\ue017" if browser.run("return !!document.querySelector('.selected')") else "]")
    browser.until("window.held.length > 0")
    document = json.loads((folder / "ground_truth.json").read_text())
    document["database"]["clip"]["annotations"] = [{"label": "other", "segment": [0.5, 1.0]}]
    (folder / "ground_truth.json").write_text(json.dumps(document))
    browser.run("window.held.forEach(go => go()); window.fetch = window.real")
    browser.until("document.getElementById('dialog').open")
    assert spans_of(folder) == [("other", 0.5, 1.0)]
    browser.driver.close()
    browser.driver.switch_to.window(first)


def test_an_edit_outlives_the_server(
    review_browser: ReviewBrowser, start_server: StartServer, folder: Path
) -> None:
    browser = review_browser
    server = start_server(folder)
    browser.show(server.address)
    add_label(browser, "run")
    port = server.base.rpartition(":")[2]
    server.kill()
    browser.keys("i")
    browser.keys(".")
    browser.keys(".")
    browser.until("clock.value !== '0:00.000'")
    browser.keys("o")
    browser.until("document.getElementById('save-state').textContent.startsWith('not saved')")
    assert not (folder / "ground_truth.json").read_text().count('segment"')
    browser.show(start_server(folder, "--port", port).address)
    browser.saved()
    ((label, start, end),) = spans_of(folder)
    assert (label, start) == ("run", 0.0)
    assert end > 0


def test_an_unplayable_coding_is_named_and_a_copy_plays(
    review_browser: ReviewBrowser, start_server: StartServer, tmp_path: Path
) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    write_video(folder / "clip.mkv", counted(20, step=12), codec="mpeg2video", options={})
    review_browser.show(start_server(folder).address)
    assert "does not play" in review_browser.text("#unplayable-text")
    review_browser.click("#proxy-button")
    review_browser.until("document.getElementById('unplayable').hidden")
    review_browser.until("document.getElementById('video').readyState > 1")
    review_browser.step(".", 0.04)
    review_browser.step(".", 0.08)
    assert brightness(review_browser) == pytest.approx(24, abs=5)


def test_five_thousand_videos_are_a_short_list(
    review_browser: ReviewBrowser, start_server: StartServer, folder: Path
) -> None:
    for number in range(5000):
        os.link(folder / "clip.webm", folder / f"v{number:04}.webm")
    review_browser.show(start_server(folder).address)
    assert review_browser.run("return document.querySelectorAll('.video-row').length") < 60
    assert "of 5001 videos" in review_browser.text("#totals")
    review_browser.run("document.getElementById('videos').focus()")
    review_browser.keys("\ue010", "\ue007")  # End, Enter
    review_browser.until("document.getElementById('video-title').textContent === 'v4999'")
    review_browser.run("filter.value = '123'; filter.dispatchEvent(new Event('input'))")
    assert review_browser.run("return document.querySelectorAll('.video-row').length") == 15


def test_a_thousand_segments_of_two_hours(
    review_browser: ReviewBrowser, start_server: StartServer, folder: Path
) -> None:
    annotations = [{"label": f"c{n % 12}", "segment": [7.2 * n, 7.2 * n + 5]} for n in range(1000)]
    entry = {"annotations": annotations, "subset": "training", "duration": 7200}
    (folder / "ground_truth.json").write_text(json.dumps({"database": {"clip": entry}}))
    review_browser.show(start_server(folder).address)
    assert len(review_browser.segments()) == 1000
    for _ in range(6):
        review_browser.keys("+")
    assert 0 < len(review_browser.segments()) < 100
    review_browser.run("document.getElementById('timeline-scroll').scrollLeft = 1e6")
    review_browser.until(
        "[...document.querySelectorAll('.segment')].some(e => e.ariaLabel.includes('1:59:5'))"
    )
    review_browser.keys("f")
    assert len(review_browser.segments()) == 1000


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_fits_a_phone_and_sends_no_foreign_requests(
    review_browser: ReviewBrowser, start_server: StartServer, folder: Path, theme: str
) -> None:
    server = start_server(folder)
    review_browser.show(server.address, size=PHONE, theme=theme)
    assert review_browser.run("return document.documentElement.scrollWidth") <= PHONE[0]
    review_browser.click("#list-button")
    review_browser.click(".video-row")
    review_browser.until("!document.body.classList.contains('show-list')")
    page = review_browser.run(
        "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert (sum(page) > 600) == (theme == "light")
    assert all(url.startswith((server.base, "data:", "about:")) for url in review_browser.requests())
    assert review_browser.errors() == []


def test_two_annotators_and_their_agreement(
    review_browser: ReviewBrowser, start_server: StartServer, folder: Path
) -> None:
    second = [{"label": "run", "segment": [0.2, 0.8]}]
    entry = {
        "annotations": [{"label": "run", "segment": [0.2, 1.0]}],
        "review": {"state": "done", "others": {"ben": second}},
    }
    (folder / "ground_truth.json").write_text(json.dumps({"database": {"clip": entry}}))
    review_browser.show(start_server(folder).address)
    review_browser.click("#agreement-button")
    review_browser.until("document.getElementById('dialog').open")
    assert "0.750" in review_browser.text("#dialog-body")
    inside = sum(200 <= t < 1000 for t in PTS), sum(200 <= t < 800 for t in PTS)
    shares = [n / len(PTS) for n in inside]
    expected = math.prod(shares) + math.prod(1 - s for s in shares)
    observed = 1 - (inside[0] - inside[1]) / len(PTS)
    assert f"{(observed - expected) / (1 - expected):.3f}" in review_browser.text("#kappa")


def test_where_nothing_can_be_saved_the_page_says_so(
    review_browser: ReviewBrowser, start_server: StartServer, folder: Path
) -> None:
    review_browser.show(start_server(folder, "--truth", "/proc/truth.json").address)
    assert "nothing can be saved" in review_browser.text("#notices")


def test_what_next_names_a_video_and_goes_to_its_moment(
    review_browser: ReviewBrowser, start_server: StartServer, folder: Path, tiny_bundle: Path
) -> None:
    write_video(folder / "other.webm", counted(60, step=2), codec="libvpx", options={})
    review_browser.show(start_server(folder, "--model", tiny_bundle).address)
    review_browser.until("document.querySelectorAll('.state-draft').length === 2")
    review_browser.click("#suggest-button")
    review_browser.until("document.querySelectorAll('#dialog-body tbody tr').length === 2")
    review_browser.run(
        "[...document.querySelectorAll('#dialog-body tbody tr')].find(e => e.textContent.includes('other'))"
        ".querySelector('button').click()"
    )
    review_browser.until("document.getElementById('video-title').textContent === 'other'")
    assert not review_browser.run("return document.getElementById('dialog').open")


def test_training_needs_a_video_that_is_done(
    review_browser: ReviewBrowser, start_server: StartServer, folder: Path
) -> None:
    review_browser.show(start_server(folder).address)
    review_browser.click("#train-button")
    review_browser.until("document.getElementById('dialog').open")
    review_browser.click("#dialog-buttons button")
    review_browser.until("document.getElementById('training-stage').textContent.includes('finish one first')")
