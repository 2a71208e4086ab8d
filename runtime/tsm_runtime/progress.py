"""A progress bar with rate and time left, where standard error is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tsm_runtime.pipeline import Options, Progress
from tsm_runtime.terminal import is_terminal, printable

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(name: str, options: Options) -> Iterator[Progress | None]:
    """Show a bar for one video while the block runs, and take it away afterwards.

    Yields:
        What `run` reports to; None where standard error is no terminal.
    """
    if not is_terminal(sys.stderr):
        yield None
        return
    # rich costs more time to import than the rest of the runtime.
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
    )
    start = time.perf_counter()
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(printable(name), total=None, rate="")

        def report(reached_seconds: float, claimed_seconds: float | None) -> None:
            done = max(0.0, reached_seconds - options.start_seconds)
            bounds = [bound for bound in (claimed_seconds, options.end_seconds) if bound]
            total = max(min(bounds) - options.start_seconds, done) if bounds else None
            rate = done / max(time.perf_counter() - start, 1e-9)
            bar.update(task, completed=done, total=total, rate=f"{rate:.1f} x real time")

        yield report
