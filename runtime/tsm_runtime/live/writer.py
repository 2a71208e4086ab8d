"""Writes the lines of a live run to standard output or the end of a file."""

from __future__ import annotations

import os
import select
import stat
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from tsm_runtime.errors import RunError
from tsm_runtime.live.events import Event, encode_event


class LineWriter:
    """Writes whole lines without buffering, so that written lines survive a crash.

    Args:
        output: a file to append to or create; `-` or None: standard output.

    Raises:
        RunError: the file cannot be opened.
    """

    def __init__(self, output: str | None) -> None:
        self._owned = output not in (None, "-")
        self._name = str(output) if self._owned else "standard output"
        self._fd = self._open(output) if self._owned and output else _stdout_number()
        self._is_file = stat.S_ISREG(os.fstat(self._fd).st_mode)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owned:
            os.close(self._fd)

    def write(self, event: Event) -> None:
        """Append a line.

        Raises:
            RunError: the line cannot be written, as on a full disk; the file ends with the last whole line.
            BrokenPipeError: the reader of the pipe has closed it.
        """
        size = os.fstat(self._fd).st_size
        left = memoryview(encode_event(event))
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            if self._is_file:
                with suppress(OSError):
                    os.ftruncate(self._fd, size)
            raise RunError(
                f"cannot write to {self._name}: {error.strerror}; the earlier lines are complete"
            ) from error

    def stop_when_unread(self, stop: threading.Event) -> None:
        """Set an event when the reader of a pipe closes it: a stream may have no events for hours."""
        if not stat.S_ISFIFO(os.fstat(self._fd).st_mode) or not hasattr(select, "poll"):
            return
        poll = select.poll()
        poll.register(self._fd, 0)  # poll reports errors and hang-ups without a request

        def wait() -> None:
            poll.poll()
            stop.set()

        threading.Thread(target=wait, name="reader", daemon=True).start()

    def _open(self, path: str) -> int:
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError:
            try:
                fd = os.open(path, os.O_WRONLY | os.O_APPEND)  # a pipe, or a file without read permission
            except OSError as error:
                raise RunError(f"cannot write to {path}: {error.strerror}") from error
        with suppress(OSError):
            self._end_line(fd)
        return fd

    @staticmethod
    def _end_line(fd: int) -> None:
        """End the incomplete line that a killed run may have left."""
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            os.write(fd, b"\n")


def _stdout_number() -> int:
    if sys.stdout is None:
        raise RunError("standard output is closed; choose a file with --output")
    sys.stdout.flush()
    return sys.stdout.fileno()
