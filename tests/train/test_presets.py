from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from entry import run_main

from tsm_runtime.errors import UsageError
from tsm_train.commands import train as cli
from tsm_train.config import load_config
from tsm_train.presets import preset_names, preset_path, preset_summary

PAPER = {
    "x360-single-32x8d-t1.0": ("resnext101_32x8d", 1.0, False),
    "x360-single-32x8d-t0.5": ("resnext101_32x8d", 0.5, False),
    "x360-single-32x8d-t0.25": ("resnext101_32x8d", 0.25, False),
    "x360-single-64x4d-t0.5": ("resnext101_64x4d", 0.5, False),
    "x360-multi-32x8d-t0.5": ("resnext101_32x8d", 0.5, True),
    "x360-multi-64x4d-t0.5": ("resnext101_64x4d", 0.5, True),
}


@pytest.mark.parametrize("name", preset_names())
def test_each_loads_and_is_called_what_its_file_is(name: str, tmp_path: Path) -> None:
    config = load_config(preset_path(name), root=tmp_path)
    assert config.name == name
    assert config.data.root == str(tmp_path)
    assert preset_summary(name)


def test_the_trained_rows_of_the_table_are_there() -> None:
    heads = {f"{name}-head" for name in PAPER}
    assert {name for name in preset_names() if name.startswith("x360")} == {
        *PAPER,
        *heads,
        "x360-multi-32x8d-t0.5-audio",
        "x360-multi-32x8d-t0.5-views",
        "x360-multi-t0.5-audio-only",
    }


@pytest.mark.parametrize("name", PAPER)
def test_the_form_with_a_head_differs_in_the_head_alone(name: str, tmp_path: Path) -> None:
    plain = load_config(preset_path(name), root=tmp_path)
    headed = load_config(preset_path(f"{name}-head"), root=tmp_path)
    assert plain.head is None
    assert headed.head is not None
    assert msgspec.structs.replace(headed, name=name, head=None) == plain


@pytest.mark.parametrize(("name", "row"), PAPER.items())
def test_what_the_paper_states_is_in_each_row(
    name: str, row: tuple[str, float, bool], tmp_path: Path
) -> None:
    config = load_config(preset_path(name), root=tmp_path)
    assert (config.model.backbone, config.clip.interval_seconds, config.model.scene_head) == row
    assert (config.train.learning_rate, config.clip.size, config.model.dropout) == (0.001, 256, 0.5)
    assert (config.model.head, config.model.shift, config.data.views) == ("softmax", True, ("panoramic",))


def test_the_rows_differ_in_nothing_else(tmp_path: Path) -> None:
    configs = [load_config(preset_path(name), root=tmp_path) for name in PAPER]
    assert len({(c.train, c.augment, c.store, c.data.root, c.clip.num_frames) for c in configs}) == 1


def test_list_and_show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run_main("tsm-train", cli.main, monkeypatch, capsys, "--list")
    assert (code, err) == (0, "")
    assert [line.split("\t")[0] for line in out.splitlines()] == list(preset_names())
    assert all(line.split("\t")[1] for line in out.splitlines())
    code, out, err = run_main("tsm-train", cli.main, monkeypatch, capsys, "--show", "x360-multi-64x4d-t0.5")
    assert (code, out, err) == (0, preset_path("x360-multi-64x4d-t0.5").read_text(), "")


def test_names_that_do_not_exist(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    expected = (
        "tsm-train: x360-multi-64x4d-t0.50: no such file, and no shipped configuration; did you mean"
        " 'x360-multi-64x4d-t0.5'? tsm-train --list shows them\n"
    )
    for words in (["--show", "x360-multi-64x4d-t0.50"], ["x360-multi-64x4d-t0.50", "--data", "."]):
        assert run_main("tsm-train", cli.main, monkeypatch, capsys, *words) == (2, "", expected)
    with pytest.raises(UsageError, match="no shipped configuration; tsm-train --list"):
        preset_path("zzzzzzzzzz")


def test_a_shipped_one_needs_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run_main("tsm-train", cli.main, monkeypatch, capsys, "cpu-lite0-multi-t0.5")
    assert (code, err) == (
        2,
        "tsm-train: cpu-lite0-multi-t0.5: a shipped configuration needs --data, the folder of the data set\n",
    )


def test_resume_or_force(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["cpu-lite0-multi-t0.5", "--data", tmp_path, "-o", tmp_path]
    code, _, err = run_main("tsm-train", cli.main, monkeypatch, capsys, *words, "--resume", "--force")
    assert (code, err.count("\n")) == (2, 1)
    folder = tmp_path / "cpu-lite0-multi-t0.5"
    folder.mkdir()
    (folder / "resume.ckpt").touch()
    code, _, err = run_main("tsm-train", cli.main, monkeypatch, capsys, *words)
    assert (code, err) == (
        2,
        f"tsm-train: {folder}: holds an unfinished run; --resume continues it, --force starts again\n",
    )


def test_a_shipped_one_trains_on_a_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], drawn_data: Path, tmp_path: Path
) -> None:
    smaller = [
        *("--set", "model.pretrained="),
        *("--set", "model.width_mult=0.25"),
        *("--set", "clip.size=32"),
        *("--set", "train.epochs=1"),
        *("--set", f"data.cache={drawn_data}/cache"),
    ]
    words = ["cpu-mobilenet-multi-t0.5", "--data", drawn_data, "-o", tmp_path, "--device", "cpu", *smaller]
    code, out, err = run_main("tsm-train", cli.main, monkeypatch, capsys, *words)
    assert (code, out) == (0, ""), err
    assert (tmp_path / "cpu-mobilenet-multi-t0.5" / "best.safetensors").exists()
