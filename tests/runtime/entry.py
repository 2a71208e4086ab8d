"""A command's entry point, run in the test's own process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Outcome]

PEAK_KILOBYTES = "next(int(line.split()[1]) for line in open('/proc/self/status') if 'VmHWM' in line)"
"""Expression for a process of its own; ru_maxrss would start at the memory of the process that began it."""


def command(
    name: str,
    main: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> Command:
    """Return a function that runs `main` with its arguments; a traceback is a failure."""

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = (text.decode(errors="surrogateescape") for text in capfdbinary.readouterr())
        assert "Traceback" not in err
        return Outcome(int(left.value.code or 0), out, err)

    return call


def run_main(
    name: str,
    main: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *arguments: object,
) -> Outcome:
    """Run `main` once, in a test that captures what Python writes; a traceback is a failure."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main()
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    return Outcome(int(left.value.code or 0), shown.out, shown.err)
