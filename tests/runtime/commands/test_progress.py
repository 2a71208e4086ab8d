"""Bars of a run on several videos: how many are done, and how far the ones in work are."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from tsm_runtime.commands.progress import ProgressBars
from tsm_runtime.pipeline.options import Options
from tsm_runtime.video.finding import VideoInput


@pytest.fixture
def shown() -> Progress:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    return Progress(TextColumn("{task.description}"), console=console)


def video(name: str) -> VideoInput:
    return VideoInput(path=Path(name), video_id=name)


def test_one_bar_for_all_videos(shown: Progress) -> None:
    bars = ProgressBars(shown, Options(), 4)
    first, second = video("first.mp4"), video("a_name_that_is_too_long_for_a_bar_2.mp4")
    bars.report(first, 5.0, 10.0)
    bars.report(second, 10.0, 40.0)
    overall, *others = shown.tasks
    assert overall.completed == pytest.approx(0.5 + 0.25)
    assert overall.total == 4
    assert [task.description for task in others] == ["first.mp4", "..._too_long_for_a_bar_2.mp4"]
    with bars.away([first]):
        bars.finished(done_seconds=10.0, is_lost=False)
    bars.finished(done_seconds=0.0, is_lost=True)
    assert overall.description == "2 of 4 videos, 1 failed"
    assert overall.completed == pytest.approx(2.25)
    assert len(shown.tasks) == 2


def test_a_single_video_has_one_bar(shown: Progress) -> None:
    bars = ProgressBars(shown, Options(), 1)
    assert shown.tasks == []
    bars.report(video("v.mp4"), 5.0, None)
    assert [task.description for task in shown.tasks] == ["v.mp4"]
    with bars.away([video("v.mp4")]):
        bars.finished(done_seconds=5.0, is_lost=False)
    assert shown.tasks == []
