"""Fixtures of the runtime's tests."""

from __future__ import annotations

import pytest
from entry import Command, command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    """`tsm-run` in this process."""
    from tsm_runtime.commands.run import main

    return command("tsm-run", main, monkeypatch, capfdbinary)
