"""Writes train/tsm_train/model/demo.safetensors: the demo model as a checkpoint.

The bundle's convolutions hold their batch norms. Training needs the norms back: each gets the mean m and
variance v of its convolution's output y on drawn frames, weight sqrt(v + eps) and bias b + m, so that in
evaluation it adds b to y as the folded convolution does, and in training it normalises as any other.
Run after `make demo-model`:

    python benchmarks/make_demo_weights.py
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import av
import msgspec
import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_train.config import load_config
from tsm_train.model.pretrained import DEMO_FILE
from tsm_train.model.tsm import TSM
from tsm_train.samples.clips import Labels
from tsm_train.sections.data import DataConfig
from tsm_train.synthetic.dataset import draw_dataset
from tsm_train.training.checkpoint import Checkpoint, build_model, save_checkpoint

CONFIG = Path(__file__).parent / "configs" / "drawn.toml"
_NORMS = {"conv_stem": "bn1", "conv_head": "bn2"}
_SEPARABLE = {"conv_dw": "bn1", "conv_pw": "bn2"}
_INVERTED = {"conv_pw": "bn1", "conv_dw": "bn2", "conv_pwl": "bn3"}


def main() -> None:
    """Write the weights and print how far the rebuilt network is from the bundle's."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    bundle = load_bundle(demo_folder() / "bundle")
    manifest = bundle.manifest
    data = DataConfig(annotations="ground_truth.json", videos="videos")
    config = msgspec.structs.replace(load_config(CONFIG), data=data)
    labels = Labels(tuple(manifest.action_labels), tuple(manifest.scene_labels))
    network = build_model(config, labels).eval()
    with torch.inference_mode():
        frames = _frames(manifest.num_frames, manifest.size)
        _fill(network, _tensors(bundle.path / "model.fp32.onnx"))
        before = network.frame_features(frames)
        _give_statistics(network, frames)
        after = network.frame_features(frames)
    weights = {name: _stored(value) for name, value in network.state_dict().items()}
    save_checkpoint(DEMO_FILE, Checkpoint(config=config, labels=labels, epoch=6, metrics={}, weights=weights))
    report = {
        "file": DEMO_FILE.name,
        "megabytes": round(DEMO_FILE.stat().st_size / 1e6, 2),
        "clips": len(frames),
        "largest_feature": float(before.abs().max()),
        "largest_difference": float((before - after).abs().max()),
    }
    print(json.dumps(report))


def _tensors(path: Path) -> dict[str, Tensor]:
    """Weights and biases of the graph, by the names of a checkpoint; batch norms are folded in."""
    graph = onnx.load(path).graph
    arrays = {entry.name.removesuffix(".half"): numpy_helper.to_array(entry) for entry in graph.initializer}
    return {
        name.removeprefix("model.").replace("weight_bias", "bias"): torch.tensor(np.float32(array))
        for name, array in arrays.items()
        if name.startswith("model.") and array.ndim
    }


def _norm_of(network: TSM, convolution: str) -> nn.BatchNorm2d:
    """The batch norm that follows a convolution of efficientnet_lite0."""
    block, _, name = convolution.rpartition(".")
    parent = network.backbone.get_submodule(block)
    inside = _INVERTED if hasattr(parent, "conv_pwl") else _SEPARABLE
    norm = parent.get_submodule((inside if block else _NORMS)[name])
    assert isinstance(norm, nn.BatchNorm2d)
    return norm


def _fill(network: TSM, tensors: dict[str, Tensor]) -> None:
    """Load heads and folded convolutions; the batch norms only add the biases."""
    state = network.state_dict()
    for key in (key for key in tensors if key in state):
        state[key].copy_(tensors[key])
    for key in (key for key, value in tensors.items() if value.ndim == 4 and key.startswith("backbone.")):
        convolution = key.removesuffix(".weight")
        norm = _norm_of(network, convolution.removeprefix("backbone."))
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
        norm.weight.fill_(1)
        norm.bias.copy_(tensors[f"{convolution}.bias"])


def _give_statistics(network: TSM, frames: Tensor) -> None:
    """Give each batch norm the statistics of its input; the network's outputs stay."""
    norms = [module for module in network.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    inputs: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def note(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        inputs[norm] = (given[0].mean((0, 2, 3)), given[0].var((0, 2, 3)))

    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    network.frame_features(frames)
    for hook in hooks:
        hook.remove()
    for norm in norms:
        mean, variance = inputs[norm]
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.add_(mean)


def _frames(num_frames: int, size: int) -> Tensor:
    """(N, T, size, size, 3) uint8 of the demo video and six drawn videos."""
    with tempfile.TemporaryDirectory() as folder:
        drawing = {"seed": 91, "training": 6, "validation": 0, "seconds": 12.0, "processes": 1}
        draw_dataset(Path(folder), width=144, height=144, **drawing)
        videos = [demo_folder() / "video.mp4", *sorted((Path(folder) / "videos").iterdir())]
        clips = [clip for video in videos for clip in _clips(video, num_frames, size)]
    return torch.from_numpy(np.stack(clips))


def _clips(video: Path, num_frames: int, size: int) -> list[np.ndarray]:
    with av.open(str(video)) as container:
        pictures = [
            frame.to_ndarray(format="rgb24", width=size, height=size, interpolation="BILINEAR")
            for number, frame in enumerate(container.decode(video=0))
            if number % 3 == 0
        ]
    last = len(pictures) - num_frames + 1
    return [np.stack(pictures[start : start + num_frames]) for start in range(0, last, 2 * num_frames)]


def _stored(value: Tensor) -> Tensor:
    """Convolutions in half precision, which is what the bundle holds of most; the norms as they are."""
    return value.half() if value.ndim == 4 else value


if __name__ == "__main__":
    main()
