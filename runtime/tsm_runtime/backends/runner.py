"""Batches on one backend: results in order, as many in flight as it takes, smaller where memory is short."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import Backend, BlockingBackend, Scores, joined_scores
from tsm_runtime.errors import OutOfMemoryError, RunError, TsmError

_log = logging.getLogger("tsm_runtime")


@dataclass(eq=False, slots=True)
class _Batch:
    """A submitted batch, and the scores of its parts so far, in order."""

    frames: npt.NDArray[np.uint8]
    take: Callable[[Scores], None]
    scores: list[Scores] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Part:
    """Clips [start, stop) of a batch: one call of the backend."""

    batch: _Batch
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def frames(self) -> npt.NDArray[np.uint8]:
        whole = self.batch.frames
        return whole if len(self) == len(whole) else whole[self.start : self.stop]

    def cut(self, most: int) -> list[_Part]:
        """Return parts of at most so many clips."""
        starts = range(self.start, self.stop, most)
        return [_Part(self.batch, start, min(start + most, self.stop)) for start in starts]


@dataclass(eq=False, slots=True)
class _Flight:
    """A submitted part, and the backend's handle of it."""

    part: _Part
    submitted: Any = None


class BatchRunner:
    """Runs batches on a backend and passes their scores to callbacks, in the order of the batches.

    A batch that does not fit into memory is halved, as are all later batches, as often as necessary.

    Args:
        backend: scores the batches; left open.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._flying: deque[_Flight] = deque()
        self._most: int | None = None
        """Clips of a call, once memory has run short."""

    def submit(self, frames: npt.NDArray[np.uint8], take: Callable[[Scores], None]) -> None:
        """Submit a batch once fewer than the backend's `in_flight` are in flight.

        Args:
            frames: (N, T, size, size, 3) uint8; must not be changed until its scores are there.
            take: called with its scores, from this method or a later call of any.

        Raises:
            RunError: the backend failed, or has no memory for a single clip.
        """
        self._run([_Part(_Batch(frames, take), 0, len(frames))], self._backend.in_flight)

    def finish(self) -> None:
        """Wait for the scores of all batches.

        Raises:
            RunError: as `submit`.
        """
        self._run([], 1)

    def abandon(self) -> None:
        """Wait until no submitted batch is in use; undelivered scores are discarded."""
        while self._flying:
            submitted = self._flying.popleft().submitted
            if submitted is not None:
                with suppress(TsmError, ValueError):  # a backend that broke off, or was closed
                    self._backend.result(submitted)

    def _run(self, parts: Iterable[_Part], in_flight: int) -> None:
        """Submit parts of batches, and wait until fewer than `in_flight` are on their way."""
        waiting = deque(parts)
        while True:
            try:
                while len(self._flying) >= max(1, in_flight):
                    self._land()
                if not waiting:
                    return
                self._start(waiting)
            except OutOfMemoryError as error:
                waiting.extendleft(reversed(self._shrink(error)))

    def _start(self, waiting: deque[_Part]) -> None:
        part = waiting.popleft()
        if self._most is not None and len(part) > self._most:
            waiting.extendleft(reversed(part.cut(self._most)))
            return
        flight = _Flight(part)
        self._flying.append(flight)
        flight.submitted = self._backend.submit(part.frames)

    def _land(self) -> None:
        """Take the scores of the oldest part, which is then no longer in flight."""
        flight = self._flying[0]
        scores = self._backend.result(flight.submitted)
        self._flying.popleft()
        batch = flight.part.batch
        batch.scores.append(scores)
        if flight.part.stop == len(batch.frames):
            batch.take(joined_scores(batch.scores))

    def _shrink(self, error: OutOfMemoryError) -> list[_Part]:
        """Halve the size of batches from now on, and return what is to be submitted again."""
        name, lost = self._backend.name, [flight.part for flight in self._flying]
        self._flying.clear()
        largest = max(map(len, lost))
        if largest == 1:
            raise RunError(f"{name}: not even a single clip fits into its memory: {error}") from error
        self._most = largest // 2
        _log.warning(f"{name}: no memory for a batch of {largest}, goes on with {self._most}: {error}")
        return lost


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
        """Begin to score a (N, T, size, size, 3) uint8 batch, which must not be changed until `result`."""
        return self._pool.submit(self._backend.infer, frames)

    def result(self, batch: Future[Scores]) -> Scores:
        """Wait for the scores; errors are those of the backend's `infer`."""
        return batch.result()


@contextmanager
def calling_in_parallel(backends: Sequence[Backend]) -> Iterator[list[Any]]:
    """Yield the backends, those that take parallel calls in `ParallelCalls`; they share one pool of threads.

    At the end, calls that have not begun are cancelled and running ones waited for. The backends stay open.
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
