"""Terminal input and output shared by the commands: progress bars, warnings, standard output."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from tsm_runtime.errors import RunError

if TYPE_CHECKING:
    # Importing rich takes longer than importing the rest of the runtime.
    from rich.progress import Progress

INTERRUPTED = 130

_SPEED_SECONDS = 3600.0


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal; a closed standard stream is None."""
    return stream is not None and stream.isatty()


@contextmanager
def terminal_bars(
    *, detail: str | None = None, elapsed: bool = False, quiet: bool = False
) -> Iterator[Progress | None]:
    """Show progress bars on standard error while the block runs, and remove them afterwards.

    Args:
        detail: text after a bar, a format string with rich's `task`; None: done and total steps.
        elapsed: show the elapsed time, not the remaining time.
        quiet: show no bars.

    Yields:
        Progress display; descriptions of its tasks must be `printable`. None if nothing is shown or standard
        error is not a terminal.
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
    # The time left follows from the mean speed: videos take longer than the 30 s that are usual here.
    with Progress(
        *columns, console=Console(stderr=True), transient=True, speed_estimate_period=_SPEED_SECONDS
    ) as bars:
        yield bars


def printable(text: str) -> str:
    r"""Return text with line breaks and control characters escaped.

    >>> printable("a\nb \x1b[2J é")
    'a\\nb \\x1b[2J é'
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


_LOGS: list[logging.Logger] = []


def report_to(logger: logging.Logger | None) -> None:
    """Send `warn` and `log_event` to a logger; None: warnings to standard error, no events."""
    _LOGS[:] = [] if logger is None else [logger]


def warn(text: str) -> None:
    """Report a message of one or two lines to the configured logger, else to standard error."""
    if _LOGS:
        _LOGS[-1].warning(text)
        return
    if sys.stderr is not None:  # print would take standard output instead
        print("\n".join(map(printable, text.split("\n"))), file=sys.stderr, flush=True)  # noqa: T201


def log_event(message: str, **fields: object) -> None:
    """Log an event of a run with its fields, if a logger is configured."""
    if _LOGS:
        _LOGS[-1].info(message, extra={"fields": fields})


def write_stdout(data: bytes) -> None:
    """Write all bytes to standard output.

    Raises:
        RunError: standard output is closed or its disk is full.
        BrokenPipeError: the reader closed the pipe.
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
    """Discard buffered output, which Python would otherwise fail to flush at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
