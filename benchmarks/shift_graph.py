"""Which way of writing the temporal shift makes the fastest graph.

Exports one network with each form of the shift, checks every form against PyTorch and for leaks between the
clips of a batch, counts layers after TensorRT's parser (TensorRT-RTX, which needs no GPU), and times them all
in turns in onnxruntime. Read `over_no_shift`: first quartile, median and third quartile over rounds of a
form's time over the time of the same network without any shift in that round. `--provider cuda` times the
half-precision graphs on a GPU.

    python benchmarks/shift_graph.py
    python benchmarks/shift_graph.py --provider cuda --backbones resnext101_64x4d --size 256 --batch 32
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from _common import in_turns, ratios, store
from _shift_forms import FORMS, split_pad
from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tsm_export.graphs.from_checkpoint import export_fp32
from tsm_export.graphs.half import to_half
from tsm_export.graphs.moved_channels import separate_moved_channels
from tsm_runtime.results import BACKGROUND
from tsm_train.config import Config
from tsm_train.model import shift as shift_module
from tsm_train.model.shift import ShiftedConv2d, temporal_shift
from tsm_train.model.tsm import TSM, Probabilities
from tsm_train.samples.clips import Labels
from tsm_train.sections.data import DataConfig
from tsm_train.sections.network import ClipConfig, ModelConfig
from tsm_train.training.checkpoint import Checkpoint, build_model

NO_SHIFT = "no shift"
TWO_CONVS = "two convs"
TIME_MAJOR = "time-major"
"""The form of `tsm_train.model.shift`."""
APART = "time-major, moved channels apart"
"""The same after `moved_channels.separate_moved_channels`, as `tsm-export` writes it for fp32."""
TOLERANCE = 1e-4
PROVIDERS: dict[str, list[Any]] = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": [("CUDAExecutionProvider", {"prefer_nhwc": "1"})],
}


def two_convs(conv: ShiftedConv2d, x: Tensor) -> Tensor:
    """Shift a quarter of the channels only, and let a convolution of their own add what they contribute."""
    t, f = conv.num_frames, x.shape[1] // conv.fold_div
    # The still channels' weights stay where they are, so that the convolution reads x as it lies in memory.
    still = conv.weight.clone()
    still[:, : 2 * f] = 0
    moved = split_pad(x[:, : 2 * f], t, f)
    return F.conv2d(x, still, conv.bias, conv.stride) + F.conv2d(
        moved, conv.weight[:, : 2 * f], stride=conv.stride
    )


def clip_by_clip_features(model: TSM, frames: Tensor) -> Tensor:
    """As `TSM.frame_features`, with all frames of a clip before those of the next."""
    _, t, height, width, _ = frames.shape
    pictures = frames.float().reshape(-1, height, width, 3)
    return model.picture_features(pictures).reshape(-1, t, model.feature_dim)


@contextmanager
def written_as(form: str) -> Iterator[None]:
    """Let the model compute its shift in a form."""
    kept = shift_module.temporal_shift, ShiftedConv2d.forward, TSM.frame_features
    try:
        if form == TWO_CONVS:
            ShiftedConv2d.forward = two_convs  # type: ignore[method-assign]
        if form in FORMS:
            shift_module.temporal_shift = lambda x, t, fold_div, _: FORMS[form](x, t, x.shape[1] // fold_div)
        if form in FORMS or form == TWO_CONVS:
            TSM.frame_features = clip_by_clip_features  # type: ignore[method-assign]
        yield
    finally:
        shift_module.temporal_shift, ShiftedConv2d.forward, TSM.frame_features = kept


def leaks(form: str) -> bool:
    """Whether an infinite clip makes its neighbours anything but finite."""
    clips = torch.rand(3, 4, 16, 2, 2)
    clips[1] = torch.inf
    if form in FORMS:
        shifted = FORMS[form](clips.reshape(-1, 16, 2, 2), 4, 2).reshape(clips.shape)
    else:
        rows = clips.transpose(0, 1)
        shifted = temporal_shift(rows.reshape(-1, 16, 2, 2), 4).reshape(rows.shape).transpose(0, 1)
    return not bool(shifted[[0, 2]].isfinite().all())


def checkpoint(backbone: str, size: int, num_frames: int, shift: bool) -> Checkpoint:
    """A network of random weights whose statistics are those of a batch, so that there are no denormals."""
    config = Config(
        name="graph",
        data=DataConfig(annotations="-", videos="-"),
        model=ModelConfig(backbone=backbone, shift=shift),
        clip=ClipConfig(num_frames=num_frames, size=size),
    )
    labels = Labels(("a", "b", "c", BACKGROUND), ("x", "y"))
    torch.manual_seed(0)
    model = build_model(config, labels)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    torch.nn.init.normal_(model.action_head.weight, std=0.1)
    with torch.no_grad():
        model.train()(torch.from_numpy(noise(2, num_frames, size)))
    return Checkpoint(config=config, labels=labels, epoch=1, metrics={}, weights=model.state_dict())


def noise(clips: int, num_frames: int, size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Seeded clips that are no two alike and not flat."""
    rng = np.random.default_rng(0)
    plain = rng.integers(0, 192, (clips, num_frames, 1, 1, 3))
    return (plain + rng.integers(0, 64, (clips, num_frames, size, size, 3))).astype(np.uint8)


