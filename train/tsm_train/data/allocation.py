"""Dividing captures so that each part has its share of every scene and of every class's seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tsm_runtime.wording import counted

_LOSS = 10.0
"""Cost of a class that occurs in one part only, so that training on the other parts never sees it. More than
all that evenness of one trait can gain."""

_MOST_PASSES = 50

Matrix = npt.NDArray[np.float64]


def allocate(
    captures: Mapping[str, Mapping[str, float]],
    shares: Sequence[float],
    *,
    seed: int,
    may_own: Sequence[int] = (),
) -> list[list[str]]:
    """Divide captures into parts.

    The parts get their numbers of captures by their shares (the largest remainders up), filled at random.
    Then each capture in turn changes place with the one of another part with which that helps most, as long
    as it makes the parts more even. Cost: the sum over parts and traits of (what the part has of the trait -
    what it has of the captures)^2. (A descent instead of the iterative stratification of Sechidis et al.,
    2011, which, where a scene occurs in one capture only, gives all of these to the largest part.)

    Args:
        captures: weight of each trait by capture: a scene is 1, a class its seconds.
        shares: of the parts, adding up to 1; a part with a share gets at least one capture.
        seed: of the first filling and of the order of looking.
        may_own: parts that may have all of a trait.

    Returns:
        Names of the captures of each part, in the order of `captures`.

    Raises:
        ValueError: there are fewer captures than parts with a share.
    """
    names = list(captures)
    sizes = _sizes(len(names), shares)
    rng = np.random.default_rng(seed)
    parts = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    weights = _weights(list(captures.values()))
    _descend(parts, weights, np.array(shares), frozenset(may_own), rng)
    return [[names[i] for i in np.flatnonzero(parts == part)] for part in range(len(sizes))]


def _sizes(number: int, shares: Sequence[float]) -> list[int]:
    """Numbers of captures by share.

    >>> _sizes(12, [0.8, 0.2])
    [10, 2]
    """
    least = [1 if share > 0 else 0 for share in shares]
    if number < sum(least):
        raise ValueError(f"{counted(number, 'capture')} cannot be divided into {sum(least)} parts")
    exact = [share * number for share in shares]
    sizes = [max(int(value), low) for value, low in zip(exact, least, strict=True)]
    while sum(sizes) < number:
        sizes[max(range(len(sizes)), key=lambda i: exact[i] - sizes[i])] += 1
    while sum(sizes) > number:
        sizes[
            max((i for i in range(len(sizes)) if sizes[i] > least[i]), key=lambda i: sizes[i] - exact[i])
        ] -= 1
    return sizes


def _weights(traits: Sequence[Mapping[str, float]]) -> Matrix:
    """(captures, traits) of shares: each column adds up to 1."""
    columns = {name: i for i, name in enumerate(sorted({name for each in traits for name in each}))}
    weights = np.zeros((len(traits), len(columns)))
    for row, each in enumerate(traits):
        for name, value in each.items():
            weights[row, columns[name]] = value
    totals = weights.sum(axis=0)
    return np.asarray(weights[:, totals > 0] / totals[totals > 0])


def _descend(
    parts: npt.NDArray[np.int64],
    weights: Matrix,
    shares: Matrix,
    owners: frozenset[int],
    rng: np.random.Generator,
) -> None:
    """Exchange captures in place until no exchange lowers the cost."""
    has = np.stack([weights[parts == part].sum(axis=0) for part in range(len(shares))])
    for _ in range(_MOST_PASSES):
        moved = False
        for i in rng.permutation(len(parts)):
            here = parts[i]
            gains = np.full(len(parts), -np.inf)
            for there in range(len(shares)):
                others = np.flatnonzero(parts == there)
                if there == here or not len(others):
                    continue
                change = weights[others] - weights[i]
                before = _cost(has[here], shares[here], here in owners) + _cost(
                    has[there], shares[there], there in owners
                )
                after = _cost(has[here] + change, shares[here], here in owners) + _cost(
                    has[there] - change, shares[there], there in owners
                )
                gains[others] = before - after
            best = int(np.argmax(gains))
            if gains[best] > 1e-9:
                change = weights[best] - weights[i]
                has[here] += change
                has[parts[best]] -= change
                parts[i], parts[best] = parts[best], here
                moved = True
        if not moved:
            return


def _cost(has: Matrix, share: float, may_own: bool) -> Matrix:
    """Cost of a part, or of each of several: (..., traits) -> (...)."""
    uneven = ((has - share) ** 2).sum(axis=-1)
    if may_own:
        return np.asarray(uneven)
    return np.asarray(uneven + _LOSS * (has > 1 - 1e-9).sum(axis=-1))
