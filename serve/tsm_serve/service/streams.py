"""Streams that the service watches, and their events for any number of listeners."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tsm_runtime.api import Model, load
from tsm_runtime.errors import TsmError
from tsm_runtime.wording import counted

_EVENTS_KEPT = 10_000


class TooManyStreamsError(TsmError):
    """The largest number of streams is running."""


@dataclass(eq=False, slots=True)
class Stream:
    """A source that is watched; `events` holds the newest, numbered from `first`."""

    stream_id: str
    source: str
    model: str
    stop: threading.Event = field(default_factory=threading.Event)
    events: deque[dict[str, Any]] = field(default_factory=deque)
    first: int = 0
    ended: bool = False
    error: str = ""

    @property
    def end(self) -> int:
        """The number of the next event."""
        return self.first + len(self.events)


class Streams:
    """Watches sources, each in a thread; any thread may call it.

    Args:
        bundles: folders by the model's name; a model is opened by its first stream.
        most: streams at a time.
        num_threads: of the network; None: all cores.
        timeout_seconds: a network stream from which nothing comes for so long is lost.
    """

    def __init__(
        self,
        bundles: Mapping[str, Path],
        most: int,
        *,
        num_threads: int | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        self._bundles = bundles
        self._num_threads = num_threads
        self._models: dict[str, Model] = {}
        self._opening = threading.Lock()
        self._most = most
        self._timeout = timeout_seconds
        self._change = threading.Condition()
        self._streams: dict[str, Stream] = {}
        self._threads: list[threading.Thread] = []

    def start(self, source: str, model: str) -> Stream:
        """Watch a source.

        Raises:
            TooManyStreamsError: as many run as may.
        """
        with self._change:
            running = [stream for stream in self._streams.values() if not stream.ended]
            if len(running) >= self._most:
                raise TooManyStreamsError(
                    f"{counted(len(running), 'stream')} already running; stop one first"
                )
            stream = Stream(stream_id=secrets.token_hex(8), source=source, model=model)
            self._streams[stream.stream_id] = stream
        thread = threading.Thread(target=self._watch, args=(stream,), name="stream", daemon=True)
        self._threads.append(thread)
        thread.start()
        return stream

    def get(self, stream_id: str) -> Stream | None:
        """Return a stream by its id."""
        with self._change:
            return self._streams.get(stream_id)

    def all(self) -> list[Stream]:
        """Return all streams, oldest first."""
        with self._change:
            return list(self._streams.values())

    def wait(self, stream: Stream, number: int, seconds: float) -> tuple[list[dict[str, Any]], int, bool]:
        """Wait for events from `number` on.

        Returns:
            The events, the number after them, and whether none will follow.
        """
        with self._change:
            self._change.wait_for(lambda: stream.end > number or stream.ended, seconds)
            events = list(stream.events)[max(0, number - stream.first) :]
            return events, stream.end, stream.ended

    def stop_all(self, seconds: float) -> None:
        """End all streams and wait for them."""
        for stream in self.all():
            stream.stop.set()
        for thread in self._threads:
            thread.join(seconds)
        for model in self._models.values():
            model.close()

    def _model(self, name: str) -> Model:
        with self._opening:
            if name not in self._models:
                self._models[name] = load(self._bundles[name], num_threads=self._num_threads)
            return self._models[name]

    def _watch(self, stream: Stream) -> None:
        from tsm_runtime.api import stream as events_of

        try:
            for event in events_of(
                stream.source, self._model(stream.model), timeout_seconds=self._timeout, stop=stream.stop
            ):
                self._add(stream, msgspec.to_builtins(event))
        except TsmError as error:
            stream.error = str(error)
        except Exception as error:  # one stream must not end the service
            stream.error = f"{type(error).__name__}: {error}"
        with self._change:
            stream.ended = True
            self._change.notify_all()

    def _add(self, stream: Stream, event: dict[str, Any]) -> None:
        with self._change:
            stream.events.append(event)
            if len(stream.events) > _EVENTS_KEPT:
                stream.events.popleft()
                stream.first += 1
            self._change.notify_all()