def folded(model: TSM) -> TSM:
    """Fold batch normalisation into the shifted convolutions, so that two of them may be summed after it."""
    for parent in list(model.modules()):
        for (name, conv), (after, norm) in itertools.pairwise(list(parent.named_children())):
            if isinstance(conv, ShiftedConv2d) and isinstance(norm, torch.nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, after, getattr(norm, "act", torch.nn.Identity()))
    return model


def exported(form: str, made: Checkpoint) -> bytes:
    """Export a checkpoint with its shift in a form."""
    with written_as(form):
        if form == TWO_CONVS:
            kept = Checkpoint.model
            try:
                Checkpoint.model = lambda self: folded(kept(self))  # type: ignore[method-assign]
                return export_fp32(made)
            finally:
                Checkpoint.model = kept  # type: ignore[method-assign]
        data = export_fp32(made)
        return separate_moved_channels(data) if form == APART else data


def parsed_layers(data: bytes) -> dict[str, int] | None:
    """Layers after TensorRT-RTX's parser, or None where it is not installed.

    `all` of them, and `float`: those that compute floating-point tensors. The others compute shapes, on the
    host.
    """
    try:
        import tensorrt_rtx as trt
    except ImportError:
        return None
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(data) or parser.num_errors:
        return None
    layers = [network.get_layer(number) for number in range(network.num_layers)]
    return {"all": len(layers), "float": sum(computes_floats(trt, layer) for layer in layers)}


def computes_floats(trt: Any, layer: Any) -> bool:
    """Whether a layer makes a floating-point tensor from others."""
    made = [layer.get_output(number).dtype for number in range(layer.num_outputs)]
    return layer.type != trt.LayerType.CONSTANT and bool({trt.float32, trt.float16} & set(made))


def session(data: bytes, provider: str, threads: int) -> Any:
    """Open a graph, in half precision on a GPU, and check that the requested provider is used."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    opened = ort.InferenceSession(
        to_half(data) if provider == "cuda" else data, options, providers=PROVIDERS[provider]
    )
    wanted = "CUDAExecutionProvider" if provider == "cuda" else "CPUExecutionProvider"
    if opened.get_providers()[0] != wanted:
        raise SystemExit(f"{wanted} is not used: {opened.get_providers()}")
    return opened


def measure(backbone: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Export, check and time all forms of one network."""
    made = checkpoint(backbone, options.size, options.frames, shift=True)
    plain = checkpoint(backbone, options.size, options.frames, shift=False)
    clips = noise(options.batch, options.frames, options.size)
    with torch.inference_mode():
        truth = Probabilities(made.model())(torch.from_numpy(clips[:2]))[0].numpy()
    sessions, rows = {}, {}
    for form in (NO_SHIFT, *FORMS, TWO_CONVS, TIME_MAJOR, APART):
        data = exported(form, plain if form == NO_SHIFT else made)
        sessions[form] = session(data, options.provider, options.threads)
        got = sessions[form].run(None, {"frames": clips[:2]})[0]
        error = None if form == NO_SHIFT else float(np.abs(got - truth).max())
        if error is not None and options.provider == "cpu" and error > TOLERANCE:
            raise SystemExit(f"{backbone}, {form}: differs from PyTorch by {error:.1e}")
        rows[form] = {
            "form": form,
            "max_abs_error": error,
            "nodes": len(onnx.load_from_string(data).graph.node),
            "tensorrt_layers": parsed_layers(data),
            "leaks": leaks(form),
        }
    works = {form: functools.partial(each.run, None, {"frames": clips}) for form, each in sessions.items()}
    seconds = in_turns(works, options.rounds)
    for form, row in rows.items():
        row["over_no_shift"] = ratios(seconds, form, NO_SHIFT)
        row["clips_per_second"] = round(options.batch / statistics.median(seconds[form]), 2)
        print(backbone, row, flush=True)
    return list(rows.values())


def main() -> None:
    """Measure the requested networks and store the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", nargs="+", default=["efficientnet_lite0", "mobilenet_v2", "resnet50"])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--provider", choices=list(PROVIDERS), default="cpu")
    options = parser.parse_args()
    tables = {backbone: measure(backbone, options) for backbone in options.backbones}
    settings = {name: value for name, value in vars(options).items() if name != "backbones"}
    store(f"shift_graph_{options.provider}", {"settings": settings, "networks": tables})


if __name__ == "__main__":
    main()
