"""A checkpoint's network as one ONNX file, and its comparison with PyTorch."""

from __future__ import annotations

import copy
import logging
import math
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxscript  # noqa: F401 - torch's exporter needs it: missed here, not in the middle of an export
import torch
from torch import nn

from tsm_export.graphs.frame_outputs import FEATURES, FRAME_SCORES
from tsm_export.graphs.parity import (
    Outputs,
    Signature,
    name_outputs,
    parity_batches,
    report_parity,
    require_signature,
)
from tsm_export.graphs.session import open_session
from tsm_export.request import DEFAULT_OPSET
from tsm_runtime.bundle.reports import ParityReport
from tsm_runtime.errors import CheckError, UsageError
from tsm_runtime.verification.tolerances import TOLERANCES
from tsm_train.model.tsm import Probabilities
from tsm_train.training.checkpoint import Checkpoint

PARITY_TOLERANCE = TOLERANCES["fp32"].max_abs_error
"""Largest difference of an fp32 probability."""

HALF_WEIGHTS_TOLERANCE = 2e-2
"""The same where weights were rounded to half precision (eleven bits each) and computed with in fp32."""

_SMALLEST_HALVED = 1024
"""Elements below which a tensor keeps full precision: biases, scales and the normalisation."""
_LARGEST_HALF = float(np.finfo(np.float16).max)
_MAX_BATCH = 4096
_OUTPUTS = ("action_scores", "scene_scores")


def export_fp32(checkpoint: Checkpoint, *, opset: int = DEFAULT_OPSET) -> bytes:
    """Return the ONNX file of a checkpoint: `frames` uint8 (N, T, size, size, 3) to probabilities, N dynamic.

    Raises:
        UsageError: the checkpoint's weights do not fit its configuration, or PyTorch cannot write that opset.
    """
    model = Probabilities(checkpoint.model(), sigmoid=checkpoint.labels.head == "sigmoid").eval()
    example = torch.zeros((2, *checkpoint.config.clip_spec.clip_shape), dtype=torch.uint8)
    outputs = list(score_outputs(checkpoint))
    return export_graph(model, (example,), ["frames"], outputs, (free_axis("batch"),), opset=opset)


def free_axis(name: str) -> dict[int, Any]:
    """Return the dynamic shape of a tensor whose first size, here called `name`, is free."""
    return {0: torch.export.Dim(name, min=1, max=_MAX_BATCH)}


