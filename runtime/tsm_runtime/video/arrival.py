"""When packets of a live source arrived, also those that waited while the source was opened."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_Packet = TypeVar("_Packet")

_AT_ONCE_SECONDS = 0.002
"""A packet that takes less to come was there already."""

_MOST_WAITING = 256


def spread_arrivals(
    packets: Iterable[_Packet], begun: float, now: Callable[[], float] = time.monotonic
) -> Iterator[tuple[_Packet, float]]:
    """Yield packets with the second at which they arrived, not decreasing.

    FFmpeg reads ahead to find out what a source holds, so the first packets come at once; they are spread
    evenly over the time that opening took.

    Args:
        packets: of an open source.
        begun: when opening it began, by `now`.
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
