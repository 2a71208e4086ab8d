from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.errors import UsageError
from tsm_runtime.models.choice import open_model
from tsm_runtime.results import BACKGROUND
from tsm_train.config import Config, load_config
from tsm_train.model.pretrained import DEMO_FILE
from tsm_train.model.tsm import TSM
from tsm_train.samples.clips import Labels
from tsm_train.sections.data import DataConfig
from tsm_train.sections.network import ClipConfig, ModelConfig
from tsm_train.training import train as training
from tsm_train.training.checkpoint import Checkpoint, build_model, load_checkpoint, save_checkpoint
from tsm_train.training.fine_tuning import start_from

OLD = Labels(("jump", "walk", "wave", BACKGROUND), ("hall", "park"))


def config(**model: Any) -> Config:
    return Config(
        name="run",
        data=DataConfig(annotations="truth.json", videos="videos"),
        model=ModelConfig(**{"backbone": "mobilenet_v2", "width_mult": 0.25, **model}),
        clip=ClipConfig(size=32),
    )


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a run with other labels, whose weights are all different."""
    path = tmp_path_factory.mktemp("old") / "old.safetensors"
    weights = {
        k: torch.randn(v.shape) if v.is_floating_point() else v for k, v in fresh(OLD).state_dict().items()
    }
    save_checkpoint(path, Checkpoint(config=config(), labels=OLD, epoch=3, metrics={}, weights=weights))
    return path


def fresh(labels: Labels, **model: Any) -> TSM:
    return build_model(config(**model), labels)


def reported(caplog: pytest.LogCaptureFixture) -> str:
    lines = "".join(f"{message}\n" for message in caplog.messages)
    caplog.clear()
    return lines


def test_rows_of_equal_labels_are_taken_over_and_reported(
    old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = Labels(("run", "wave", "walk", BACKGROUND), ("park", "shop"))
    model, before = fresh(labels), load_checkpoint(old).weights
    new_row = model.action_head.weight[0].clone()
    start_from(model, str(old), labels)
    assert reported(caplog) == (
        f"starts from {old}: backbone; 3 of 4 actions (new: run, not taken: jump);"
        " 1 of 2 scenes (new: shop, not taken: hall)\n"
    )
    for mine, theirs in enumerate((2, 1, 3), start=1):
        assert torch.equal(model.action_head.weight[mine], before["action_head.weight"][theirs])
        assert torch.equal(model.action_head.bias[mine], before["action_head.bias"][theirs])
    assert torch.equal(model.action_head.weight[0], new_row)
    assert model.scene_head is not None
    assert torch.equal(model.scene_head.weight[0], before["scene_head.weight"][1])
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[f"backbone.{key}"])


def test_the_same_labels(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = fresh(OLD)
    start_from(model, str(old), OLD)
    assert reported(caplog) == f"starts from {old}: backbone; 4 of 4 actions; 2 of 2 scenes\n"
    assert all(torch.equal(v, load_checkpoint(old).weights[k]) for k, v in model.state_dict().items())


def test_another_kind_of_head_begins_anew(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = Labels(("walk", "wave"), ())
    model = fresh(labels, head="sigmoid")
    before = model.action_head.weight.clone()
    start_from(model, str(old), labels)
    assert (
        reported(caplog)
        == f"starts from {old}: backbone; actions start from random weights: it has a softmax head\n"
    )
    assert torch.equal(model.action_head.weight, before)


def test_a_checkpoint_without_scenes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = Labels(OLD.actions, ())
    path = tmp_path / "single.safetensors"
    weights = fresh(labels).state_dict()
    save_checkpoint(path, Checkpoint(config=config(), labels=labels, epoch=1, metrics={}, weights=weights))
    start_from(fresh(OLD), str(path), OLD)
    assert reported(caplog).endswith("4 of 4 actions; 0 of 2 scenes (new: hall, park)\n")


def test_another_backbone_is_refused(old: Path) -> None:
    model = fresh(OLD, width_mult=0.5)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(UsageError, match=r"old\.safetensors does not fit backbone mobilenet_v2"):
        start_from(model, str(old), OLD)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_plain_backbone_takes_over_no_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "backbone.pth"
    torch.save(fresh(OLD).backbone.state_dict(), path)
    start_from(fresh(OLD), str(path), OLD)
    assert reported(caplog) == ""


def test_a_run_that_starts_from_another(
    drawn_data: Path, learnt_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was learnt by heart is still known after an epoch of tiny steps."""
    path = tmp_path / "tuned.toml"
    path.write_text(
        (learnt_run.parents[1] / "learnt.toml").read_text().replace('"ground', f'"{drawn_data}/ground')
    )
    overrides = [
        f"data.videos={drawn_data}/videos",
        f"data.cache={drawn_data}/cache",
        f"model.pretrained={learnt_run}/best.safetensors",
        "train.epochs=1",
        "train.learning_rate=1e-9",
        "train.freeze_bn=all",
        "train.validate_every=1",
    ]
    metrics = training.train(
        load_config(path, overrides), tmp_path / "run", device="cpu", show_progress=False
    )
    learnt = load_checkpoint(learnt_run / "best.safetensors")
    assert f"starts from {learnt_run}/best.safetensors: backbone; " in reported(caplog)
    assert metrics == pytest.approx(learnt.metrics, abs=0.01)


def test_the_demo_model_is_a_start(caplog: pytest.LogCaptureFixture) -> None:
    """Its checkpoint gives the bundle's scores, and hands over the outputs of labels that both have."""
    backend = open_model(load_bundle(demo_folder() / "bundle"), "model.fp32.onnx")
    clips = np.random.default_rng(0).integers(0, 256, (3, 4, 96, 96, 3), dtype=np.uint8)
    expected = backend.infer(clips).action
    model = load_checkpoint(DEMO_FILE).model()
    with torch.inference_mode():
        found = model(torch.from_numpy(clips))[0].softmax(1)
    np.testing.assert_allclose(found.numpy(), expected, atol=5e-3)

    labels = Labels(("waving", "pouring", BACKGROUND), ("room",))
    started = build_model(config(backbone="efficientnet_lite0", width_mult=1.0), labels)
    start_from(started, "demo", labels)
    assert "2 of 3 actions (new: pouring" in reported(caplog)
    assert torch.equal(started.action_head.weight[0], model.action_head.weight[7])
