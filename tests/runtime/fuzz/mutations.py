"""Damaged inputs from valid ones, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

_MARKS = (
    b"\x00",
    b"\xff",
    b"-1",
    b"9" * 400,
    b"nan",
    b"1e999",
    b'"',
    b"{",
    b"[",
    b"<",
    b"]]>",
    b"\n",
    b",",
    b"\xed\xa0\x80",
)


def mutations(data: bytes, seed: int, number: int) -> Iterator[bytes]:
    """Yield so many mutations of some bytes: flips, cuts, repeats, swaps, and values at the edge of types."""
    rng = random.Random(seed)
    for _ in range(number):
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 5, 20))):
            if changed:
                rng.choice(_STEPS)(changed, rng)
        yield bytes(changed)


def _flip(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _edge(data: bytearray, rng: random.Random) -> None:
    """Write a number at the edge of an integer type, as sizes and counts in headers are."""
    place = rng.randrange(len(data))
    width = rng.choice((1, 2, 4, 8))
    value = rng.choice((0, 1, 2 ** (8 * width - 1) - 1, 2 ** (8 * width - 1), 2 ** (8 * width) - 1))
    data[place : place + width] = value.to_bytes(width, rng.choice(("big", "little")))


def _cut(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.choice((1, 4, 100, 10**6))]


def _repeat(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    data[start:start] = data[start : start + rng.choice((1, 8, 200))]


def _mark(data: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(data))
    data[place : place + rng.randrange(3)] = rng.choice(_MARKS)


_STEPS = (_flip, _flip, _edge, _edge, _cut, _repeat, _mark)
