"""From an untrimmed video to labelled segments: the lean runtime (numpy and av, no torch)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsm_runtime.api import load, run, stream

__all__ = ["__version__", "load", "run", "stream"]

from tsm_runtime._version import __version__


def __getattr__(name: str) -> Any:
    """Import the library on first use: commands that only print their help do not need it."""
    if name in ("load", "run", "stream"):
        from tsm_runtime import api as library

        return getattr(library, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Name what `__getattr__` imports, so that completion finds it."""
    return sorted({*globals(), *__all__})
