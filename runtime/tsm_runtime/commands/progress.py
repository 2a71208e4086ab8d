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

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@dataclass(frozen=True, slots=True)
class ProgressBars:
    """A bar for each video that is being run."""

    _bars: Progress
    _options: Options
    _tasks: dict[VideoInput, tuple[TaskID, float]] = field(default_factory=dict)
    """Of each video the bar, and when it appeared."""

    def report(self, video: VideoInput, reached_seconds: float, claimed_seconds: float | None) -> None:
        """Show how far a video is, as `videos.run_videos` tells it."""
        if video not in self._tasks:
            task = self._bars.add_task(printable(video.path.name), total=None, rate="")
            self._tasks[video] = (task, time.perf_counter())
        task, start = self._tasks[video]
        done = max(0.0, reached_seconds - self._options.start_seconds)
        bounds = [bound for bound in (claimed_seconds, self._options.end_seconds) if bound]
        total = max(min(bounds) - self._options.start_seconds, done) if bounds else None
        rate = done / max(time.perf_counter() - start, 1e-9)
        self._bars.update(task, completed=done, total=total, rate=f"{rate:.1f} x real time")

    @contextmanager
    def away(self, videos: Sequence[VideoInput]) -> Iterator[None]:
        """Take all bars off the terminal while the block prints, and those of some videos for good."""
        self._bars.stop()
        for video in videos:
            if video in self._tasks:
                self._bars.remove_task(self._tasks.pop(video)[0])
        try:
            yield
        finally:
            self._bars.start()


@contextmanager
def progress_bars(options: Options) -> Iterator[ProgressBars | None]:
    """Show bars while the block runs, and take them away afterwards.

    Yields:
        What to report to; None where standard error is no terminal.
    """
    with terminal_bars(detail="{task.fields[rate]}") as bars:
        yield None if bars is None else ProgressBars(bars, options)
