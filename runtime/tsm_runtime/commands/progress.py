"""Progress bars with rate and time left, where standard error is a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tsm_runtime.pipeline.options import Options
from tsm_runtime.terminal import printable, terminal_bars
from tsm_runtime.video.finding import VideoInput
from tsm_runtime.wording import counted

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_NAME_WIDTH = 28


@dataclass(slots=True)
class _VideoBar:
    task: TaskID
    since: float
    """`time.perf_counter()` when it appeared."""
    seconds: float = 0.0
    """Seconds of the video that are done."""
    share: float = 0.0
    """Share of the video that is done, 0 to 1."""


@dataclass(slots=True)
class ProgressBars:
    """A bar for each video that is being run and, of several videos, one for all of them."""

    _bars: Progress
    _options: Options
    _num_videos: int
    _videos: dict[VideoInput, _VideoBar] = field(default_factory=dict)
    _overall: TaskID | None = None
    _num_done: int = 0
    _num_failed: int = 0
    _done_seconds: float = 0.0
    """Of video, in videos that are done."""
    _since: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        if self._num_videos > 1:
            self._overall = self._bars.add_task("", total=self._num_videos, rate="")
            self._show_overall()

    def report(self, video: VideoInput, reached_seconds: float, claimed_seconds: float | None) -> None:
        """Show how far a video is, as the scheduler's `progress` reports it."""
        if video not in self._videos:
            task = self._bars.add_task(_shortened(video.path.name), total=None, rate="")
            self._videos[video] = _VideoBar(task, time.perf_counter())
        bar = self._videos[video]
        done = max(0.0, reached_seconds - self._options.start_seconds)
        bounds = [bound for bound in (claimed_seconds, self._options.end_seconds) if bound]
        total = max(min(bounds) - self._options.start_seconds, done) if bounds else None
        bar.seconds, bar.share = done, done / total if total else 0.0
        self._bars.update(bar.task, completed=done, total=total, rate=_rate_text(done, bar.since))
        self._show_overall()

    def _show_overall(self) -> None:
        if self._overall is None:
            return
        finished = self._num_done + self._num_failed
        failed = f", {self._num_failed} failed" if self._num_failed else ""
        seconds = self._done_seconds + sum(bar.seconds for bar in self._videos.values())
        self._bars.update(
            self._overall,
            description=f"{finished} of {counted(self._num_videos, 'video')}{failed}",
            completed=min(finished + sum(bar.share for bar in self._videos.values()), self._num_videos),
            rate=_rate_text(seconds, self._since),
        )

    def finished(self, *, done_seconds: float, is_lost: bool) -> None:
        """Count a video or capture that is done: the seconds of its result, and whether it has none."""
        self._num_done += not is_lost
        self._num_failed += is_lost
        self._done_seconds += done_seconds
        self._show_overall()

    @contextmanager
    def away(self, videos: Sequence[VideoInput]) -> Iterator[None]:
        """Take all bars off the terminal while the block prints, and those of some videos for good."""
        self._bars.stop()
        for video in videos:
            if video in self._videos:
                self._bars.remove_task(self._videos.pop(video).task)
        try:
            yield
        finally:
            self._bars.start()


def _rate_text(seconds: float, since: float) -> str:
    return f"{seconds / max(time.perf_counter() - since, 1e-9):.1f} x real time"


def _shortened(name: str) -> str:
    """Return a file's name as it fits beside a bar on 80 columns: its end, which distinguishes videos."""
    text = printable(name)
    return text if len(text) <= _NAME_WIDTH else f"...{text[3 - _NAME_WIDTH :]}"


@contextmanager
def progress_bars(options: Options, num_videos: int) -> Iterator[ProgressBars | None]:
    """Show bars while the block runs, and take them away afterwards.

    Yields:
        What to report to; None where standard error is no terminal.
    """
    with terminal_bars(detail="{task.fields[rate]}") as bars:
        yield None if bars is None else ProgressBars(bars, options, num_videos)
