"""TensorRT and TensorRT for RTX: imported when asked for, and refused with the command that helps."""

from __future__ import annotations

import importlib
import re
import warnings
from typing import Any, Literal

from tsm_runtime.errors import BackendError

__all__ = ["MINIMUM_VERSION", "Library", "import_library"]

Library = Literal["tensorrt", "tensorrt_rtx"]

MINIMUM_VERSION: dict[Library, tuple[int, int]] = {"tensorrt": (10, 12), "tensorrt_rtx": (1, 0)}
"""Strong typing covers every layer since TensorRT 10.12; TensorRT for RTX has it since its first version."""

_INSTALL: dict[Library, str] = {
    "tensorrt": "pip install 'tsm-tal[tensorrt]'",
    "tensorrt_rtx": "pip install tensorrt-rtx-cu13",
}


def import_library(name: Library) -> Any:
    """Return the Python module of a library, whose names are the same in both as far as they are used here.

    Raises:
        BackendError: it is not installed, its shared libraries do not load, or it is too old.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the bindings warn about their own plug-in classes
            module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise BackendError(
            f"{name} is not installed (no module named {error.name!r}): {_INSTALL[name]}"
        ) from error
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BackendError(
            f"{name} is installed but does not load ({reason}); install it anew: {_INSTALL[name]}"
        ) from error
    _require_version(name, str(module.__version__))
    return module


def _require_version(name: Library, found: str) -> None:
    least = MINIMUM_VERSION[name]
    numbers = tuple(int(number) for number in re.findall(r"\d+", found)[:2])
    if numbers < least:
        needed = ".".join(map(str, least))
        raise BackendError(
            f"{name} {found} is too old: {needed} or newer is needed;"
            f" {_INSTALL[name].replace('install', 'install --upgrade', 1)}"
        )
