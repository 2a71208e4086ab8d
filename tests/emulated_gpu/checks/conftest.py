"""The emulated driver in a test's process; no test may leave a violation behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from emulated import Emulated


@pytest.fixture(scope="session")
def session_emulated() -> Emulated:
    return Emulated()


@pytest.fixture(autouse=True)
def emulated(session_emulated: Emulated) -> Iterator[Emulated]:
    session_emulated.new_violations()
    yield session_emulated
    assert session_emulated.new_violations() == []
