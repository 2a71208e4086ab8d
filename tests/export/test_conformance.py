"""Real networks through NVIDIA's own parser and builder: TensorRT for RTX builds without a GPU."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tsm_export.graphs.from_checkpoint import export_fp32
from tsm_export.graphs.half import to_half
from tsm_export.graphs.moved_channels import separate_moved_channels
from tsm_export.quantization.quantize import calibrate, quantize
from tsm_runtime.backends.tensorrt.build import build_plan
from tsm_runtime.backends.tensorrt.build_options import BuildOptions
from tsm_runtime.backends.tensorrt.inspector import Precision
from tsm_runtime.bundle.manifest import sha256
from tsm_runtime.errors import CheckError
from tsm_runtime.results import BACKGROUND
from tsm_train.config import Config
from tsm_train.samples.clips import Labels
from tsm_train.sections.data import DataConfig
from tsm_train.sections.network import ClipConfig, ModelConfig
from tsm_train.training.checkpoint import Checkpoint, build_model

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from _plan_traffic import BUDGETS, clip_traffic, compare, layer_traffic, over_budget

NUM_FRAMES, SIZE = 4, 64
NUM_CONVS = {"mobilenet_v2": 52, "efficientnet_lite0": 49, "resnet50": 53}
"""Stem, blocks, last or shortcuts: 1 + (2 + 16 * 3) + 1, 1 + (2 + 15 * 3) + 1, 1 + 16 * 3 + 4."""

pytestmark = pytest.mark.timeout(1200)


NIGHTLY = [pytest.param(name, marks=pytest.mark.nightly) for name in NUM_CONVS if name != "mobilenet_v2"]


@pytest.fixture(scope="module", params=["mobilenet_v2", *NIGHTLY])
def backbone(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def fp32(backbone: str) -> bytes:
    return exported(backbone, shift=True)


def exported(backbone: str, *, shift: bool) -> bytes:
    config = Config(
        name="random",
        data=DataConfig(annotations="truth.json", videos="videos"),
        model=ModelConfig(backbone=backbone, shift=shift),
        clip=ClipConfig(num_frames=NUM_FRAMES, size=SIZE),
    )
    labels = Labels(("walk", "run", BACKGROUND), ("hall", "park"))
    torch.manual_seed(0)
    model = build_model(config, labels)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # statistics of the one batch that follows, so that no layer gives zeros
    with torch.no_grad():
        model.train()(torch.from_numpy(clips(4)))
    weights = model.state_dict()
    return export_fp32(Checkpoint(config=config, labels=labels, epoch=1, metrics={}, weights=weights))


def clips(number: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (number, NUM_FRAMES, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize(("precision", "name"), [("fp32", "Float"), ("fp16", "Half"), ("int8-trt", "Int8")])
def test_a_network_is_built_in_its_precision(
    backbone: str, fp32: bytes, precision: Precision, name: str
) -> None:
    graphs: dict[Precision, Callable[[], bytes]] = {
        "fp32": lambda: separate_moved_channels(fp32),
        "fp16": lambda: to_half(fp32),
        "int8-trt": lambda: quantize(calibrate(fp32, clips(2)), target="trt", max_noise=math.inf).data,
    }
    graph = graphs[precision]()
    built = build_plan(graph, BuildOptions(batch=(1, 2, 4)), library="tensorrt_rtx", precision=precision)
    assert built.engine.onnx_sha256 == sha256(graph)
    assert built.evidence in ("builder's log", "engine inspector")
    assert built.warnings == ()
    # Most convolutions give or take a tensor of the type; fusion joins some, never most of them.
    assert built.engine.layer_types[name] > NUM_CONVS[backbone] / 2
    assert built.num_layers >= NUM_CONVS[backbone]


def test_what_a_clip_moves_is_within_its_budget(backbone: str, fp32: bytes) -> None:
    int8 = quantize(calibrate(fp32, clips(2)), target="trt", max_noise=math.inf).data
    moved = {
        "fp16": clip_traffic(to_half(fp32), "fp16"),
        "fp16 without shift": clip_traffic(to_half(exported(backbone, shift=False)), "fp16"),
        "int8-trt": clip_traffic(int8, "int8-trt"),
    }
    ratios = compare(moved)
    assert over_budget(backbone, ratios) == []
    assert ratios["shift"] > 1.01
    # No convolution of INT8 gives FP32: only what follows the pooling is.
    by_type = moved["int8-trt"]["written_mb_by_type"]
    assert by_type["Float"] < 0.02 * (by_type["Half"] + by_type["Int8"])


def test_a_ratio_over_its_budget_is_named() -> None:
    ratios = {"shift": 1.0, "shift_layers": 1.0, "int8": 99.0, "int8_layers": 1.0}
    limit = BUDGETS["resnet50"].int8
    assert over_budget("resnet50", ratios) == [f"resnet50: int8 is 99 times, the budget is {limit:g}"]


def test_bytes_of_a_description() -> None:
    tensor = "Name: {}, Dimensions: [{}], Strides: [1], StrideOrder: [0], Datatype: {}, Format: (Linear)"
    read, other, made = (
        "{ " + tensor.format(*each) + " }"
        for each in (("a", "2,3", "Half"), ("b", "5", "Int8"), ("c", "7", "Float"))
    )
    line = (
        "Name: {}, LayerType: kgen, Inputs: [{}], Constants: [{}], Outputs: [{}], TacticName: t, Metadata: "
    )
    text = "Layers:\n" + line.format("moving", ", ".join([read, other, read]), made, made)
    (layer,) = layer_traffic(text + "\n" + line.format("signal", "", "", ""))
    assert (layer.name, layer.kind, layer.read, layer.written) == ("moving", "kgen", 2 * 3 * 2 + 5, 28)
    assert layer.output_types == ("Float",)
    with pytest.raises(ValueError, match="sizes that are not fixed"):
        layer_traffic(text.replace("[5]", "[-1]"))
    with pytest.raises(ValueError, match="no layer of fixed sizes"):
        layer_traffic("")


def test_the_fp32_graph_is_not_taken_for_another(fp32: bytes) -> None:
    for precision in ("fp16", "int8-trt"):
        with pytest.raises(CheckError, match=f"the graph is not {precision}"):
            build_plan(fp32, BuildOptions(), library="tensorrt_rtx", precision=precision)  # type: ignore[arg-type]
