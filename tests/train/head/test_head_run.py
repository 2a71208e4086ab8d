"""`tsm-train` with a `[head]` section."""

from __future__ import annotations

from pathlib import Path

import pytest

from tsm_runtime.errors import UsageError
from tsm_train.config import Config, load_config
from tsm_train.head.checkpoint import HEAD_FILE, load_head, weights_sha256
from tsm_train.training.checkpoint import load_checkpoint
from tsm_train.training.train import train

TINY = """
name = "tiny"
[data]
annotations = "{folder}/ground_truth.json"
videos = "{folder}/videos"
cache = "{folder}/cache"
[model]
backbone = "mobilenet_v2"
width_mult = 0.25
[clip]
size = 32
[train]
epochs = 1
batch_size = 8
learning_rate = 0.01
"""
HEAD = ("head.epochs=1", "head.passes=2", "head.width=8", "head.window_seconds=4")


@pytest.fixture
def config_file(drawn_data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.format(folder=drawn_data))
    return path


def fit(config: Config, folder: Path, *, resume: bool = False) -> dict[str, float]:
    return train(config, folder, device="cpu", show_progress=False, resume=resume)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_the_head_is_trained_after_the_backbone(config_file: Path, tmp_path: Path, head: str) -> None:
    config, folder = load_config(config_file, [*HEAD, f'model.head="{head}"']), tmp_path / "run"
    metrics = fit(config, folder)
    assert {"map", "head_merge_map", "head_fitted_map"} <= set(metrics)
    found, backbone = load_head(folder / HEAD_FILE), load_checkpoint(folder / "best.safetensors")
    found.require_backbone(weights_sha256(backbone.weights), "run")
    assert found.labels == backbone.labels
    assert len(found.thresholds) == (len(found.labels.actions) if head == "sigmoid" else 0)
    with pytest.raises(UsageError, match="run: the temporal head was trained on features of another"):
        found.require_backbone("0" * 64, "run")


def test_a_finished_run_gets_another_head_and_a_new_run_none(config_file: Path, tmp_path: Path) -> None:
    folder, plain = tmp_path / "run", load_config(config_file)
    fit(plain, folder)
    assert not (folder / HEAD_FILE).exists()
    backbone = (folder / "best.safetensors").read_bytes()
    for width in (8, 16):
        fit(load_config(config_file, [*HEAD, f"head.width={width}"]), folder, resume=True)
        assert load_head(folder / HEAD_FILE).config.width == width
    kept = (folder / HEAD_FILE).stat().st_mtime_ns
    fit(load_config(config_file, [*HEAD, "head.width=16"]), folder, resume=True)
    assert (folder / HEAD_FILE).stat().st_mtime_ns == kept
    assert (folder / "best.safetensors").read_bytes() == backbone
    fit(plain, folder)
    assert not (folder / HEAD_FILE).exists()


def test_a_window_beyond_the_interval_is_refused(config_file: Path) -> None:
    with pytest.raises(UsageError, match=r"clip.window_seconds 1 with \[head\]"):
        load_config(config_file, ["clip.window_seconds=1.0", *HEAD])


def test_with_folds_the_validation_videos_choose_nothing(config_file: Path, tmp_path: Path) -> None:
    metrics = fit(load_config(config_file, [*HEAD, "head.folds=3"]), tmp_path / "run")
    assert {"head_fitted_map", "head_cv_map", "head_validation_map", "head_validation_map_0.95"} <= set(
        metrics
    )
    with pytest.raises(UsageError, match=r"head.folds 4: .* no more than the 3 training recordings"):
        fit(load_config(config_file, [*HEAD, "head.folds=4"]), tmp_path / "run", resume=True)
