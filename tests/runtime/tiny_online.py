"""A real bundle whose online model looks at brightness: this frame's, and what it kept of the one before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from fakes import ACTION_CENTRES, SCENE_CENTRES, SHARPNESS
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tiny_bundle import NUM_FRAMES, SIZE, tiny_model, write_tiny_bundle

from tsm_runtime.bundle.manifest import sha256

ECHO = 0.25
"""A frame's feature is (1 - ECHO) * its brightness + ECHO * the brightness of the frame before."""


def expected_scores(
    clips: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Action and scene scores of clips (N, any number of frames, size, size, 3), by numpy in float64."""
    brightness = clips.mean(axis=(2, 3, 4), dtype=np.float64) / 255
    before = np.pad(brightness[:, :-1], ((0, 0), (1, 0)))
    mean = ((1 - ECHO) * brightness + ECHO * before).mean(axis=1)
    return _softmax(mean, ACTION_CENTRES), _softmax(mean, SCENE_CENTRES)


def _softmax(mean: npt.NDArray[np.float64], centres: tuple[float, ...]) -> npt.NDArray[np.float64]:
    weights = np.exp(-SHARPNESS * (mean[:, None] - np.array(centres)) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def tiny_online_model(*, sigmoid: bool = False) -> ModelProto:
    """frame, feature_sum (N, 1), count (N, 1), state_0 (N, 1, 1, 1) -> scores and the next states.

    `sigmoid`: each action on its own, as `tiny_bundle.tiny_model`.
    """
    constants = {
        "white": np.float32(255),
        "one": np.float32(1),
        "echo": np.float32(ECHO),
        "rest": np.float32(1 - ECHO),
        "flat": np.array([0, 1]),
        "sharpness": np.float32(-SHARPNESS),
    }
    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["level"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Div", ["level", "white"], ["next_state_0"]),
        helper.make_node("Mul", ["next_state_0", "rest"], ["present"]),
        helper.make_node("Mul", ["state_0", "echo"], ["past"]),
        helper.make_node("Add", ["present", "past"], ["sum"]),
        helper.make_node("Reshape", ["sum", "flat"], ["feature"]),
        helper.make_node("Add", ["feature_sum", "feature"], ["next_feature_sum"]),
        helper.make_node("Add", ["count", "one"], ["next_count"]),
        helper.make_node("Div", ["next_feature_sum", "next_count"], ["mean"]),
    ]
    for head, centres in (("action", ACTION_CENTRES), ("scene", SCENE_CENTRES)):
        constants[f"{head}_centres"] = np.array([centres], np.float32)
        nodes += [
            helper.make_node("Sub", ["mean", f"{head}_centres"], [f"{head}_distance"]),
            helper.make_node("Mul", [f"{head}_distance", f"{head}_distance"], [f"{head}_square"]),
            helper.make_node("Mul", [f"{head}_square", "sharpness"], [f"{head}_logits"]),
            helper.make_node("Sigmoid", [f"{head}_logits"], [f"{head}_scores"])
            if sigmoid and head == "action"
            else helper.make_node("Softmax", [f"{head}_logits"], [f"{head}_scores"], axis=1),
        ]
    constants["flat"] = np.array([-1, 1])
    states = {"feature_sum": [1], "count": [1], "state_0": [1, 1, 1]}
    scores = {"action_scores": [len(ACTION_CENTRES)], "scene_scores": [len(SCENE_CENTRES)]}
    outputs = scores | {f"next_{name}": shape for name, shape in states.items()}
    graph = helper.make_graph(
        nodes,
        "brightness_online",
        [
            helper.make_tensor_value_info("frame", TensorProto.UINT8, ["N", SIZE, SIZE, 3]),
            *(helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", *s]) for n, s in states.items()),
        ],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", *s]) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_online_bundle(folder: Path, model: ModelProto | None = None, **changes: object) -> Path:
    """Write a bundle with the tiny clip model and an online model, which do not say the same."""
    clips, online = tiny_model().SerializeToString(), (model or tiny_online_model()).SerializeToString()
    files = {
        "model.fp32.onnx": {"sha256": sha256(clips), "precision": "fp32"},
        "model.online.onnx": {"sha256": sha256(online), "precision": "fp32", "kind": "online"},
    }
    manifest = {"files": files, "format_version": 2, "shift_direction": "past", **changes}
    write_tiny_bundle(folder, **manifest)  # type: ignore[arg-type]
    (folder / "model.online.onnx").write_bytes(online)
    return folder


__all__ = ["ECHO", "NUM_FRAMES", "SIZE", "expected_scores", "tiny_online_model", "write_online_bundle"]
