"""Work in threads of its own, a little ahead of whoever takes what it gives, behind one bounded queue."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from tsm_runtime.errors import RunError

_Key = TypeVar("_Key")
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Ended:
    """An iterable gives no more, because it is at its end or because of an exception."""

    error: BaseException | None = None


class Prefetcher(Generic[_Key, _Item]):
    """Iterables that each run in a thread and share a queue. Close it: then all threads have ended.

    Args:
        capacity: items that may wait; the threads pause when there are as many.
    """

    def __init__(self, capacity: int) -> None:
        self.cancelled = threading.Event()
        """Set by `close`, for the iterables to watch where their next item may take long."""
        self.num_running = 0
        """Iterables whose `Ended` was not given out yet."""
        self._items: queue.Queue[tuple[_Key, _Item | Ended]] = queue.Queue(maxsize=capacity)
        self._threads: list[threading.Thread] = []

    def start(self, key: _Key, items: Callable[[], Iterable[_Item]]) -> None:
        """Run an iterable, made and used in a new thread and nowhere else.

        Raises:
            RunError: the system gives no further thread.
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
        """Return the next item of any iterable with that iterable's key; those of one come in its order."""
        key, item = self._items.get()
        if isinstance(item, Ended):
            self.num_running -= 1
        return key, item

    @property
    def num_waiting(self) -> int:
        """Items that wait in the queue."""
        return self._items.qsize()

    def close(self) -> None:
        """Let all threads end, and wait until they have."""
        self.cancelled.set()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
