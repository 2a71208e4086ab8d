"""The ONNX files of a bundle: one graph of the checkpoint, and what becomes of it in each precision."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tsm_export.half import FP16_TOLERANCE, to_half
from tsm_export.moved_channels import separate_moved_channels
from tsm_export.onnx_export import (
    HALF_WEIGHTS_TOLERANCE,
    PARITY_BATCH_SIZES,
    PARITY_TOLERANCE,
    compare,
    export_fp32,
    halve_weights,
)
from tsm_export.request import ExportRequest
from tsm_runtime.bundle import ModelFile, sha256
from tsm_train.checkpoint import Checkpoint

__all__ = ["OnnxFiles", "onnx_files"]

OnnxFiles = dict[str, tuple[bytes, ModelFile]]
"""Bytes and manifest entry of each ONNX file, by its name in the bundle."""

_NOISE_SEED = 0


def onnx_files(checkpoint: Checkpoint, request: ExportRequest) -> OnnxFiles:
    """Return the ONNX files of a request, each compared with the checkpoint in PyTorch.

    Raises:
        CheckError: a graph does not say what the checkpoint says.
        UsageError: the checkpoint's weights do not fit its configuration.
    """
    plain = export_fp32(checkpoint)
    noise = noise_clips(checkpoint)
    files: OnnxFiles = {}
    fp32, tolerance = separate_moved_channels(plain), PARITY_TOLERANCE
    if request.half_weights:
        fp32, tolerance = halve_weights(fp32), HALF_WEIGHTS_TOLERANCE
    parity = compare(checkpoint, fp32, noise, tolerance=tolerance)
    files["model.fp32.onnx"] = fp32, ModelFile(sha256=sha256(fp32), precision="fp32", parity=parity)
    if "fp16" in request.engines:
        half = to_half(plain)
        parity = compare(checkpoint, half, noise, tolerance=FP16_TOLERANCE)
        files["model.fp16.onnx"] = half, ModelFile(sha256=sha256(half), precision="fp16", parity=parity)
    return files


def noise_clips(checkpoint: Checkpoint) -> npt.NDArray[np.uint8]:
    """Seeded clips that are no two alike and not flat: noise over a random plain colour per frame."""
    clip = checkpoint.config.clip
    rng = np.random.default_rng(_NOISE_SEED)
    shape = (sum(PARITY_BATCH_SIZES), clip.num_frames, clip.size, clip.size, 3)
    plain = rng.integers(0, 192, (*shape[:2], 1, 1, 3))
    return (plain + rng.integers(0, 64, shape)).astype(np.uint8)