def export_graph(
    module: nn.Module,
    arguments: tuple[torch.Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic_shapes: Any,
    *,
    opset: int = DEFAULT_OPSET,
) -> bytes:
    """Return the checked ONNX file of a module in evaluation mode.

    Args:
        module: its forward takes tensors and returns a tuple of them.
        arguments: examples; a size of 1 or 0 would be taken for fixed.
        inputs: names, in order.
        outputs: names, in order.
        dynamic_shapes: see `torch.onnx.export`.
        opset: version of ONNX's operators.

    Raises:
        UsageError: PyTorch cannot write that opset.
    """
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        path = Path(scratch) / "model.onnx"
        torch.onnx.export(
            _with_plain_clips(module),
            arguments,
            path,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=dynamic_shapes,
            opset_version=opset,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
        return _cleaned(path.read_bytes(), opset)


class _Clip6(nn.Module):
    """ReLU6 as one `clamp`, which the exporter need not take apart: an export takes a quarter less time."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.clamp(0.0, 6.0)


def _with_plain_clips(module: nn.Module) -> nn.Module:
    """Return a copy of a module in which every ReLU6 is a `_Clip6`; the graph has the same nodes."""
    module = copy.deepcopy(module)
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(parent, name, _Clip6())
    return module


def _cleaned(data: bytes, opset: int) -> bytes:
    """Check the graph and remove stack traces and module names."""
    model = onnx.load_from_string(data)
    written = {entry.domain: entry.version for entry in model.opset_import}.get("")
    if written != opset:  # the exporter goes on with its own when it cannot convert
        raise UsageError(
            f"--opset {opset}: PyTorch {torch.__version__} wrote opset {written}; leave --opset out"
        )
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    del model.metadata_props[:]
    del graph.metadata_props[:]
    _read_pictures_once(graph)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _read_pictures_once(graph: onnx.GraphProto) -> None:
    """Make all readers of uint8 pictures, or of their shape, read the cast, as TensorRT requires."""
    casts = [node for node in graph.node if node.op_type == "Cast" and node.input[0] == graph.input[0].name]
    if len(casts) != 1:
        return
    cast = onnx.NodeProto()
    cast.CopyFrom(casts[0])
    graph.node.remove(casts[0])
    graph.node.insert(0, cast)
    for node in list(graph.node)[1:]:
        node.input[:] = [cast.output[0] if name == cast.input[0] else name for name in node.input]


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
    frame_outputs: bool = False,
) -> ParityReport:
    """Compare an ONNX file on onnxruntime with the checkpoint in PyTorch.

    Args:
        checkpoint: the truth.
        onnx_bytes: the file.
        frames: (N, T, size, size, 3) uint8, N at least the sum of the compared batch sizes.
        tolerance: largest allowed difference of a probability; of features, relative to the largest one.
        frame_outputs: the file also gives the outputs of `add_frame_outputs`.

    Raises:
        CheckError: a name or shape differs, a value is not finite, or a probability differs by more than the
            tolerance.
    """
    model = Probabilities(checkpoint.model(), sigmoid=checkpoint.labels.head == "sigmoid").eval()
    dim = model.model.feature_dim if frame_outputs else 0
    session, outputs = open_session(onnx_bytes), score_outputs(checkpoint, dim)
    clip = checkpoint.config.clip_spec
    frames_shape = list(clip.clip_shape)
    require_signature(session, {"frames": ("tensor(uint8)", frames_shape), **outputs})
    pairs = []
    for batch in parity_batches(frames):
        with torch.inference_mode():
            expected = _expected(model, torch.from_numpy(batch), frame_outputs=frame_outputs)
        got = session.run(list(outputs), {"frames": batch})
        pairs.append((name_outputs(outputs, expected), name_outputs(outputs, got)))
    # A clip averages the rounding errors of T frames; one frame has sqrt(T) times as much.
    factors = dict.fromkeys((FRAME_SCORES, FEATURES), math.sqrt(clip.num_frames))
    return report_parity(_relative_features(pairs), tolerance=tolerance, factors=factors)


def _expected(model: Probabilities, frames: torch.Tensor, *, frame_outputs: bool) -> tuple[torch.Tensor, ...]:
    """Return the outputs of the network for clips, in the order of `score_outputs`."""
    features = model.model.frame_features(frames)
    scores = model.scores(*model.model.classify(features.mean(1)))
    if not frame_outputs:
        return scores
    logits = model.model.action_head(features).float()
    return (*scores, logits.sigmoid() if model.sigmoid else logits.softmax(2), features)


def _relative_features(pairs: Sequence[tuple[Outputs, Outputs]]) -> list[tuple[Outputs, Outputs]]:
    """Divide features by the largest expected one, so that one tolerance suits them and probabilities.

    Outputs per frame (N, T, C) become rows (N * T, C).
    """

    def rows(outputs: Outputs, scale: float) -> Outputs:
        scaled = {name: v / scale if name == FEATURES else v for name, v in outputs.items()}
        return {name: v.reshape(-1, v.shape[-1]) for name, v in scaled.items()}

    def scale(expected: Outputs) -> float:
        return float(np.abs(expected[FEATURES]).max()) or 1.0 if FEATURES in expected else 1.0

    return [(rows(want, scale(want)), rows(got, scale(want))) for want, got in pairs]


def score_outputs(checkpoint: Checkpoint, feature_dim: int = 0) -> Signature:
    """Return the signature of the scores that a checkpoint's graphs give.

    Args:
        checkpoint: what was exported.
        feature_dim: D of graphs that also give outputs per frame; 0: they do not.
    """
    sizes = (len(checkpoint.labels.actions), len(checkpoint.labels.scenes))
    scores = {name: ("tensor(float)", [size]) for name, size in zip(_OUTPUTS, sizes, strict=True) if size}
    if not feature_dim:
        return scores
    widths = {FRAME_SCORES: sizes[0], FEATURES: feature_dim}
    num_frames = checkpoint.config.clip.num_frames
    return {**scores, **{name: ("tensor(float)", [num_frames, width]) for name, width in widths.items()}}
