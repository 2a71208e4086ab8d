"""A real bundle of a few hundred bytes: the model computes what `fakes.BrightnessBackend` does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import numpy as np
import onnx
from fakes import ACTION_CENTRES, ACTIONS, SCENE_CENTRES, SCENES, SHARPNESS
from onnx import TensorProto, helper, numpy_helper

from tsm_runtime.audio.spec import SoundSpec

NUM_FRAMES, SIZE = 4, 32


def tiny_model(
    *, sigmoid: bool = False, clip_shape: tuple[int, ...] = (NUM_FRAMES, SIZE, SIZE, 3)
) -> onnx.ModelProto:
    """frames (N, 4, 32, 32, 3) uint8 -> action_scores (N, 3), scene_scores (N, 2).

    `sigmoid`: each action on its own, sigmoid(-SHARPNESS * (mean brightness - its centre)^2).
    """
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2, 3, 4], keepdims=0),
        helper.make_node("Div", ["mean", "white"], ["brightness"]),
        helper.make_node("Unsqueeze", ["brightness", "last"], ["column"]),
    ]
    constants = {"white": np.float32(255), "last": np.array([1]), "sharpness": np.float32(-SHARPNESS)}
    for head, centres in (("action", ACTION_CENTRES), ("scene", SCENE_CENTRES)):
        constants[f"{head}_centres"] = np.array([centres], np.float32)
        nodes += [
            helper.make_node("Sub", ["column", f"{head}_centres"], [f"{head}_distance"]),
            helper.make_node("Mul", [f"{head}_distance", f"{head}_distance"], [f"{head}_square"]),
            helper.make_node("Mul", [f"{head}_square", "sharpness"], [f"{head}_logits"]),
            helper.make_node("Sigmoid", [f"{head}_logits"], [f"{head}_scores"])
            if sigmoid and head == "action"
            else helper.make_node("Softmax", [f"{head}_logits"], [f"{head}_scores"], axis=1),
        ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", *clip_shape])],
        [
            helper.make_tensor_value_info("action_scores", TensorProto.FLOAT, ["N", len(ACTIONS)]),
            helper.make_tensor_value_info("scene_scores", TensorProto.FLOAT, ["N", len(SCENES)]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def with_constants(**values: object) -> onnx.ModelProto:
    """The tiny model with other values of constants: white, sharpness, action_centres, scene_centres."""
    model = tiny_model()
    for tensor in model.graph.initializer:
        if tensor.name in values:
            value = np.asarray(values[tensor.name], np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return model


def softer_model() -> onnx.ModelProto:
    """The tiny model with less certain scores, and another centre of the first action."""
    centres = np.array([ACTION_CENTRES], np.float32) + np.float32([[0.2, 0.0, 0.0]])
    return with_constants(sharpness=-9, action_centres=centres)


def tiny_manifest(model: bytes) -> dict[str, object]:
    digest = hashlib.sha256(model).hexdigest()
    return {
        "format_version": 1,
        "action_labels": list(ACTIONS),
        "scene_labels": list(SCENES),
        "interval_seconds": 0.5,
        "num_frames": NUM_FRAMES,
        "size": SIZE,
        "backbone": "brightness",
        "files": {"model.fp32.onnx": {"sha256": digest, "precision": "fp32"}},
    }


def write_tiny_bundle(folder: Path, model: onnx.ModelProto | None = None, **changes: object) -> Path:
    """Write the bundle; `model` and manifest keys may be replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    data = (model or tiny_model()).SerializeToString()
    (folder / "model.fp32.onnx").write_bytes(data)
    (folder / "manifest.json").write_text(json.dumps({**tiny_manifest(data), **changes}))
    return folder


def write_tiny_sound_bundle(folder: Path) -> Path:
    """Write a bundle that takes sound alone, and scores it by its mean level."""
    spec = SoundSpec(window_seconds=0.6)
    model = tiny_model(clip_shape=(NUM_FRAMES, *spec.picture_shape))
    return write_tiny_bundle(
        folder, model, format_version=7, size=0, sound_input=msgspec.to_builtins(spec), backbone="audio"
    )


def write_without_head(source: Path, folder: Path) -> Path:
    """Write a bundle as it is but for its temporal head."""
    folder.mkdir(parents=True)
    manifest = json.loads((source / "manifest.json").read_text())
    for key in ("temporal_head", "decoding"):
        manifest.pop(key, None)
    manifest["files"] = {name: f for name, f in manifest["files"].items() if f.get("kind") != "head"}
    for name in manifest["files"]:
        (folder / name).write_bytes((source / name).read_bytes())
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
