"""Run folders and bundles of the networks that other benchmarks time, from one trained run.

The run's own backbone keeps its trained weights. The others have random weights whose batch statistics were
taken from real frames: their speed is that of trained ones (without statistics, activations shrink to
denormal numbers, which slow PyTorch and onnxruntime unevenly), their scores mean nothing. All are for --size
pixels. A bundle holds fp32 and INT8; of random weights every layer is quantised, as those of a trained
network may be.

    python benchmarks/networks.py runs/ut-shift-s0 networks
    python benchmarks/baseline_torch.py networks/resnet50/best.safetensors networks/resnet50/bundle VIDEO
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path

import msgspec
import numpy.typing as npt
import torch
from torch import nn

from tsm_export.export import export_bundle
from tsm_export.footage import calibration_videos
from tsm_export.graphs.from_checkpoint import export_fp32
from tsm_export.quantization.calibration import calibration_clips
from tsm_export.quantization.quantize import MAX_NOISE, calibrate, quantize
from tsm_export.request import ExportRequest
from tsm_runtime.bundle.manifest import MANIFEST, ModelFile, encode_manifest, sha256
from tsm_train.training.checkpoint import Checkpoint, build_model, load_checkpoint, save_checkpoint

BACKBONES = ("efficientnet_lite0", "mobilenet_v2", "resnet50")


def main() -> None:
    """Write a folder for each backbone."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a trained run")
    parser.add_argument("output", type=Path)
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--clips", type=int, default=40, help="for INT8")
    options = parser.parse_args()
    trained = load_checkpoint(options.run / "best.safetensors")
    clips = frames_of(resized(trained, trained.config.model.backbone, options.size), options.clips)
    for name in options.backbones:
        folder = options.output / name
        folder.mkdir(parents=True, exist_ok=True)
        write_network(
            folder, timed_network(trained, name, options.size, clips), clips, noise_limit(trained, name)
        )
        print(folder, flush=True)


def timed_network(trained: Checkpoint, backbone: str, size: int, clips: npt.NDArray) -> Checkpoint:
    """Return the trained network, or another one with the statistics of the clips, for pictures of a size."""
    checkpoint = resized(trained, backbone, size)
    if backbone == trained.config.model.backbone:
        return checkpoint
    return dataclasses.replace(checkpoint, weights=calibrated_weights(checkpoint, clips[:4]))


def noise_limit(trained: Checkpoint, backbone: str) -> float:
    """Return the noise beyond which layers stay in fp32: that of random weights says nothing."""
    return MAX_NOISE if backbone == trained.config.model.backbone else math.inf


def frames_of(checkpoint: Checkpoint, number: int) -> npt.NDArray:
    """Return clips (number, T, size, size, 3) of the training videos."""
    return calibration_clips(
        calibration_videos(checkpoint.config.data), checkpoint.config.clip_spec, number=number
    )


def write_network(folder: Path, checkpoint: Checkpoint, clips: npt.NDArray, max_noise: float) -> None:
    """Write best.safetensors and bundle/ with model.fp32.onnx and model.int8.onnx."""
    save_checkpoint(folder / "best.safetensors", checkpoint)
    bundle = folder / "bundle"
    manifest = export_bundle(
        folder / "best.safetensors", bundle, ExportRequest(precisions=("fp32",), targets=("onnx",))
    ).manifest
    data = quantize(calibrate(export_fp32(checkpoint), clips), target="cpu", max_noise=max_noise).data
    (bundle / "model.int8.onnx").write_bytes(data)
    files = {**manifest.files, "model.int8.onnx": ModelFile(sha256=sha256(data), precision="int8")}
    (bundle / MANIFEST).write_bytes(encode_manifest(msgspec.structs.replace(manifest, files=files)))


def resized(trained: Checkpoint, backbone: str, size: int) -> Checkpoint:
    """Return the checkpoint with another picture size and backbone, whose weights are then random."""
    config = msgspec.structs.replace(
        trained.config,
        model=msgspec.structs.replace(trained.config.model, backbone=backbone, pretrained=""),
        clip=msgspec.structs.replace(trained.config.clip, size=size),
    )
    same = backbone == trained.config.model.backbone
    torch.manual_seed(0)
    weights = trained.weights if same else build_model(config, trained.labels).state_dict()
    return dataclasses.replace(trained, config=config, weights=weights)


def calibrated_weights(checkpoint: Checkpoint, clips: npt.NDArray) -> dict[str, torch.Tensor]:
    """Return random weights whose batch statistics are those of real clips."""
    model = checkpoint.model()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all calls
            module.reset_running_stats()
    model.train()
    with torch.no_grad():
        for clip in clips:
            model(torch.from_numpy(clip[None]))
    return model.state_dict()


if __name__ == "__main__":
    main()
