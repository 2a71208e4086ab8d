"""Configurations that ship with the package: the paper's trained rows, and small ones for a CPU."""

from __future__ import annotations

import difflib
from pathlib import Path

from tsm_runtime.errors import UsageError

_FOLDER = Path(__file__).parent / "configs"


def config_path(config: str, data: Path | None) -> Path:
    """Return the file of that path, else the shipped one of that name.

    Args:
        config: what the user gave.
        data: folder where relative paths of the file are to start.

    Raises:
        UsageError: there is neither, or a shipped one lacks `data`.
    """
    path = Path(config)
    if path.suffix == ".toml" or path.exists():
        return path
    shipped = preset_path(config)
    if data is None:
        raise UsageError(f"{config}: a shipped configuration needs --data, the folder of the data set")
    return shipped


def preset_names() -> tuple[str, ...]:
    """Return the names, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def preset_path(name: str) -> Path:
    """Return the file of a shipped configuration.

    Raises:
        UsageError: there is none of that name; the message names the nearest.
    """
    if name in preset_names():
        return _FOLDER / f"{name}.toml"
    near = difflib.get_close_matches(name, preset_names(), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"{name}: no such file, and no shipped configuration; {hint}tsm-train --list shows them")


def preset_summary(name: str) -> str:
    """Return what a configuration's first line says."""
    return preset_path(name).read_text(encoding="utf-8").splitlines()[0].removeprefix("#").strip()
