"""Runs iterables in threads, ahead of the consumer, behind one bounded queue."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tsm_runtime.closing import Closing
from tsm_runtime.errors import RunError

_Key = TypeVar("_Key")
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Ended:
    """End of an iterable, regular or by an exception."""

    error: BaseException | None = None


class Prefetcher(Closing, Generic[_Key, _Item]):
    """Iterables that each run in a thread and share a queue. `close` ends all threads.

    Args:
        capacity: maximum number of waiting items; the threads pause when it is reached.
    """

    def __init__(self, capacity: int) -> None:
        self.cancelled = threading.Event()
        """Set by `close`; iterables whose next item may take long check it."""
        self.num_running = 0
        """Number of iterables whose `Ended` was not returned yet."""
        self._items: queue.Queue[tuple[_Key, _Item | Ended]] = queue.Queue(maxsize=capacity)
        self._threads: list[threading.Thread] = []

    def start(self, key: _Key, items: Callable[[], Iterable[_Item]]) -> None:
        """Create and run an iterable in a new thread.

        Raises:
            RunError: the system cannot start another thread.
        """
        thread = threading.Thread(target=self._work, args=(key, items), name="decode", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise RunError(
                "the system gives no further thread: a limit of memory or processes (ulimit -v, ulimit -u)"
            ) from error
        self._threads = [thread, *(other for other in self._threads if other.is_alive())]
        self.num_running += 1

    def get(self) -> tuple[_Key, _Item | Ended]:
        """Return the next item of any iterable, with its key; items of one iterable stay in order."""
        key, item = self._items.get()
        if isinstance(item, Ended):
            self.num_running -= 1
        return key, item

    @property
    def num_waiting(self) -> int:
        """Return the number of waiting items."""
        return self._items.qsize()

    def close(self) -> None:
        """End all threads, and wait for them."""
        self.cancelled.set()
        for thread in self._threads:
            thread.join()

    def _work(self, key: _Key, items: Callable[[], Iterable[_Item]]) -> None:
        try:
            for item in items():
                if not self._put(key, item):
                    return
            end = Ended()
        except BaseException as error:
            end = Ended(error)
        self._put(key, end)

    def _put(self, key: _Key, item: _Item | Ended) -> bool:
        while not self.cancelled.is_set():
            try:
                self._items.put((key, item), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False
