"""A session over a file of a bundle that takes features: the sound branch, or the joint model of views."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import one_line
from tsm_runtime.backends.onnxruntime import open_session
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.errors import BundleError, RunError
from tsm_runtime.wording import counted

Floats = npt.NDArray[np.float32]

Call = Callable[[Mapping[str, Floats]], dict[str, Floats]]
"""Inputs by name to outputs by name."""

Shapes = Mapping[str, Sequence[int | str]]
"""Shapes of inputs and outputs by name; axes without a fixed size have a name."""


def open_call(bundle: Bundle, name: str) -> tuple[Call, Shapes]:
    """Open a file of a bundle on onnxruntime's CPU provider, on one thread: it gains from no second one.

    Raises:
        BackendError: onnxruntime is not installed.
        BundleError: the file is missing, altered, or not loadable.
    """
    session: Any = open_session(bundle, name, num_threads=1)
    names = [node.name for node in session.get_outputs()]

    def call(inputs: Mapping[str, Floats]) -> dict[str, Floats]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return call, {node.name: node.shape for node in (*session.get_inputs(), *session.get_outputs())}


def check_sizes(
    shapes: Shapes, expected: Mapping[str, list[int]], what: str, *, from_axis: int = 1, hint: str = ""
) -> None:
    """Check the sizes of inputs and outputs.

    Args:
        shapes: of the file.
        expected: sizes by name, from an axis on.
        what: the file, for the message.
        from_axis: number of leading axes that are free.
        hint: end of the message.

    Raises:
        BundleError: they differ.
    """
    got = {name: list(shape[from_axis:]) for name, shape in shapes.items()}
    if got != expected:
        raise BundleError(f"{what} does not fit the manifest: expected sizes {expected}, got {got}{hint}")


def run_call(call: Call, inputs: Mapping[str, Floats], what: str, num: int, unit: str) -> dict[str, Floats]:
    """Return the outputs for some inputs.

    Args:
        call: of `open_call`.
        inputs: by name.
        what: the model, for the message.
        num: how many are scored.
        unit: what is scored.

    Raises:
        RunError: the library failed.
    """
    try:
        return call(inputs)
    except Exception as error:  # onnxruntime's exceptions share no base class below Exception
        raise RunError(f"{what}: failed on {counted(num, unit)}: {one_line(error)}") from error
