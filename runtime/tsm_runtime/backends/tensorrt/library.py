"""Import of TensorRT and TensorRT for RTX on demand; errors name the command that installs them."""

from __future__ import annotations

import functools
import importlib
import re
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from tsm_runtime.errors import BackendError

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
            f"{name} is installed but does not load ({reason}); install it again: {_INSTALL[name]}"
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


_NUM_KEPT = 4
"""Errors of one message: the first ones name the cause, further ones repeat it on higher levels."""


_LONGEST = 400


_ENGINE_LAYERS = "Layers:\n"
"""How the builder's description of the engine that it made begins, at its lowest severity."""


@dataclass
class Heard:
    """Messages of one library during one `listening` block.

    Args:
        library: its name and version.
        errors: the last ones, the newest last.
        engine_layers: the builder's description of the layers of the engine it made.
    """

    library: str
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=_NUM_KEPT))
    engine_layers: str = ""

    def add(self, severity: str, message: str) -> None:
        """Keep a message for later use."""
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self.errors.append(message)
        elif message.startswith(_ENGINE_LAYERS):
            self.engine_layers = message

    def error(self, what: str, words: str = "") -> BackendError:
        """Return the error to raise: the library, what it did not do, and the reason in its own words.

        Args:
            what: as in "builds no plan".
            words: the reason; default: the last errors.
        """
        reason = _line(words or "; ".join(self.errors)) or "it gives no reason"
        return BackendError(f"{self.library} {what}: {reason}")


@contextmanager
def listening(trt: Any) -> Iterator[Heard]:
    """Collect the messages of a library while the block runs."""
    heard = Heard(f"{trt.__name__} {trt.__version__}")
    listeners = library_logger(trt).listeners
    listeners.append(heard)
    try:
        yield heard
    finally:
        listeners.remove(heard)


@functools.cache
def library_logger(trt: Any) -> Any:
    """Return the one logger of a library's module.

    One per process: the library takes the first that it is given for all that follows, and says so with a
    warning wherever another one is handed over.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.listeners: list[Heard] = []

        def log(self, severity: Any, msg: str) -> None:
            # An exception must not leave a callback: it would end the process in the midst of C++.
            for heard in tuple(self.listeners):
                heard.add(severity.name, msg)

    return Logger()


def parser_words(parser: Any) -> str:
    """Return the errors of an OnnxParser or OnnxParserRefitter, each with its node."""
    errors = [parser.get_error(i) for i in range(min(parser.num_errors, _NUM_KEPT))]
    return "; ".join(f"{_node(error)}{error.desc()}" for error in errors)


def _node(error: Any) -> str:
    where = " ".join(part for part in (error.node_operator(), error.node_name()) if part)
    return f"{where}: " if where else ""


def _line(text: str) -> str:
    """Return text as one line, shortened, without positions in the library's source.

    >>> _line("must have one output. In validate at /_src/optimizer/api/network.cpp:38)")
    'must have one output.)'
    """
    flat = re.sub(r" In \w+ at /\S+:\d+", "", " ".join(text.split()))
    return flat if len(flat) <= _LONGEST else f"{flat[:_LONGEST]} ..."
