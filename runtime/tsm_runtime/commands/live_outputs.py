"""Where the events of live runs go: JSON lines in one place or a file for each stream, or a readable view."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from tsm_runtime.files import made_folder
from tsm_runtime.live.events import (
    Discontinuity,
    Drop,
    End,
    Event,
    LiveGap,
    LiveSegment,
    OpenSegment,
    Resumption,
    Start,
)
from tsm_runtime.live.writer import LineWriter
from tsm_runtime.terminal import is_terminal, printable
from tsm_runtime.wording import counted


class _Lines:
    """Writes the events of each stream as JSON lines."""

    def __init__(self, writers: dict[str, LineWriter], tagged: bool) -> None:
        self._writers, self._tagged = writers, tagged

    def write(self, name: str, event: Event) -> None:
        self._writers[name].write(msgspec.structs.replace(event, stream=name) if self._tagged else event)

    def stop_when_unread(self, stop: threading.Event) -> None:
        for writer in set(self._writers.values()):
            writer.stop_when_unread(stop)


class _ReadableView:
    """A line for each event: time of day, stream, and what happened."""

    def __init__(self, name_width: int) -> None:
        self._width = name_width

    def write(self, name: str, event: Event) -> None:
        name = f"{name:{self._width}}  " if self._width else ""
        sys.stdout.write(
            printable(f"{event.wall.astimezone():%H:%M:%S}  {name}{describe_event(event)}") + "\n"
        )
        sys.stdout.flush()

    def stop_when_unread(self, stop: threading.Event) -> None:
        pass


Outputs = _Lines | _ReadableView
"""Takes the events of all streams: `write` an event of one, and `stop_when_unread`."""


@contextmanager
def open_outputs(output: str | None, names: Sequence[str], *, as_json: bool = False) -> Iterator[Outputs]:
    """Open what `--output` names.

    Args:
        output: a folder (it exists, or ends with `/`) for a file of each of several streams, a file, or None
            or `-` for standard output.
        names: of the streams.
        as_json: JSON lines also on a terminal.

    Raises:
        RunError: it cannot be opened.
    """
    several = len(names) > 1
    if output in (None, "-") and not as_json and is_terminal(sys.stdout):
        yield _ReadableView(max(map(len, names)) if several else 0)
        return
    with ExitStack() as held:
        if output is not None and (output.endswith("/") or Path(output).is_dir()):
            folder = made_folder(Path(output))
            files = {name: f"{name or 'stream'}.jsonl" for name in names}
            yield _Lines({n: held.enter_context(LineWriter(str(folder / files[n]))) for n in names}, False)
        else:
            writer = held.enter_context(LineWriter(output))
            yield _Lines(dict.fromkeys(names, writer), several)


def describe_event(event: Event) -> str:
    """Return what happened, in words."""
    match event:
        case Start(source=source, models=models):
            return f"watching {source} ({', '.join(model.backend for model in models)})"
        case LiveSegment() | OpenSegment():
            scene = "" if event.scene is None else f"  {event.scene}"
            more = "  so far" if isinstance(event, OpenSegment) else ""
            bounds = f"{event.start:9.2f} to {event.end:9.2f} s"
            return f"{event.label:20s} {bounds}  score {event.score:.2f}{scene}{more}"
        case LiveGap(start=start, end=end):
            return f"no frame from {start:.2f} to {end:.2f} s"
        case Drop(intervals=number, start=start, end=end):
            return f"too slow: {counted(number, 'interval')} from {start:.2f} to {end:.2f} s dropped"
        case Discontinuity(reason=reason, time=time):
            return f"lost at {time:.2f} s: {reason}"
        case Resumption(time=time, attempts=attempts):
            return f"back at {time:.2f} s after {counted(attempts, 'attempt')}"
        case End():
            return (
                f"ended: {event.reason}; {counted(event.segments, 'segment')} in {event.time:.2f} s,"
                f" {event.dropped} of {counted(event.intervals + event.dropped, 'interval')} dropped,"
                f" {counted(event.reconnects, 'reconnect')}"
            )
