"""A progress bar over the clips of each model file, where standard error is a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tsm_runtime.terminal import printable, terminal_bars
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
    with terminal_bars(quiet=quiet) as bar:
        if bar is None:
            yield None
            return
        task = bar.add_task("", total=None)
        shown = ""

        def report(file: str, num_done: int, num_clips: int) -> None:
            nonlocal shown
            if file != shown:  # the next file: its time left is not that of the one before
                bar.reset(task, description=printable(file), total=num_clips)
                shown = file
            bar.update(task, completed=num_done)

        yield report
