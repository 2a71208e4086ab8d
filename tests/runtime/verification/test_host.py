"""How a machine is described."""

from __future__ import annotations

import os
import platform

import numpy as np
import pytest

from tsm_runtime import __version__
from tsm_runtime.backends.cuda.gpu import Gpu
from tsm_runtime.errors import BackendError
from tsm_runtime.verification import host as machine
from tsm_runtime.verification.host import describe_machine, hardware_of


def no_gpu() -> Gpu:
    raise BackendError("no GPU")


def test_hardware_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "find_gpu", no_gpu)
    alone = describe_machine()
    assert hardware_of(alone).endswith(f", {os.cpu_count()} cores")
    versions = alone.removeprefix(hardware_of(alone)).split(", ")
    assert f"Python {platform.python_version()}" in versions
    assert {f"tsm-tal {__version__}", f"numpy {np.__version__}"} <= set(versions)
    monkeypatch.setattr(machine, "find_gpu", lambda: Gpu(name="GPU X", compute_capability="9.0"))
    assert hardware_of(describe_machine()) == f"{hardware_of(alone)}, GPU X"


def test_an_update_does_not_make_it_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    before = describe_machine()
    monkeypatch.setattr(machine, "__version__", "99.0")
    after = describe_machine()
    assert after != before
    assert hardware_of(after) == hardware_of(before) != ""
