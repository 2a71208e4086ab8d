"""`tsm-train` with a `[head]` section."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from entry import command

from tsm_runtime.errors import UsageError
from tsm_train.commands.train import main
from tsm_train.config import Config, load_config
from tsm_train.head.checkpoint import HEAD_FILE, load_head, weights_sha256
from tsm_train.head.features import FeatureCache
from tsm_train.training.checkpoint import load_checkpoint
from tsm_train.training.train import train

HEAD = ("head.epochs=1", "head.passes=2", "head.width=8", "head.window_seconds=4")


@pytest.fixture
def config_file(drawn_data: Path, tmp_path: Path, write_run: Any) -> Path:
    file: Path = write_run(tmp_path / "tiny.toml", drawn_data)
    return file


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


def test_the_head_alone_on_a_backbone_as_it_is(
    config_file: Path,
    learnt_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    tsm_train = command("tsm-train", main, monkeypatch, capfdbinary)
    start = f"model.pretrained={learnt_run}/best.safetensors"
    more = [
        argument
        for key in (start, "clip.size=48", *HEAD[:1], *HEAD[2:], "head.passes=1")
        for argument in ("--set", key)
    ]
    code, out, err = tsm_train(config_file, "-o", tmp_path, "--head-only", *more)
    assert (code, out) == (0, "")
    assert "temporal head alone: features of 3 + 1 videos" in err
    run = tmp_path / "tiny"
    before, after = (
        load_checkpoint(learnt_run / "best.safetensors"),
        load_checkpoint(run / "best.safetensors"),
    )
    for name, values in before.weights.items():
        assert torch.equal(values, after.weights[name]), name
    head = load_head(run / HEAD_FILE)
    assert head.backbone_sha256 == weights_sha256(after.weights)
    (row,) = csv.DictReader((run / "metrics.csv").read_text().splitlines())
    assert (row["epoch"], float(row["map"])) == ("0", pytest.approx(after.metrics["map"], abs=1e-5))
    assert tsm_train(config_file, "-o", tmp_path, "--head-only", *more).code == 2  # a run is there
    monkeypatch.setattr(FeatureCache, "_decoded", _refuse)  # with other labels the features are there
    renamed = f'data.label_map={{"{after.labels.actions[0]}" = "other"}}'
    code, _, err = tsm_train(
        config_file, "-o", tmp_path, "--head-only", *more, "--set", renamed, "--set", "name=b"
    )
    assert (code, "computed again" in err) == (0, False)
    anew = load_checkpoint(tmp_path / "b" / "best.safetensors")
    new = anew.labels.actions.index("other")
    assert not anew.weights["action_head.weight"][new].any()  # nothing has learnt it
    code, _, err = tsm_train(config_file, "-o", tmp_path, "--head-only", "--resume")
    assert (code, "nothing to --resume" in err) == (2, True)


def _refuse(*_: object) -> NoReturn:
    raise AssertionError("computed again")
