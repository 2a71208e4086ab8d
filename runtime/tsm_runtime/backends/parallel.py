"""Several calls of a backend at a time, where one alone leaves the processor waiting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import Backend, BlockingBackend, Scores

__all__ = ["ParallelCalls", "calling_in_parallel"]


class ParallelCalls:
    """A backend whose batches are scored in threads of a pool; close it with the pool.

    Args:
        backend: its `infer` may be called from several threads at a time.
        pool: may be that of several backends.
    """

    def __init__(self, backend: BlockingBackend, pool: ThreadPoolExecutor) -> None:
        self._backend, self._pool = backend, pool
        self.name = backend.name
        self.in_flight = backend.parallel_calls + 1  # the one more is there when a thread becomes free

    def submit(self, frames: npt.NDArray[np.uint8]) -> Future[Scores]:
        """Begin to score a (N, T, size, size, 3) uint8 batch, which is to stay as it is until `result`."""
        return self._pool.submit(self._backend.infer, frames)

    def result(self, batch: Future[Scores]) -> Scores:
        """Wait for the scores; errors are those of the backend's `infer`."""
        return batch.result()


@contextmanager
def calling_in_parallel(backends: Sequence[Backend]) -> Iterator[list[Any]]:
    """Yield the backends, those that take parallel calls in `ParallelCalls`; they share one pool of threads.

    At the end calls that have not begun are forgotten and those under way waited for. The backends stay open.
    """
    parallel = [b for b in backends if isinstance(b, BlockingBackend) and b.parallel_calls > 1]
    if not parallel:
        yield list(backends)
        return
    pool = ThreadPoolExecutor(max(b.parallel_calls for b in parallel), thread_name_prefix="score")
    try:
        yield [ParallelCalls(b, pool) if b in parallel else b for b in backends]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
