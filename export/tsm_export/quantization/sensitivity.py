"""Choice of the blocks that stay in fp32: as few as possible, by their measured gain."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Block = TypeVar("Block", bound=Hashable)


@dataclass(frozen=True, slots=True)
class LeftOut(Generic[Block]):
    """Blocks that stay in fp32, the most sensitive first, and the error that is left."""

    blocks: tuple[Block, ...]
    error: float


def leave_out(
    blocks: Sequence[Block],
    error: Callable[[frozenset[Block]], float],
    max_error: float,
    *,
    trial_error: Callable[[frozenset[Block]], float] | None = None,
) -> LeftOut[Block]:
    """Leave blocks out of the quantisation, one by one, until the error is small enough.

    First each block is left out alone, which ranks them. Then they are left out in this order, best first;
    one that does not lower the error of those before it goes back in. At most half of the blocks are left
    out: with more there is little left to gain by INT8.

    Args:
        blocks: of the network, in any order.
        error: of the network when these blocks are left out.
        max_error: what is small enough.
        trial_error: a cheaper `error`, for the ranking.

    Returns:
        No blocks where the error is small enough without any.
    """
    kept: tuple[Block, ...] = ()
    least = error(frozenset())
    if least <= max_error:
        return LeftOut(kept, least)
    measure = trial_error or error
    alone = {block: measure(frozenset({block})) for block in blocks}
    for block in sorted(blocks, key=lambda block: alone[block]):
        if least <= max_error or len(kept) >= len(blocks) // 2:
            break
        found = error(frozenset({*kept, block}))
        if found < least:
            kept, least = (*kept, block), found
    return LeftOut(kept, least)
