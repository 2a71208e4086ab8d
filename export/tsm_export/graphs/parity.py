"""Parity of an exported graph with PyTorch: its signature, and the largest difference of its scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tsm_runtime.bundle.reports import ParityReport
from tsm_runtime.errors import CheckError

PARITY_BATCH_SIZES = (2, 3)
"""Two sizes, neither 1: a graph specialised to the example's batch passes one of them only."""

Outputs = Mapping[str, npt.NDArray[np.float32]]
"""Scores of a batch by the output's name."""

Signature = Mapping[str, tuple[str, Sequence[int | str]]]
"""Per input or output its type, as onnxruntime names it, and its shape without the free first axis."""


def require_signature(session: Any, expected: Signature) -> None:
    """Check the names, types and shapes of inputs and outputs.

    Raises:
        CheckError: one differs from the expected one, or a first axis is not free.
    """
    wanted = {name: (kind, True, list(shape)) for name, (kind, shape) in expected.items()}
    got = {
        value.name: (value.type, isinstance(value.shape[0], str), value.shape[1:])
        for value in (*session.get_inputs(), *session.get_outputs())
    }
    if got != wanted:
        raise CheckError(
            "the exported graph has other inputs or outputs than its checkpoint; name, type, dynamic batch"
            f" and shape: expected {wanted}, got {got}"
        )


def parity_batches(frames: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    """Cut clips (N, ...) into batches of `PARITY_BATCH_SIZES`.

    Raises:
        ValueError: there are too few clips.
    """
    if len(frames) < sum(PARITY_BATCH_SIZES):
        raise ValueError(f"expected at least {sum(PARITY_BATCH_SIZES)} clips, got {len(frames)}")
    ends = np.cumsum(PARITY_BATCH_SIZES)
    return [frames[end - size : end] for size, end in zip(PARITY_BATCH_SIZES, ends, strict=True)]


def name_outputs(names: Iterable[str], values: Iterable[npt.ArrayLike]) -> Outputs:
    """Return the values, arrays or tensors, by name."""
    return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}


def report_parity(
    pairs: Iterable[tuple[Outputs, Outputs]],
    *,
    tolerance: float,
    factors: Mapping[str, float] | None = None,
) -> ParityReport:
    """Compare the outputs of PyTorch and of an exported graph on the `parity_batches`.

    Args:
        pairs: for each batch, what is expected and what the graph gives.
        tolerance: largest allowed difference of a probability.
        factors: of the tolerance, by output; 1 where none is given.

    Raises:
        CheckError: a shape differs, a value is not finite, or a probability differs by more than the
            tolerance.
    """
    errors: dict[str, float] = {}
    agreements: dict[str, list[npt.NDArray[np.bool_]]] = {}
    for expected, got in pairs:
        for name, want in expected.items():
            errors[name] = max(errors.get(name, 0.0), _max_error(name, want, got[name]))
            agreements.setdefault(name, []).append(want.argmax(1) == got[name].argmax(1))
    report = ParityReport(
        batch_sizes=PARITY_BATCH_SIZES,
        max_abs_error=errors,
        tolerance=tolerance,
        top1_agreement={name: float(np.concatenate(same).mean()) for name, same in agreements.items()},
    )
    _require_parity(report, factors or {})
    return report


def _max_error(name: str, expected: npt.NDArray[np.float32], got: npt.NDArray[np.float32]) -> float:
    if expected.shape != got.shape:
        raise CheckError(f"{name}: PyTorch gives shape {expected.shape}, the exported graph {got.shape}")
    if not np.isfinite(got).all():
        raise CheckError(f"{name}: the exported graph gives values that are not finite")
    return float(np.abs(expected - got).max())


def _require_parity(report: ParityReport, factors: Mapping[str, float]) -> None:
    for name, error in report.max_abs_error.items():
        allowed = report.tolerance * factors.get(name, 1.0)
        if error > allowed:
            raise CheckError(
                f"{name}: the exported graph differs from PyTorch by {error:.2e}, allowed is {allowed:.2g}"
            )
