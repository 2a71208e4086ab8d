"""What results are passed to, and the base of what writes something beside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

from tsm_runtime.results import Result


class Sink(ABC):
    """Receives results during the run; files are written completely or not at all."""

    @abstractmethod
    def add(self, result: Result) -> None:
        """Add the result of one video."""

    def fail(self, video_id: str, reason: str) -> None:  # noqa: B027
        """Record a video without a result, if the output can hold that."""

    def close(self) -> None:  # noqa: B027
        """Write buffered results."""


class SinkAround(Sink):
    """Passes results to another sink; what derives from it writes something beside.

    Args:
        sink: receives the results first.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def add(self, result: Result) -> None:
        """Pass the result on."""
        self._sink.add(result)

    def fail(self, video_id: str, reason: str) -> None:
        """Pass the failure on."""
        self._sink.fail(video_id, reason)

    def close(self) -> None:
        """Close the other sink."""
        self._sink.close()


def without_arrays(result: Result) -> Result:
    """Return a result without its arrays, which no file holds, to save memory."""
    members = tuple(member and without_arrays(member) for member in result.members)
    return replace(result, scores=None, frames=None, features=None, members=members)
