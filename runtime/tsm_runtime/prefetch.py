"""Decoding in its own thread, behind a bounded queue."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable

from tsm_runtime.clips import ClipBatch

__all__ = ["prefetch"]

_QUEUE_BATCHES = 2


def prefetch(batches: Iterable[ClipBatch], cancelled: threading.Event) -> Generator[ClipBatch]:
    """Run an iterable in a thread, a few batches ahead. Its exception is raised here, in the caller.

    Args:
        batches: iterated in the thread, and nowhere else.
        cancelled: set when the caller stops asking, for `batches` to watch; the thread has ended when this
            generator is closed.
    """
    results: queue.Queue[ClipBatch | BaseException | None] = queue.Queue(maxsize=_QUEUE_BATCHES)

    def put(item: ClipBatch | BaseException | None) -> bool:
        while not cancelled.is_set():
            try:
                results.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for batch in batches:
                if not put(batch):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="decode", daemon=True)
    thread.start()
    try:
        while (item := results.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        cancelled.set()
        thread.join()
