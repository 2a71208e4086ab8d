"""A backend that spreads batches over several: the same model on each of several GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import Backend, Device, Scores
from tsm_runtime.clips.pool import FramePool
from tsm_runtime.errors import TsmError


@dataclass(eq=False, slots=True)
class _Submitted:
    number: int
    """Of the backend that scores it."""
    batch: Any


class SpreadBackend:
    """Gives each batch to the backend that takes most batches more before one is waited for.

    Args:
        backends: at least one; closed with this one.
    """

    device: Device = "gpu"

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = list(backends)
        self._in_flight: list[list[_Submitted]] = [[] for _ in self._backends]
        self.name = " and ".join(backend.name for backend in self._backends)
        self.in_flight = sum(backend.in_flight for backend in self._backends)
        self.best_batch = min(backend.best_batch for backend in self._backends)
        self.frame_pool = FramePool()  # page-locked memory of one GPU is none of another's

    def submit(self, frames: npt.NDArray[np.uint8]) -> _Submitted:
        """Begin to score a batch, see `Backend.submit`.

        Raises:
            OutOfMemoryError, RunError: of that backend; batches in flight on all of them are lost.
        """
        number = self._least_busy()
        with self._losing_all(number):
            submitted = _Submitted(number, self._backends[number].submit(frames))
        self._in_flight[number].append(submitted)
        return submitted

    def result(self, batch: _Submitted) -> Scores:
        """Wait for the scores of a submitted batch.

        Raises:
            OutOfMemoryError, RunError: as `submit`.
        """
        with self._losing_all(batch.number):
            scores = self._backends[batch.number].result(batch.batch)
        if batch in self._in_flight[batch.number]:
            self._in_flight[batch.number].remove(batch)
        return scores

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Submit a batch and wait for its scores."""
        return self.result(self.submit(frames))

    def close(self) -> None:
        """Close all backends, also where one cannot be closed."""
        with ExitStack() as held:
            for backend in self._backends:
                held.callback(backend.close)

    def _least_busy(self) -> int:
        """Return the number of the backend that takes most batches more."""
        room = [
            backend.in_flight - len(batches)
            for backend, batches in zip(self._backends, self._in_flight, strict=True)
        ]
        return room.index(max(room))

    @contextmanager
    def _losing_all(self, number: int) -> Iterator[None]:
        """Let the other backends come to rest where one fails, which has lost its own batches."""
        try:
            yield
        except TsmError:
            for other, batches in enumerate(self._in_flight):
                for batch in batches if other != number else ():
                    with suppress(TsmError):  # the first error is reported
                        self._backends[other].result(batch.batch)
                batches.clear()
            raise
