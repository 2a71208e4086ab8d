"""The report page in a real browser: seeking, filters, keys, hostile text, network, widths, themes.

Skipped without Chromium, its driver or selenium; TSM_REQUIRE_BROWSER=1 turns that into a failure.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import DESKTOP, PHONE, Browser
from fakes import result_of, seg
from media import counted, write_video
from sounds import scene, write_sound

from tsm_runtime.evaluation.matching import match_segments
from tsm_runtime.formats.ground_truth import VideoAnnotation
from tsm_runtime.outputs.report.content import MemberSegments, Report, ScoreStrip, VideoReport
from tsm_runtime.outputs.report.evaluation_charts import chart_evaluation, prediction_videos
from tsm_runtime.outputs.report.page import write_report
from tsm_runtime.results import BACKGROUND, IntervalScores, SceneScore

SECONDS = 4.0
HOSTILE = '"><img src=x onerror="window.hacked=1"><script>window.hacked=1</script></script>\u2028'


class ReportBrowser(Browser):
    """A browser that shows a report."""

    def seconds(self) -> float:
        return float(self.run("return document.getElementById('video').currentTime"))

    def playhead(self) -> float:
        """Second at which the playhead stands, from its place on the screen."""
        return SECONDS * float(
            self.run(
                "const track = document.querySelector('.ruler-track').getBoundingClientRect();"
                "const head = document.querySelector('.playhead').getBoundingClientRect();"
                "return (head.left + head.width / 2 - track.left) / track.width"
            )
        )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReportBrowser]:
    opened = ReportBrowser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.driver.quit()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VP8, which every Chromium plays, under a name that needs escaping."""
    path = tmp_path_factory.mktemp("videos") / "a clip #1 50%.webm"
    return write_video(path, counted(int(25 * SECONDS)), codec="libvpx", options={})


def run_report(video: Path | None, *, members: bool = False) -> VideoReport:
    segments = (seg("sit", 0.5, 1.5, 0.9), seg("walk", 1, 2, 0.4), seg("walk", 2.5, 3.5, 0.8))
    truth = VideoAnnotation(
        video_id="clip", subset="", duration_seconds=SECONDS, scene="day", segments=(seg("walk", 1, 2.2),)
    )
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]] * 4, np.float32)
    strip = ScoreStrip(
        scores=IntervalScores(indices=np.arange(8), action=scores),
        labels=("sit", "walk", BACKGROUND),
        interval_seconds=0.5,
    )
    result = result_of(*segments, scenes=(SceneScore(label="day", score=0.75),))
    return VideoReport(
        result=replace(result, duration_seconds=SECONDS, num_intervals=8, gaps=((3.5, 4.0),)),
        video=video,
        truth=truth,
        strip=None if members else strip,
        members=tuple(MemberSegments(name=name, segments=segments[:2]) for name in "AB") if members else (),
    )


Pages = Callable[[str], Path]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, video: Path) -> Pages:
    folder = tmp_path_factory.mktemp("pages")
    truth = {f"v{n}": [seg("sit", n, n + 2), seg("walk", 5, 9)] for n in range(3)}
    predictions = {
        v: [replace(s, score=0.5) for s in listed[: n + 1]] for n, (v, listed) in enumerate(truth.items())
    }
    annotations = [
        VideoAnnotation(video_id=v, subset="", duration_seconds=10.0, scene=None, segments=tuple(listed))
        for v, listed in truth.items()
    ]
    evaluation = chart_evaluation(
        match_segments(truth, predictions, (0.5, 0.75)),
        predictions,
        diagnosis={
            "False positives": {"1 x": {"background": 20.0, "double": 10.0}},
            "Length": {"S": {"AP": 40.0}},
        },
        scene_accuracy=0.5,
    )
    many = tuple(seg(f"class {i % 12}", 0.7 * i, 0.7 * i + 0.6, (37 * i % 100) / 100) for i in range(500))
    reports = {
        "run": Report(title="Run", videos=(run_report(video),)),
        "ensemble": Report(title="Ensemble", videos=(run_report(video, members=True),)),
        "evaluation": Report(
            title="Evaluation", videos=prediction_videos(annotations, predictions)[0], evaluation=evaluation
        ),
        "many": Report(title="Many", videos=(VideoReport(result=result_of(*many)),)),
    }
    for name, report in reports.items():
        write_report(folder / f"{name}.html", report)
    return lambda name: folder / f"{name}.html"


