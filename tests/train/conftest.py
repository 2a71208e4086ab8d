"""Fixtures of the tests of training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

WriteRun = Callable[..., Path]

_RUN = """
name = "{name}"
[data]
annotations = "{data}/ground_truth.json"
videos = "{data}/videos"
cache = "{cache}"
[model]
backbone = "mobilenet_v2"
width_mult = 0.25
[clip]
size = 32
[train]
epochs = {epochs}
batch_size = 8
learning_rate = 0.01
"""


@pytest.fixture(scope="session")
def write_run() -> WriteRun:
    """Writes the configuration of a small run on drawn data, and returns its file, whose stem is its name."""

    def write(path: Path, data: Path, *, epochs: int = 1, cache: Path | None = None) -> Path:
        path.write_text(_RUN.format(name=path.stem, data=data, epochs=epochs, cache=cache or data / "cache"))
        return path

    return write
