"""Arrival times of packets of a live source, including those buffered while it was opened."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_Packet = TypeVar("_Packet")

_AT_ONCE_SECONDS = 0.002
"""Maximum seconds of waiting for a packet that was already buffered."""

_MOST_WAITING = 256


def spread_arrivals(
    packets: Iterable[_Packet], begun: float, now: Callable[[], float] = time.monotonic
) -> Iterator[tuple[_Packet, float]]:
    """Yield packets with their arrival times in seconds, not decreasing.

    FFmpeg reads ahead to detect the streams of a source, so the first packets arrive together; their times
    are spread evenly over the time of opening.

    Args:
        packets: packets of an open source.
        begun: time by `now` at which opening began.
        now: the clock.
    """
    opened = last = now()
    waiting: list[_Packet] | None = []
    for packet in packets:
        arrived = now()
        if waiting is not None and arrived - last < _AT_ONCE_SECONDS and len(waiting) < _MOST_WAITING:
            waiting.append(packet)
            last = now()
            continue
        yield from _spread(waiting or [], begun, opened)
        waiting = None
        yield packet, arrived
    yield from _spread(waiting or [], begun, opened)


def _spread(packets: list[_Packet], begun: float, opened: float) -> Iterator[tuple[_Packet, float]]:
    step = (opened - begun) / max(1, len(packets))
    for number, packet in enumerate(packets, start=1):
        yield packet, begun + number * step
