"""A progress bar over the clips of each model file, where standard error is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tsm_runtime.terminal import is_terminal, printable
from tsm_runtime.verification.score import Progress

__all__ = ["verification_bar"]


@contextmanager
def verification_bar(*, quiet: bool = False) -> Iterator[Progress | None]:
    """Show a bar while the block runs, and take it away afterwards.

    Args:
        quiet: show none.

    Yields:
        What `run.verify` reports to; None where nothing is shown.
    """
    if quiet or not is_terminal(sys.stderr):
        yield None
        return
    # rich costs more time to import than the rest of the runtime.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        shown = ""

        def report(file: str, num_done: int, num_clips: int) -> None:
            nonlocal shown
            if file != shown:  # the next file: its time left is not that of the one before
                bar.reset(task, description=printable(file), total=num_clips)
                shown = file
            bar.update(task, completed=num_done)

        yield report
