"""Events for all open pages: changed entries, drafts, training."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

_MOST_WAITING = 1000
"""A page that is so far behind is closed; it connects again and reads everything again."""

_HEARTBEAT_SECONDS = 15.0


class Hub:
    """Hands each published event to every subscriber, as server-sent events. Any thread may publish."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queues: set[asyncio.Queue[str | None]] = set()

    def publish(self, event: dict[str, Any]) -> None:
        """Send an event to all pages; without any page it is dropped."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._put, f"data: {json.dumps(event)}\n\n")

    def close(self) -> None:
        """End all subscriptions; to be called in the event loop."""
        self._put(None)

    async def events(self) -> AsyncIterator[str]:
        """Yield events as text of a `text/event-stream`, and a comment now and then."""
        self._loop = asyncio.get_running_loop()
        queue: asyncio.Queue[str | None] = asyncio.Queue(_MOST_WAITING)
        self._queues.add(queue)
        try:
            yield ": connected\n\n"
            while True:
                try:
                    event = await asyncio.wait_for(queue.get(), _HEARTBEAT_SECONDS)
                except TimeoutError:
                    event = ": still here\n\n"
                if event is None:
                    return
                yield event
        finally:
            self._queues.discard(queue)

    def _put(self, event: str | None) -> None:
        for queue in list(self._queues):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                self._queues.discard(queue)
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)
