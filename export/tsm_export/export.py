"""Checkpoint to bundle: export, compare, describe, write whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from tsm_export.onnx_export import (
    HALF_WEIGHTS_TOLERANCE,
    PARITY_BATCH_SIZES,
    PARITY_TOLERANCE,
    compare,
    export_fp32,
    halve_weights,
)
from tsm_runtime import __version__
from tsm_runtime.bundle import FORMAT_VERSION, MANIFEST, Manifest, ModelFile, encode_manifest, sha256
from tsm_runtime.errors import UsageError
from tsm_runtime.files import whole_folder
from tsm_train.checkpoint import Checkpoint, load_checkpoint

__all__ = ["export_bundle", "newest_checkpoint"]

_NOISE_SEED = 0


def newest_checkpoint(runs: Path = Path("runs")) -> Path:
    """Return the newest `runs/*/best.safetensors`.

    Raises:
        UsageError: there is none.
    """
    found = sorted(runs.glob("*/best.safetensors"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UsageError(
            f"no checkpoint given and none in {runs}/*/best.safetensors; train one with tsm-train"
        )
    return found[-1]


def export_bundle(checkpoint_path: Path, bundle: Path, *, half_weights: bool = False) -> Manifest:
    """Write a bundle with `model.fp32.onnx`; an existing bundle is replaced once the new one is complete.

    Args:
        checkpoint_path: what to export.
        bundle: the folder to write.
        half_weights: store the weights in half precision; the arithmetic stays fp32.

    Raises:
        UsageError: no such checkpoint, or `bundle` is a folder that holds something else.
        CheckError: the exported graph does not say what the checkpoint says.
        RunError: the bundle cannot be written.
    """
    checkpoint = load_checkpoint(checkpoint_path)
    with whole_folder(bundle, marker=MANIFEST) as folder:
        model = export_fp32(checkpoint)
        tolerance = PARITY_TOLERANCE
        if half_weights:
            model, tolerance = halve_weights(model), HALF_WEIGHTS_TOLERANCE
        parity = compare(checkpoint, model, _noise_clips(checkpoint), tolerance=tolerance)
        (folder / "model.fp32.onnx").write_bytes(model)
        files = {"model.fp32.onnx": ModelFile(sha256=sha256(model), precision="fp32", parity=parity)}
        manifest = _describe(checkpoint, checkpoint_path, files)
        (folder / MANIFEST).write_bytes(encode_manifest(manifest))
    return manifest


def _noise_clips(checkpoint: Checkpoint) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Seeded clips that are no two alike and not flat: noise over a random plain colour per frame."""
    clip = checkpoint.config.clip
    rng = np.random.default_rng(_NOISE_SEED)
    shape = (sum(PARITY_BATCH_SIZES), clip.num_frames, clip.size, clip.size, 3)
    plain = rng.integers(0, 192, (*shape[:2], 1, 1, 3))
    return (plain + rng.integers(0, 64, shape)).astype(np.uint8)


def _describe(checkpoint: Checkpoint, path: Path, files: dict[str, ModelFile]) -> Manifest:
    config = checkpoint.config
    return Manifest(
        format_version=FORMAT_VERSION,
        action_labels=checkpoint.labels.actions,
        scene_labels=checkpoint.labels.scenes,
        interval_seconds=config.clip.interval_seconds,
        num_frames=config.clip.num_frames,
        size=config.clip.size,
        backbone=config.model.backbone,
        shift=config.model.shift,
        files=files,
        built_with={
            "tsm-tal": __version__,
            "torch": str(torch.__version__),
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        checkpoint={
            "name": config.name,
            "epoch": checkpoint.epoch,
            "sha256": sha256(path.read_bytes()),
            **{f"validation_{name}": value for name, value in checkpoint.metrics.items()},
        },
    )
