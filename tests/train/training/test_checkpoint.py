from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tsm_runtime.errors import UsageError
from tsm_runtime.results import BACKGROUND
from tsm_train.config import Config
from tsm_train.samples.clips import Labels
from tsm_train.sections.data import DataConfig
from tsm_train.sections.network import ClipConfig, ModelConfig
from tsm_train.training.checkpoint import Checkpoint, build_model, load_checkpoint, save_checkpoint


def small_checkpoint(scenes: tuple[str, ...] = ("hall", "park"), **model: Any) -> Checkpoint:
    config = Config(
        name="small",
        data=DataConfig(annotations="truth.json", videos="videos"),
        model=ModelConfig(**{"backbone": "mobilenet_v2", "width_mult": 0.25, **model}),
        clip=ClipConfig(interval_seconds=0.25, num_frames=4, size=32),
    )
    labels = Labels(("wälk", "wave", BACKGROUND), scenes)
    weights = build_model(config, labels).state_dict()
    return Checkpoint(config=config, labels=labels, epoch=3, metrics={"map": 0.1 + 0.2}, weights=weights)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, small_checkpoint())
    return path


def rewritten(path: Path, **changes: str | None) -> Path:
    """The checkpoint with other metadata; None takes an entry out."""
    with safetensors.safe_open(path, framework="pt") as stream:
        metadata = {**stream.metadata(), **changes}
    weights = safetensors.torch.load_file(path)
    safetensors.torch.save_file(weights, path, {k: v for k, v in metadata.items() if v is not None})
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_checkpoint(path).model()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_round_trip(tmp_path: Path) -> None:
    written = small_checkpoint()
    save_checkpoint(tmp_path / "a.safetensors", written)
    read = load_checkpoint(tmp_path / "a.safetensors")
    assert (read.config, read.labels) == (written.config, written.labels)
    assert (read.epoch, read.metrics) == (3, {"map": 0.1 + 0.2})
    assert read.weights.keys() == written.weights.keys()
    assert all(torch.equal(value, written.weights[name]) for name, value in read.weights.items())
    frames = torch.randint(0, 256, (1, 4, 32, 32, 3), dtype=torch.uint8)
    model = build_model(written.config, written.labels).eval()
    model.load_state_dict(dict(written.weights))
    assert not read.model().training
    assert torch.equal(read.model()(frames)[0], model(frames)[0])


def test_channels_last_weights_are_stored_as_they_are(tmp_path: Path) -> None:
    written = small_checkpoint()
    model = build_model(written.config, written.labels).to(memory_format=torch.channels_last)
    state = model.state_dict()
    checkpoint = Checkpoint(
        config=written.config, labels=written.labels, epoch=1, metrics={"map": 0.0}, weights=state
    )
    save_checkpoint(tmp_path / "a.safetensors", checkpoint)
    read = load_checkpoint(tmp_path / "a.safetensors")
    assert all(torch.equal(value, state[name]) for name, value in read.weights.items())


def test_a_model_without_scenes(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.safetensors", small_checkpoint(scenes=()))
    assert load_checkpoint(tmp_path / "a.safetensors").model().scene_head is None


def test_a_checkpoint_without_shift_direction_shifts_both_ways(saved: Path) -> None:
    """As all did before there was a choice."""
    with safetensors.safe_open(saved, framework="pt") as stream:
        config = stream.metadata()["config"]
    old = load_checkpoint(rewritten(saved, config=config.replace(',"shift_direction":"both"', "")))
    with safetensors.safe_open(saved, framework="pt") as stream:
        assert "shift_direction" not in stream.metadata()["config"]
    assert old.config == small_checkpoint().config
    frames = torch.randint(0, 256, (1, 4, 32, 32, 3), dtype=torch.uint8)
    past = build_model(small_checkpoint(shift_direction="past").config, old.labels).eval()
    past.load_state_dict(dict(old.weights))
    with torch.inference_mode():
        features = old.model().frame_features(frames)
        assert (features[:, 0] - past.frame_features(frames)[:, 0]).abs().max() > 1e-3 * features.abs().max()


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    assert "no readable checkpoint (No such file" in refusal(tmp_path / "none.safetensors")
    assert "no readable checkpoint" in refusal(tmp_path)
    (tmp_path / "text.safetensors").write_text("not one")
    assert "not a safetensors checkpoint" in refusal(tmp_path / "text.safetensors")
    (tmp_path / "empty.safetensors").touch()
    assert "not a safetensors checkpoint" in refusal(tmp_path / "empty.safetensors")
    safetensors.torch.save_file({"weight": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    assert "not a checkpoint of tsm-train" in refusal(tmp_path / "foreign.safetensors")


def test_a_cut_off_checkpoint(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-100])
    assert "not a safetensors checkpoint" in refusal(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"config": None},
        {"config": "{"},
        {"config": '{"name": "x"}'},
        {"labels": '{"actions": ["walk"], "scenes": []}'},
        {"labels": "[]"},
        {"epoch": "three"},
        {"metrics": '{"map": null}'},
    ],
    ids=str,
)
def test_damaged_metadata(saved: Path, changes: dict[str, str | None]) -> None:
    said = refusal(rewritten(saved, **changes))
    assert said.startswith(f"{saved}: damaged checkpoint metadata (")


def test_an_unknown_key_of_a_newer_program(saved: Path) -> None:
    with safetensors.safe_open(saved, framework="pt") as stream:
        config = stream.metadata()["config"]
    said = refusal(rewritten(saved, config=config.replace('{"name"', '{"new_key":1,"name"')))
    assert "new_key" in said


def test_weights_that_do_not_fit_the_configuration(saved: Path) -> None:
    with safetensors.safe_open(saved, framework="pt") as stream:
        config = stream.metadata()["config"]
    assert "its weights do not fit mobilenet_v2" in refusal(
        rewritten(saved, config=config.replace('"width_mult":0.25', '"width_mult":0.5'))
    )
    assert "its weights do not fit resnet50" in refusal(
        rewritten(
            saved,
            config=config.replace('"mobilenet_v2"', '"resnet50"').replace(
                '"width_mult":0.25', '"width_mult":1'
            ),
        )
    )
    assert "Invalid enum value 'resnet5'" in refusal(
        rewritten(saved, config=config.replace('"mobilenet_v2"', '"resnet5"'))
    )
    assert "its weights do not fit" in refusal(
        rewritten(saved, config=config, labels='{"actions":["walk","background"],"scenes":[]}')
    )
