"""A temporal head for a bundle whose checkpoint is not at hand: trained on the features of its ONNX model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from tsm_export.accuracy import OnnxBackend
from tsm_export.graphs.frame_outputs import add_frame_outputs
from tsm_export.head_files import head_files, with_head
from tsm_export.request import ExportRequest
from tsm_runtime.bundle.bundle import CLIP_MODEL, Bundle
from tsm_runtime.bundle.manifest import FORMAT_VERSION, MANIFEST, Manifest, encode_manifest, sha256
from tsm_runtime.files import whole_folder
from tsm_train.config import Config
from tsm_train.data.video import TrainingVideo
from tsm_train.head.checkpoint import HeadCheckpoint
from tsm_train.head.train import train_head
from tsm_train.samples.clips import Labels


def plain_backbone(bundle: Bundle) -> tuple[bytes, str]:
    """Return the clip model with its outputs per frame, and the identity of the weights in it.

    The identity is the SHA-256 of all stored tensors, so that it is the same with and without these outputs.
    """
    data = bundle.model_bytes(CLIP_MODEL)
    model = onnx.load_from_string(data)
    stored = sorted((t.name, numpy_helper.to_array(t).tobytes()) for t in model.graph.initializer)
    own = [name.encode() + values for name, values in stored if not name.startswith("frame_outputs.")]
    has_them = any(output.name == "features" for output in model.graph.output)
    return data if has_them else add_frame_outputs(data), sha256(b"".join(own))


def action_layer(model: bytes) -> nn.Linear:
    """Return the linear action head of a clip model."""
    graph = onnx.load_from_string(model).graph
    stored = {t.name.removesuffix(".half"): numpy_helper.to_array(t) for t in graph.initializer}
    values = (stored[f"model.action_head.{name}"].astype(np.float32) for name in ("weight", "bias"))
    weight, bias = map(torch.from_numpy, values)
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def train_on_bundle(
    bundle: Bundle,
    config: Config,
    training: Sequence[TrainingVideo],
    validation: Sequence[TrainingVideo],
    *,
    show_progress: bool = True,
) -> HeadCheckpoint:
    """Train a head by the `[head]` section of a configuration on the features of a bundle's clip model."""
    model, identity = plain_backbone(bundle)
    labels = Labels(bundle.manifest.action_labels, bundle.manifest.scene_labels)
    return train_head(
        config,
        labels,
        training,
        validation,
        OnnxBackend(model),
        action_layer(model),
        identity,
        show_progress=show_progress,
    )


def write_with_head(bundle: Bundle, head: HeadCheckpoint, folder: Path, request: ExportRequest) -> Manifest:
    """Write a bundle with the clip model and the head, and nothing else of the old bundle."""
    model, _ = plain_backbone(bundle)
    entry = msgspec.structs.replace(bundle.manifest.files[CLIP_MODEL], sha256=sha256(model))
    parts = head_files(head, request, entry.sha256)
    manifest = msgspec.structs.replace(
        bundle.manifest,
        format_version=FORMAT_VERSION,
        feature_dim=head.feature_dim,
        files={CLIP_MODEL: entry, **{name: file for name, (_, file) in parts.files.items()}},
    )
    manifest = with_head(manifest, parts)
    with whole_folder(folder, marker=MANIFEST) as new:
        (new / CLIP_MODEL).write_bytes(model)
        for name, (data, _) in parts.files.items():
            (new / name).write_bytes(data)
        (new / MANIFEST).write_bytes(encode_manifest(manifest))
    return manifest
