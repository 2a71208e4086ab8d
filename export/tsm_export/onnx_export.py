"""A checkpoint's network as one ONNX file, and its comparison with PyTorch."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import onnxscript  # noqa: F401 - torch's exporter needs it: missed here, not in the middle of an export
import torch

from tsm_runtime.bundle import ParityReport
from tsm_runtime.errors import CheckError
from tsm_train.checkpoint import Checkpoint
from tsm_train.model import Probabilities

__all__ = [
    "HALF_WEIGHTS_TOLERANCE",
    "PARITY_BATCH_SIZES",
    "PARITY_TOLERANCE",
    "compare",
    "export_fp32",
    "halve_weights",
]

PARITY_BATCH_SIZES = (2, 3)
"""Two sizes, neither 1: a graph specialised to the example's batch passes one of them only."""

PARITY_TOLERANCE = 1e-4
"""Largest difference of an fp32 probability: the two engines sum in another order, about 1e-6 each layer."""

HALF_WEIGHTS_TOLERANCE = 2e-2
"""The same where weights were rounded to half precision (eleven bits each) and computed with in fp32."""

_OPSET = 20
_SMALLEST_HALVED = 1024
"""Elements below which a tensor keeps full precision: biases, scales and the normalisation."""
_LARGEST_HALF = float(np.finfo(np.float16).max)
_MAX_BATCH = 4096
_OUTPUTS = ("action_scores", "scene_scores")


def export_fp32(checkpoint: Checkpoint) -> bytes:
    """Return the ONNX file of a checkpoint: `frames` uint8 (N, T, size, size, 3) to probabilities, N dynamic.

    Raises:
        UsageError: the checkpoint's weights do not fit its configuration.
    """
    model = Probabilities(checkpoint.model()).eval()
    clip = checkpoint.config.clip
    example = torch.zeros((2, clip.num_frames, clip.size, clip.size, 3), dtype=torch.uint8)
    outputs = _OUTPUTS[: 2 if checkpoint.labels.scenes else 1]
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        path = Path(scratch) / "model.onnx"
        torch.onnx.export(
            model,
            (example,),
            path,
            input_names=["frames"],
            output_names=list(outputs),
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=_MAX_BATCH)},),
            opset_version=_OPSET,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
        return _cleaned(path.read_bytes())


def _cleaned(data: bytes) -> bytes:
    """Check the graph and take out what only the exporter's debugger reads (stack traces, module names)."""
    model = onnx.load_from_string(data)
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    del model.metadata_props[:]
    del graph.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def halve_weights(data: bytes) -> bytes:
    """Store the weights of an fp32 graph in half precision: half the file, the same arithmetic.

    Each large tensor is stored as float16 and cast to float32 where it enters the graph; engines fold the
    cast when they load the model.

    Raises:
        CheckError: a weight is too large for half precision.
    """
    model = onnx.load_from_string(data)
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _SMALLEST_HALVED:
            continue
        if np.abs(values).max() > _LARGEST_HALF:
            raise CheckError(f"{tensor.name}: holds a weight beyond half precision; export without it")
        name, stored = tensor.name, f"{tensor.name}.half"
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(
            onnx.helper.make_node("Cast", [stored], [name], f"{name}.cast", to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def compare(
    checkpoint: Checkpoint,
    onnx_bytes: bytes,
    frames: npt.NDArray[np.uint8],
    *,
    tolerance: float = PARITY_TOLERANCE,
) -> ParityReport:
    """Compare an ONNX file on onnxruntime with the checkpoint in PyTorch.

    Args:
        checkpoint: the truth.
        onnx_bytes: the file.
        frames: (N, T, size, size, 3) uint8, N at least the sum of the compared batch sizes.
        tolerance: largest allowed difference of a probability.

    Raises:
        CheckError: a name or shape differs, a value is not finite, or a probability differs by more than the
            tolerance.
    """
    session: Any = ort.InferenceSession(  # type: ignore[attr-defined]
        onnx_bytes, providers=["CPUExecutionProvider"]
    )
    _require_signature(session, checkpoint)
    model = Probabilities(checkpoint.model()).eval()
    names = [output.name for output in session.get_outputs()]
    errors = dict.fromkeys(names, 0.0)
    agreements: dict[str, list[npt.NDArray[np.bool_]]] = {name: [] for name in names}
    for batch in _batches(frames, PARITY_BATCH_SIZES):
        with torch.inference_mode():
            expected = [output.numpy() for output in model(torch.from_numpy(batch))]
        got = [np.asarray(value) for value in session.run(names, {"frames": batch})]
        for name, want, value in zip(names, expected, got, strict=True):
            errors[name] = max(errors[name], _max_error(name, want, value))
            agreements[name].append(want.argmax(1) == value.argmax(1))
    report = ParityReport(
        batch_sizes=PARITY_BATCH_SIZES,
        max_abs_error=errors,
        tolerance=tolerance,
        top1_agreement={name: float(np.concatenate(same).mean()) for name, same in agreements.items()},
    )
    _require_parity(report)
    return report


def _require_signature(session: Any, checkpoint: Checkpoint) -> None:
    clip, labels = checkpoint.config.clip, checkpoint.labels
    sizes = dict(zip(_OUTPUTS, (len(labels.actions), len(labels.scenes)), strict=True))
    expected = {"frames": ("tensor(uint8)", True, [clip.num_frames, clip.size, clip.size, 3])}
    expected |= {name: ("tensor(float)", True, [size]) for name, size in sizes.items() if size}
    got = {
        value.name: (value.type, isinstance(value.shape[0], str), value.shape[1:])
        for value in (*session.get_inputs(), *session.get_outputs())
    }
    if got != expected:
        raise CheckError(
            "the exported graph has other inputs or outputs than its checkpoint; name, type, dynamic batch"
            f" and shape: expected {expected}, got {got}; nothing was written"
        )


def _batches(frames: npt.NDArray[np.uint8], sizes: Sequence[int]) -> list[npt.NDArray[np.uint8]]:
    if len(frames) < sum(sizes):
        raise ValueError(f"expected at least {sum(sizes)} clips, got {len(frames)}")
    ends = np.cumsum(sizes)
    return [frames[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _max_error(name: str, expected: npt.NDArray[np.float32], got: npt.NDArray[np.float32]) -> float:
    if expected.shape != got.shape:
        raise CheckError(f"{name}: PyTorch gives shape {expected.shape}, the exported graph {got.shape}")
    if not np.isfinite(got).all():
        raise CheckError(f"{name}: the exported graph gives values that are not finite; nothing was written")
    return float(np.abs(expected - got).max())


def _require_parity(report: ParityReport) -> None:
    for name, error in report.max_abs_error.items():
        if error > report.tolerance:
            raise CheckError(
                f"{name}: the exported graph differs from PyTorch by {error:.2e}, allowed is"
                f" {report.tolerance:g}; nothing was written"
            )
