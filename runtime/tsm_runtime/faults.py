"""Reading on after a fault in a user's file, so that one look tells all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tsm_runtime.errors import UsageError

__all__ = ["Faults", "noting"]

Faults = list[str] | None
"""Collects the messages of faulty entries, which are left out; None: the first one is raised."""


@contextmanager
def noting(faults: Faults) -> Iterator[None]:
    """Note a UsageError of the block, which ends there; without a list it passes.

    >>> faults = []
    >>> with noting(faults):
    ...     raise UsageError("line 2: empty label")
    >>> faults
    ['line 2: empty label']
    """
    try:
        yield
    except UsageError as error:
        if faults is None:
            raise
        faults.append(str(error))
