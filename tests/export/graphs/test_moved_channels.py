"""A graph with its moved channels apart says the same, and copies less."""

from __future__ import annotations

import collections

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch

from tsm_export.graphs.from_checkpoint import export_fp32
from tsm_export.graphs.moved_channels import separate_moved_channels
from tsm_runtime.bundle.manifest import ShiftDirection
from tsm_runtime.results import BACKGROUND
from tsm_train.config import Config
from tsm_train.samples.clips import Labels
from tsm_train.sections.data import DataConfig
from tsm_train.sections.network import ClipConfig, ModelConfig
from tsm_train.training.checkpoint import Checkpoint, build_model

T, SIZE = 3, 64
LABELS = Labels(("wave", "walk", BACKGROUND), ("hall", "park"))


def exported(backbone: str, direction: ShiftDirection = "both") -> bytes:
    """A network of random weights whose statistics are those of a batch, so that no value fades away."""
    config = Config(
        name="apart",
        data=DataConfig(annotations="-", videos="-"),
        model=ModelConfig(backbone=backbone, shift_direction=direction),
        clip=ClipConfig(num_frames=T, size=SIZE),
    )
    torch.manual_seed(0)
    model = build_model(config, LABELS)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    torch.nn.init.normal_(model.action_head.weight, std=0.03)
    with torch.no_grad():
        model.train()(torch.from_numpy(clips(4, seed=1)))
    return export_fp32(
        Checkpoint(config=config, labels=LABELS, epoch=1, metrics={}, weights=model.state_dict())
    )


def clips(number: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Noise over a plain colour, no two frames alike."""
    rng = np.random.default_rng(seed)
    plain = rng.integers(0, 192, (number, T, 1, 1, 3))
    return (plain + rng.integers(0, 64, (number, T, SIZE, SIZE, 3))).astype(np.uint8)


def scores(data: bytes, frames: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return list(session.run(["action_scores", "scene_scores"], {"frames": frames}))


def operators(data: bytes) -> collections.Counter[str]:
    return collections.Counter(node.op_type for node in onnx.load_from_string(data).graph.node)


@pytest.fixture(scope="module", params=["both", "past"])
def graphs(request: pytest.FixtureRequest) -> tuple[bytes, bytes]:
    """Of resnet50, before and after."""
    plain = exported("resnet50", request.param)
    return plain, separate_moved_channels(plain)


@pytest.mark.parametrize("number", [1, 3])
def test_the_scores_are_the_same(graphs: tuple[bytes, bytes], number: int) -> None:
    frames = clips(number)
    for plain, apart in zip(*(scores(data, frames) for data in graphs), strict=True):
        np.testing.assert_allclose(apart, plain, atol=1e-5)
    assert np.ptp(scores(graphs[0], clips(4))[0], axis=0).max() > 1e-2  # a difference would show


def test_only_moved_channels_are_copied(graphs: tuple[bytes, bytes]) -> None:
    """Of all tensors that a shift reads, one is joined from parts that moved and parts that did not.

    That is the input of the first block, whose 8 + 8 + 48 channels fill no blocks of 16. The last addition,
    which nothing shifts, is joined once more for the pooling.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graphs[1]), data_prop=True)
    channels = {
        value.name: value.type.tensor_type.shape.dim[1].dim_value
        for value in model.graph.value_info
        if len(value.type.tensor_type.shape.dim) == 4
    }
    joins = [n for n in model.graph.node if n.op_type == "Concat" and n.output[0] in channels]
    widths = [sorted({channels[name] for name in node.input}) for node in joins]
    uneven = [max(each) for each in widths if len(each) > 1]
    assert uneven[0] in (48, 56)
    assert uneven[1:] == [1536 if 512 in widths[-1] else 1792]
    plain, apart = (operators(data) for data in graphs)
    assert apart["Slice"] == plain["Slice"]  # still one or two rows of frames per shift
    # 15 shifts: 15 convolutions read two parts, and what makes these parts is doubled.
    assert apart["Conv"] == plain["Conv"] + 40


@pytest.mark.parametrize(
    "backbone", ["mobilenet_v2", pytest.param("efficientnet_lite0", marks=pytest.mark.nightly)]
)
def test_nets_whose_parts_fill_no_blocks_stay_as_they_are(backbone: str) -> None:
    plain = exported(backbone)
    assert separate_moved_channels(plain) == plain


def test_the_same_graph_gives_the_same_bytes(graphs: tuple[bytes, bytes]) -> None:
    assert separate_moved_channels(graphs[0]) == graphs[1]


def test_a_graph_without_shift_stays_as_it_is(graphs: tuple[bytes, bytes]) -> None:
    model = onnx.load_from_string(graphs[0])
    nodes = [node for node in model.graph.node if node.op_type in ("Cast", "Transpose", "Reshape")][:3]
    assert [node.op_type for node in nodes] == ["Cast", "Transpose", "Reshape"]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    data = model.SerializeToString()
    assert separate_moved_channels(data) == data