@pytest.mark.parametrize("name", ["run", "ensemble", "evaluation"])
def test_opens_without_errors_or_network(browser: ReportBrowser, pages: Pages, name: str) -> None:
    browser.open(pages(name))
    if name != "evaluation":
        browser.until("document.getElementById('video').readyState >= 1")
    requested = browser.requests()
    assert requested
    assert {url.partition(":")[0] for url in requested} <= {"file", "data"}
    assert browser.errors() == []


def test_a_picture_of_the_moment_under_the_mouse(browser: ReportBrowser, pages: Pages) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    browser.open(pages("run"))
    browser.until("document.getElementById('video').readyState >= 1")
    hidden = "return document.querySelector('.preview').hidden"
    assert browser.run(hidden) is True
    ruler = browser.driver.find_element(By.CSS_SELECTOR, ".ruler-track")
    ActionChains(browser.driver).move_to_element_with_offset(ruler, ruler.size["width"] // 4, 0).perform()
    browser.until("!document.querySelector('.preview').hidden")
    browser.until("Math.abs(document.querySelector('.preview video').currentTime - 3) < 0.05")
    browser.until("document.querySelector('.preview video').readyState >= 2")
    assert browser.run("return document.querySelector('.preview span').textContent").startswith("0:0")
    assert browser.seconds() == 0.0  # the large picture stays
    place = browser.run("return document.querySelector('.preview').getBoundingClientRect().toJSON()")
    assert place["left"] >= 0
    assert place["right"] <= DESKTOP[0]
    heading = browser.driver.find_element(By.CSS_SELECTOR, "h1")
    ActionChains(browser.driver).move_to_element(heading).perform()
    browser.until("document.querySelector('.preview').hidden")
    assert browser.errors() == []


def test_the_policy_stops_the_network(browser: ReportBrowser, pages: Pages) -> None:
    browser.open(pages("run"))
    blocked = browser.driver.execute_async_script(
        "const done = arguments[0]; const seen = [];"
        "document.addEventListener('securitypolicyviolation', (e) => seen.push(e.effectiveDirective));"
        "fetch('http://127.0.0.1:9/').catch(() => {});"
        "new Image().src = 'http://127.0.0.1:9/x.png';"
        "const video = document.createElement('video'); video.src = 'http://127.0.0.1:9/x.mp4';"
        "const script = document.createElement('script'); script.textContent = 'window.hacked = 1';"
        "document.body.append(video, script); setTimeout(() => done(seen), 300);"
    )
    assert {rule.removesuffix("-elem") for rule in blocked} == {
        "connect-src",
        "img-src",
        "media-src",
        "script-src",
    }
    assert browser.run("return window.hacked") is None


def test_clicks_seek_and_the_playhead_follows(browser: ReportBrowser, pages: Pages) -> None:
    browser.open(pages("run"))
    browser.until("document.getElementById('video').readyState >= 1")
    browser.click('.segment.found[aria-label^="walk, 0:02.50"]')
    browser.until("document.getElementById('video').currentTime === 2.5")
    assert browser.playhead() == pytest.approx(2.5, abs=0.02)
    assert browser.shown(".segment[aria-current]") == ["walk, 0:02.50 to 0:03.50, score 0.80, found"]
    browser.click("#segments tbody tr:nth-child(1) .go")
    browser.until("document.getElementById('video').currentTime === 0.5")
    browser.run("document.getElementById('video').currentTime = 1.75")
    browser.until("document.querySelector('.corner').textContent === '0:01.75'")
    assert browser.playhead() == pytest.approx(1.75, abs=0.02)
    assert "sit" not in browser.shown("#readout")[0].partition("Scores")[0]
    browser.click(".ruler-track")  # in its middle
    browser.until("Math.abs(document.getElementById('video').currentTime - 2) < 0.02")


def test_the_playhead_moves_while_the_video_plays(browser: ReportBrowser, pages: Pages) -> None:
    browser.open(pages("run"))
    browser.until("document.getElementById('video').readyState >= 3")
    browser.press(" ")
    browser.until("document.getElementById('video').currentTime > 0.3")
    browser.press(" ")
    browser.until("document.getElementById('video').paused")
    browser.until(
        "document.querySelector('.corner').textContent.endsWith("
        "document.getElementById('video').currentTime.toFixed(2))"
    )
    assert browser.playhead() == pytest.approx(browser.seconds(), abs=0.05)


def test_filters(browser: ReportBrowser, pages: Pages) -> None:
    browser.open(pages("run"))
    assert len(browser.shown(".segment.found")) == 3
    set_score = (
        "const slider = document.getElementById('min-score'); slider.value = arguments[0];"
        "slider.dispatchEvent(new Event('input'))"
    )
    browser.run(set_score, 0.5)
    assert [text[:13] for text in browser.shown(".segment.found")] == ["sit, 0:00.50 ", "walk, 0:02.50"]
    assert browser.shown("#count") == ["2 of 3 shown"]
    assert len(browser.shown("#segments tbody tr")) == 2
    assert len(browser.shown(".segment.true")) == 1
    browser.click("#classes .chip:last-of-type input")
    assert [text[:3] for text in browser.shown(".segment")] == ["sit"]
    assert browser.shown(".row") == ["sit"]
    browser.click("#classes-none")
    assert browser.shown(".segment, .row, #segments tbody tr") == []
    browser.click("#classes-all")
    browser.run(set_score, 0)
    assert browser.shown("#count") == ["3 of 3 shown"]
    browser.click("#quiet")
    assert browser.shown(".row") == ["sit", "walk", BACKGROUND]


def test_keys(browser: ReportBrowser, pages: Pages) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(pages("run"))
    browser.until("document.getElementById('video').readyState >= 1")
    focused = "return document.activeElement.getAttribute('aria-label')"
    browser.run("document.querySelector('.ruler-track').focus()")
    browser.press(Keys.ARROW_RIGHT)
    browser.until("document.getElementById('video').currentTime === 0.5")  # one interval
    browser.press(Keys.TAB)
    assert browser.run(focused).startswith("sit, 0:00.50")
    browser.press(Keys.ARROW_DOWN)
    assert browser.run(focused).startswith("walk, 0:01.00 to 0:02.00")
    browser.press(Keys.END)
    assert browser.run(focused).startswith("walk, 0:02.50")
    assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press(Keys.ENTER)
    browser.until("document.getElementById('video').currentTime === 2.5")
    browser.press(" ")
    browser.until("!document.getElementById('video').paused")
    browser.press(" ")
    browser.until("document.getElementById('video').paused")
    browser.press("?")
    assert browser.run("return document.getElementById('help').open")
    browser.press(Keys.ESCAPE)
    assert not browser.run("return document.getElementById('help').open")


def test_zoom_makes_the_track_wider_not_the_page(browser: ReportBrowser, pages: Pages) -> None:
    browser.open(pages("run"))
    width = "return document.querySelector('.ruler-track').getBoundingClientRect().width"
    before = browser.run(width)
    browser.click("#zoom-in")
    assert browser.run(width) == pytest.approx(2 * before, abs=1)
    assert browser.run("return document.documentElement.scrollWidth") <= DESKTOP[0]
    browser.click("#zoom-fit")
    assert browser.run(width) == before


def test_the_scores_are_drawn(browser: ReportBrowser, pages: Pages) -> None:
    browser.open(pages("run"))
    read = (
        "const c = document.querySelector('.row canvas'); const g = c.getContext('2d');"
        "return [0.05, 0.2].map((x) => g.getImageData(Math.floor(x * c.width), 0, 1, 1).data[3])"
    )
    browser.until("document.querySelector('.row canvas').width > 300")
    assert browser.run(read) == [round(0.7 * 255), round(0.1 * 255)]  # 0.2 s and 0.8 s of "sit"


def test_columns_sort(browser: ReportBrowser, pages: Pages) -> None:
    browser.open(pages("run"))
    scores = "#segments tbody td:last-child"
    assert browser.shown(scores) == ["0.900", "0.400", "0.800"]
    browser.click("#segments th.score button")
    assert browser.shown(scores) == ["0.900", "0.800", "0.400"]
    browser.click("#segments th.score button")
    assert browser.shown(scores) == ["0.400", "0.800", "0.900"]
    assert browser.run("return document.querySelector('th.score').ariaSort") == "ascending"


def test_members_stand_side_by_side(browser: ReportBrowser, pages: Pages) -> None:
    browser.open(pages("ensemble"))
    assert browser.shown(".row[aria-label=walk] .tags div") == ["fused", "A", "B", "true"]
    tops = browser.run(
        "return [...document.querySelectorAll('.row:last-of-type .lane')].map(e => e.offsetTop)"
    )
    assert tops == sorted(set(tops))
    assert browser.run("return [...document.getElementById('source').options].map(o => o.text)") == [
        *("fused", "A", "B", "true")
    ]


def test_true_segments_differ_without_colour(browser: ReportBrowser, pages: Pages) -> None:
    browser.open(pages("run"))
    look = "return getComputedStyle(document.querySelector(arguments[0])).backgroundImage"
    assert browser.run(look, ".segment.found") == "none"
    assert browser.run(look, ".segment.true").startswith("repeating-linear-gradient")


def test_hostile_text_does_nothing(browser: ReportBrowser, tmp_path: Path, video: Path) -> None:
    name = HOSTILE.replace("/", "\u2044")
    copy = Path(shutil.copy(video, tmp_path / f"{name[:60]}.webm"))
    result = result_of(seg(HOSTILE, 0, 1), video_id=HOSTILE, scenes=(SceneScore(label=HOSTILE, score=1.0),))
    truth = VideoAnnotation(
        video_id=HOSTILE, subset="", duration_seconds=None, scene=HOSTILE, segments=(seg(HOSTILE, 1, 2),)
    )
    shown = VideoReport(
        result=replace(result, warnings=(HOSTILE,)),
        video=copy,
        truth=truth,
        members=(MemberSegments(name=HOSTILE, segments=(seg(HOSTILE, 0, 2),)),),
    )
    matching = match_segments({"v": truth.segments}, {"v": truth.segments}, (0.5,))
    evaluation = chart_evaluation(
        matching, {}, mode=HOSTILE, notes=[HOSTILE], diagnosis={HOSTILE: {HOSTILE: {HOSTILE: 1.0, "b": 1.0}}}
    )
    write_report(tmp_path / "page.html", Report(title=HOSTILE, videos=(shown,), evaluation=evaluation))
    browser.open(tmp_path / "page.html")
    browser.until("document.getElementById('video').readyState >= 1")
    assert browser.run("return window.hacked") is None
    assert browser.run("return [document.scripts.length, document.images.length]") == [2, 0]
    assert browser.run("return document.getElementById('title').textContent") == HOSTILE
    assert browser.run("return document.querySelector('.row-name').title") == HOSTILE
    assert browser.errors() == []


def test_an_embedded_video_plays_and_seeks(browser: ReportBrowser, tmp_path: Path, video: Path) -> None:
    write_report(tmp_path / "page.html", Report(title="T", videos=(run_report(video),)), embed=True)
    browser.open(tmp_path / "page.html")
    browser.until("document.getElementById('video').readyState >= 1")
    browser.click("#segments tbody tr:nth-child(3) .go")
    browser.until("document.getElementById('video').currentTime === 2.5")
    assert {url[:5] for url in browser.requests()} <= {"file:", "data:"}
    assert browser.errors() == []


def test_a_recording_without_pictures_plays_and_seeks(browser: ReportBrowser, tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "talk.wav", scene(SECONDS), codec="pcm_s16le", picture_seconds=0)
    result = result_of(seg("speaking", 1.0, 2.0), video_id="talk")
    report = Report(
        title="talk", videos=(VideoReport(result=replace(result, duration_seconds=4.0), video=sound),)
    )
    write_report(tmp_path / "page.html", report)
    browser.open(tmp_path / "page.html")
    browser.until("document.getElementById('video').readyState > 0")
    assert browser.run("return document.getElementById('screen-message').hidden")
    assert browser.run("return document.querySelector('.sound svg path').getBBox().width") > 500
    assert browser.run("return document.getElementById('facts').innerText").startswith("Recording")
    browser.run("document.querySelector('.segment').click()")
    browser.until("!document.getElementById('video').seeking")
    assert browser.seconds() == pytest.approx(1.0, abs=0.05)


def test_a_video_that_cannot_be_played_is_reported_and_the_rest_works(
    browser: ReportBrowser, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.webm"
    broken.write_bytes(b"no video at all")
    write_report(tmp_path / "page.html", Report(title="T", videos=(run_report(broken),)))
    browser.open(tmp_path / "page.html")
    browser.until("!document.getElementById('screen-message').hidden")
    assert "cannot play \u201cbroken.webm\u201d" in browser.shown("#screen-text")[0]
    browser.click('.segment.found[aria-label^="walk, 0:02.50"]')
    assert browser.playhead() == pytest.approx(2.5, abs=0.02)


def test_several_videos_are_chosen_from(browser: ReportBrowser, pages: Pages) -> None:
    browser.open(pages("evaluation"))
    assert browser.shown("#video-title") == ["v0"]
    browser.click("#video-next")
    assert browser.shown("#video-title") == ["v1"]
    browser.press("n", "n")
    assert browser.shown("#video-title") == ["v2"]
    assert browser.shown("#screen") == []


def test_the_evaluation_is_drawn(browser: ReportBrowser, pages: Pages) -> None:
    browser.open(pages("evaluation"))
    assert browser.shown(".card b")[:3] == ["83.3", "83.3", "83.3"]  # sit 3 of 3, walk 2 of 3
    assert browser.shown(".ap-list .bar-row") == ["sit100.0", "walk66.7"]
    assert len(browser.shown(".figures figure")) == 4
    assert browser.run("return document.querySelectorAll('.figures svg .curve').length") == 4
    assert browser.shown(".confusion tbody tr:nth-child(2) td") == ["", "2", "1"]
    assert browser.shown(".diagnosis .bar-row") == ["1 x30.0", "S40.0"]


@pytest.mark.parametrize("name", ["run", "ensemble", "evaluation"])
def test_a_phone_needs_no_sideways_scrolling(browser: ReportBrowser, pages: Pages, name: str) -> None:
    browser.open(pages(name), size=PHONE)
    assert browser.run("return [innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    browser.run("document.getElementById('zoom-in').click()")
    assert browser.run("return document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize("name", ["run", "ensemble", "evaluation"])
def test_both_themes(browser: ReportBrowser, pages: Pages, name: str, tmp_path: Path) -> None:
    background = "return getComputedStyle(document.body).backgroundColor"
    colors = []
    for theme in ("light", "dark"):
        browser.open(pages(name), theme=theme)
        browser.run("try { localStorage.clear() } catch {}")
        colors.append(browser.run(background))
        assert len(browser.screenshot(tmp_path / f"{name}-{theme}.png")) > 5000
    assert colors == ["rgb(241, 243, 246)", "rgb(18, 22, 27)"]
    browser.click("#theme")
    assert browser.run(background) == colors[0]
    browser.run("try { localStorage.clear() } catch {}")


def test_many_segments(browser: ReportBrowser, pages: Pages) -> None:
    """Print how long a change of the filter takes until the page is laid out; a figure, not a limit."""
    browser.open(pages("many"))
    assert len(browser.shown(".segment")) == 500
    times = browser.run(
        "const slider = document.getElementById('min-score'); const times = [];"
        "for (let n = 0; n < 10; n++) { const start = performance.now(); slider.value = n % 2 ? 0 : 0.5;"
        "slider.dispatchEvent(new Event('input')); document.body.getBoundingClientRect();"
        "times.push(performance.now() - start); } return times"
    )
    print(f"filter of 500 segments: median {np.median(times):.1f} ms, most {max(times):.1f} ms")  # noqa: T201
    browser.run(
        "const s = document.getElementById('min-score'); s.value = 0.5; s.dispatchEvent(new Event('input'))"
    )
    assert len(browser.shown(".segment")) == 250
    assert len(browser.shown("#segments tbody tr")) == 250


def test_the_address_leads_to_the_moment(browser: ReportBrowser, pages: Pages) -> None:
    browser.open(pages("evaluation").as_uri() + "#video=v1&t=2.5")
    assert browser.run("return document.getElementById('video-title').textContent") == "v1"
    assert "0:02.50" in browser.run("return document.getElementById('readout').textContent")
    browser.run("location.hash = '#video=v2&t=1'")
    browser.until("document.getElementById('video-title').textContent === 'v2'")
    browser.run("location.hash = '#video=unknown&t=1'")
    browser.open("about:blank", ready="true")


def test_the_shown_segments_as_csv(browser: ReportBrowser, pages: Pages) -> None:
    browser.open(pages("run"))
    browser.run(
        "URL.createObjectURL = (blob) => { blob.text().then(text => { window.saved = text; }); return '#'; }"
    )
    browser.run(
        "const m = document.getElementById('min-score'); m.value = 0.5; m.dispatchEvent(new Event('input'))"
    )
    browser.click("#download")
    browser.until("window.saved")
    saved = browser.run("return window.saved").splitlines()
    assert saved == ["video,label,start,end,score", "clip,sit,0.5,1.5,0.9", "clip,walk,2.5,3.5,0.8"]
