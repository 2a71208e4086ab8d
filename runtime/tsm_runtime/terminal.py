"""What all commands share: `--version`, and errors as one or two lines with the design's exit code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from tsm_runtime.errors import RunError

if TYPE_CHECKING:
    # rich costs more time to import than the rest of the runtime.
    from rich.progress import Progress

INTERRUPTED = 130


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person sees what is written here; the standard streams are None where they were closed."""
    return stream is not None and stream.isatty()


@contextmanager
def terminal_bars(
    *, detail: str | None = None, elapsed: bool = False, quiet: bool = False
) -> Iterator[Progress | None]:
    """Show progress bars on standard error while the block runs, and take them away afterwards.

    Args:
        detail: stands behind a bar, a format of rich's `task`; None: how many of how many are done.
        elapsed: the time since a bar's beginning is shown, not the time left.
        quiet: show none.

    Yields:
        What takes tasks, their descriptions `printable`; None where nothing is shown, or standard error is no
        terminal.
    """
    if quiet or not is_terminal(sys.stderr):
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn() if detail is None else TextColumn(detail, markup=False),
        TimeElapsedColumn() if elapsed else TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield bars


def printable(text: str) -> str:
    r"""Return text that stays on its line and does nothing to the terminal.

    >>> printable("a\nb \x1b[2J é")
    'a\\nb \\x1b[2J é'
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


_LOGS: list[logging.Logger] = []


def report_to(logger: logging.Logger | None) -> None:
    """Let `warn` and `log_event` report to a logger; None: warnings to standard error, events nowhere."""
    _LOGS[:] = [] if logger is None else [logger]


def warn(text: str) -> None:
    """Report a message of one or two lines: on standard error, or to a log where a command has set one up."""
    if _LOGS:
        _LOGS[-1].warning(text)
        return
    if sys.stderr is not None:  # print would take standard output instead
        print("\n".join(map(printable, text.split("\n"))), file=sys.stderr, flush=True)  # noqa: T201


def log_event(message: str, **fields: object) -> None:
    """Log an event of a run with its fields; nothing happens where no log is set up."""
    if _LOGS:
        _LOGS[-1].info(message, extra={"fields": fields})


def write_stdout(data: bytes) -> None:
    """Write all of some bytes to standard output.

    Raises:
        RunError: it is closed or its disk is full.
        BrokenPipeError: its reader went away.
    """
    if sys.stdout is None:
        raise RunError("standard output is closed; choose a file with --output")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop_stdout()
        raise RunError(f"cannot write to standard output: {error.strerror}") from error


def _drop_stdout() -> None:
    """Send what is still buffered nowhere: Python would fail once more when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
