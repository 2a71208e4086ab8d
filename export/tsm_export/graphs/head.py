"""A temporal head as an ONNX file, and its comparison with PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from tsm_export.graphs.from_checkpoint import export_graph
from tsm_export.graphs.parity import Outputs, Signature, name_outputs, require_signature
from tsm_export.graphs.session import open_session
from tsm_export.request import DEFAULT_OPSET
from tsm_runtime.bundle.reports import ParityReport
from tsm_runtime.errors import CheckError
from tsm_train.head.checkpoint import HeadCheckpoint
from tsm_train.head.network import HeadGroup, HeadProbabilities

HEAD_OUTPUTS = ("frame_scores", "actionness", "distances")

_EXAMPLE = (2, 24)
_PARITY_LENGTHS = (17, 200)
_MAX_LENGTH = 1 << 20
_DISTANCE_SCALE_SECONDS = 8.0
"""Distances are compared as shares of that."""
_SEED = 0


def export_head(checkpoint: HeadCheckpoint, *, opset: int = DEFAULT_OPSET) -> bytes:
    """Return `head.fp32.onnx` of a bundle.

    Input: `features` float32 (N, L, D), L frames of one piece of a video. Outputs: `frame_scores` (N, L, A),
    `actionness` (N, L) and `distances` (N, L, 2) in seconds. N and L are free.
    """
    module = HeadProbabilities(checkpoint.model(), sigmoid=checkpoint.labels.head == "sigmoid").eval()
    axes = {
        0: torch.export.Dim("batch", min=1, max=4096),
        1: torch.export.Dim("frames", min=1, max=_MAX_LENGTH),
    }
    example = torch.zeros((*_EXAMPLE, checkpoint.feature_dim))
    return export_graph(module, (example,), ["features"], list(HEAD_OUTPUTS), (axes,), opset=opset)


def halve_head(data: bytes) -> bytes:
    """Return a head whose convolutions and layers compute in half precision.

    Normalisation of the features, the backbone's linear layer and everything after the last layers stay
    float32, inputs and outputs included.

    Raises:
        CheckError: a weight is too large for half precision.
    """
    model = onnx.load_from_string(data)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        is_layer = node.op_type in ("Conv", "Gemm", "MatMul")
        if is_layer and not any("frame_head" in name for name in node.input):
            nodes += _in_half(node, weights)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in weights.values() if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _in_half(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> list[onnx.NodeProto]:
    """Return casts around a node whose weights are stored in half precision."""
    before: list[onnx.NodeProto] = []
    for place, name in enumerate(node.input):
        half = f"{name}.half"
        if name in weights:
            weights.setdefault(half, _halved(weights[name], half))
        else:
            half = f"{node.output[0]}.{place}.half"
            before.append(helper.make_node("Cast", [name], [half], to=TensorProto.FLOAT16))
        node.input[place] = half
    output = node.output[0]
    node.output[0] = f"{output}.half"
    return [*before, node, helper.make_node("Cast", [node.output[0]], [output], to=TensorProto.FLOAT)]


def _halved(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    if values.size and np.abs(values).max() > np.finfo(np.float16).max:
        raise CheckError(f"{tensor.name}: holds a weight beyond half precision; export the head in fp32")
    return numpy_helper.from_array(values.astype(np.float16), name)


def compare_head(checkpoint: HeadCheckpoint, data: bytes, *, tolerance: float) -> ParityReport:
    """Compare a head's ONNX file on onnxruntime with its checkpoint in PyTorch, on random features.

    Distances are compared as shares of 8 s.

    Raises:
        CheckError: a name or shape differs, a value is not finite, or one differs by more than the tolerance.
    """
    session, num_actions = open_session(data), len(checkpoint.labels.actions)
    kind = "tensor(float)"
    expected: Signature = {
        "features": (kind, ["frames", checkpoint.feature_dim]),
        "frame_scores": (kind, ["frames", num_actions]),
        "actionness": (kind, ["frames"]),
        "distances": (kind, ["frames", 2]),
    }
    require_signature(session, expected)
    model = HeadProbabilities(checkpoint.model(), sigmoid=checkpoint.labels.head == "sigmoid").eval()
    errors: dict[str, float] = {}
    same: list[npt.NDArray[np.bool_]] = []
    for length in _PARITY_LENGTHS:
        features = _random_features(checkpoint, length)
        with torch.inference_mode():
            want = _scaled(name_outputs(HEAD_OUTPUTS, model(torch.from_numpy(features))))
        got = _scaled(name_outputs(HEAD_OUTPUTS, session.run(list(HEAD_OUTPUTS), {"features": features})))
        for name in HEAD_OUTPUTS:
            errors[name] = max(errors.get(name, 0.0), _error(name, want[name], got[name], tolerance))
        same.append(want["frame_scores"].argmax(2) == got["frame_scores"].argmax(2))
    agreement = {"frame_scores": float(np.concatenate(same, axis=1).mean())}
    return ParityReport(
        batch_sizes=_PARITY_LENGTHS, max_abs_error=errors, tolerance=tolerance, top1_agreement=agreement
    )


def _random_features(checkpoint: HeadCheckpoint, length: int) -> npt.NDArray[np.float32]:
    """Return features (2, L, D) that are spread as the training's."""
    rng = np.random.default_rng((_SEED, length))
    model = checkpoint.model()
    head = model.first if isinstance(model, HeadGroup) else model
    noise = rng.normal(size=(2, length, checkpoint.feature_dim))
    return np.asarray(noise * head.std.numpy() + head.mean.numpy(), np.float32)


def _scaled(outputs: Outputs) -> dict[str, Any]:
    return {name: v / _DISTANCE_SCALE_SECONDS if name == "distances" else v for name, v in outputs.items()}


def _error(name: str, want: npt.NDArray[np.float32], got: npt.NDArray[np.float32], tolerance: float) -> float:
    if want.shape != got.shape or not np.isfinite(got).all():
        raise CheckError(f"{name}: expected finite values of shape {want.shape}, got {got.shape}")
    error = float(np.abs(want - got).max())
    if error > tolerance:
        raise CheckError(
            f"{name}: the exported head differs from PyTorch by {error:.2e}, allowed is {tolerance:g}"
        )
    return error
