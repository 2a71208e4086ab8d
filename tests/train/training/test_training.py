from __future__ import annotations

import csv
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from entry import run_main

from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.errors import BackendError, RunError, UsageError, VideoError
from tsm_runtime.formats.ground_truth import read_ground_truth
from tsm_runtime.models.choice import open_model
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run
from tsm_runtime.results import BACKGROUND
from tsm_train.commands import train as cli
from tsm_train.config import Config, load_config
from tsm_train.model.tsm import TSM
from tsm_train.training import module as training_run
from tsm_train.training import train as training
from tsm_train.training.checkpoint import load_checkpoint
from tsm_train.training.validation import predict

COLUMNS = [
    "epoch",
    "loss",
    "action_loss",
    "scene_loss",
    "learning_rate",
    "map",
    "map_0.5",
    "map_0.75",
    "map_0.95",
    "scene_top1",
    "seconds",
]
FILES = [
    "best.safetensors",
    "config.json",
    "curves.png",
    "labels.json",
    "last.safetensors",
    "metrics.csv",
    "tensorboard",
]


@pytest.fixture
def config_file(drawn_data: Path, tmp_path: Path, write_run: Any) -> Path:
    file: Path = write_run(tmp_path / "tiny.toml", drawn_data, epochs=2)
    return file


@pytest.fixture
def own_data(drawn_data: Path, tmp_path: Path) -> Path:
    """A copy of the drawn data that a test may spoil."""
    return Path(shutil.copytree(drawn_data, tmp_path / "data", ignore=shutil.ignore_patterns("runs")))


@pytest.fixture
def own_config(own_data: Path, tmp_path: Path, write_run: Any) -> Path:
    file: Path = write_run(tmp_path / "tiny.toml", own_data, epochs=2, cache=tmp_path / "cache")
    return file


def fit(config: Config, folder: Path) -> dict[str, float]:
    return training.train(config, folder, device="cpu", show_progress=False)


def annotated_labels(annotations: Path) -> list[str]:
    """Labels of the training videos, sorted, without the project's own reader."""
    database = json.loads(annotations.read_text())["database"].values()
    training = [video for video in database if video["subset"] == "training"]
    return sorted({entry["label"] for video in training for entry in video["annotations"]})


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as stream:
        return list(csv.DictReader(stream))


def validated(folder: Path) -> list[dict[str, str]]:
    """Rows of the epochs that ended with a validation."""
    return [row for row in rows_of(folder) if row["map"]]


def tsm_train(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> tuple[int, str]:
    """Run the entry point in this process; return exit code and standard error."""
    done = run_main("tsm-train", cli.main, monkeypatch, capsys, *words)
    assert done.out == ""
    return done.code, done.err


def change_truth(folder: Path, change: Any) -> None:
    path = folder / "ground_truth.json"
    truth = json.loads(path.read_text())
    change(truth["database"])
    path.write_text(json.dumps(truth))


def test_a_run_through_the_entry_point(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    code, said = tsm_train(monkeypatch, capsys, config_file, "-o", runs, "--device", "cpu")
    folder = runs / "tiny"
    assert code == 0
    assert sorted(path.name for path in folder.iterdir()) == FILES
    rows = rows_of(folder)
    assert list(rows[0]) == COLUMNS
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(0 < float(row["loss"]) < 10 for row in rows)
    lines = said.splitlines()
    assert [line.split("  ")[0] for line in lines[:3]] == [
        "epoch 1/2",
        "epoch 2/2",
        f"best epoch: map {float(rows[-1]['map']):.3f}",
    ]
    assert lines[3:] == [f"wrote {folder}/best.safetensors; next: tsm-export {folder}/best.safetensors"]

    config = load_config(config_file, ["data.format=activitynet"])  # what was found out is kept
    for name in ("best", "last"):
        checkpoint = load_checkpoint(folder / f"{name}.safetensors")
        assert checkpoint.config == config
        assert checkpoint.labels.actions == (*annotated_labels(Path(config.data.annotations)), BACKGROUND)
        checkpoint.model()
    assert load_checkpoint(folder / "last.safetensors").epoch == 2
    assert json.loads((folder / "labels.json").read_text())["scenes"] == list(checkpoint.labels.scenes)
    assert json.loads((folder / "config.json").read_text())["train"]["epochs"] == 2

    before = (folder / "last.safetensors").read_bytes()
    code, said = tsm_train(monkeypatch, capsys, config_file, "-o", runs)
    assert (code, said) == (
        2,
        f"tsm-train: {folder}: holds a trained run; choose another name, or --force to replace it\n",
    )
    assert (folder / "last.safetensors").read_bytes() == before
    code, _ = tsm_train(
        monkeypatch, capsys, config_file, "-o", runs, "--force", "--set", "train.epochs=1", "--device", "cpu"
    )
    assert (code, len(rows_of(folder))) == (0, 1)


def test_the_same_seed_gives_the_same_run(config_file: Path, tmp_path: Path) -> None:
    config = load_config(config_file)
    found = [fit(config, tmp_path / name) for name in ("a", "b")]
    assert found[0] == found[1]
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in rows_of(tmp_path / n)] for n in "ab"]
    assert rows[0] == rows[1]
    first, second = (load_checkpoint(tmp_path / name / "last.safetensors").weights for name in ("a", "b"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    fit(load_config(config_file, ["train.seed=1"]), tmp_path / "c")
    assert rows_of(tmp_path / "c")[0]["loss"] != rows[0][0]["loss"]


def test_what_it_is_shown_it_learns(learnt_run: Path) -> None:
    rows = validated(learnt_run)
    assert [row["epoch"] for row in rows] == ["30", "60"]
    assert float(rows[1]["loss"]) < 0.6  # log(4) + log(3) / 2 = 1.9 knows nothing
    checkpoint = load_checkpoint(learnt_run / "best.safetensors")
    assert checkpoint.metrics["map_0.5"] > 0.6
    assert checkpoint.metrics["scene_top1"] == 1.0


def test_training_and_deployment_see_the_same(drawn_data: Path, learnt_run: Path, tmp_path: Path) -> None:
    """The exported bundle in the runtime's pipeline finds what validation found."""
    from tsm_export.export import export_bundle

    checkpoint = load_checkpoint(learnt_run / "best.safetensors")
    export_bundle(learnt_run / "best.safetensors", tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    member = Member(
        backend=open_model(bundle, "model.fp32.onnx", num_threads=1),
        spec=bundle.manifest.clip_spec,
        action_labels=bundle.manifest.action_labels,
        scene_labels=bundle.manifest.scene_labels,
    )
    model, spec = checkpoint.model(), checkpoint.config.clip_spec
    num_segments = 0
    for video in sorted((drawn_data / "videos").iterdir()):
        validated = predict(model, video, video.stem, checkpoint.labels, spec)
        deployed = run(video, member, Options(batch_size=3))
        assert len(deployed.segments) == len(validated.segments)
        for ours, theirs in zip(deployed.segments, validated.segments, strict=True):
            assert (ours.label, ours.start_seconds, ours.end_seconds) == (
                theirs.label,
                theirs.start_seconds,
                theirs.end_seconds,
            )
            assert ours.score == pytest.approx(theirs.score, abs=1e-4)
        assert [s.label for s in deployed.scenes] == [s.label for s in validated.scenes]
        for our_scene, their_scene in zip(deployed.scenes, validated.scenes, strict=True):
            assert our_scene.score == pytest.approx(their_scene.score, abs=1e-4)
        num_segments += len(deployed.segments)
    assert num_segments >= 4


def test_the_last_epoch_is_always_validated(config_file: Path, tmp_path: Path) -> None:
    overrides = ["train.epochs=3", "train.validate_every=2"]
    fit(load_config(config_file, overrides), tmp_path / "two")
    assert [row["epoch"] for row in validated(tmp_path / "two")] == ["2", "3"]
    rows = rows_of(tmp_path / "two")
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert all(float(row["loss"]) > 0 for row in rows)
    fit(load_config(config_file, ["train.validate_every=1000"]), tmp_path / "end")
    assert [row["epoch"] for row in validated(tmp_path / "end")] == ["2"]


def test_of_equal_epochs_the_later_is_the_best(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.5, 0.7, 0.7, 0.2])
    monkeypatch.setattr(training_run, "score_results", lambda truth, results: {"map": next(scores)})
    assert fit(load_config(config_file, ["train.epochs=4"]), tmp_path / "run") == {"map": 0.7}
    assert load_checkpoint(tmp_path / "run" / "best.safetensors").epoch == 3
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").epoch == 4


def test_videos_without_scene_train_the_actions_alone(
    own_data: Path, own_config: Path, tmp_path: Path
) -> None:
    change_truth(own_data, lambda database: [video.pop("scene") for video in database.values()])
    fit(load_config(own_config, ["train.epochs=1"]), tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").labels.scenes == ()
    assert list(rows_of(tmp_path / "run")[0]) == [name for name in COLUMNS if not name.startswith("scene")]


def test_a_loss_that_is_not_finite_before_any_epoch(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = tsm_train(
        monkeypatch,
        capsys,
        config_file,
        "-o",
        tmp_path,
        "--device",
        "cpu",
        "--set",
        "train.learning_rate=1e30",
    )
    assert code == 7
    first, second = said.splitlines()
    assert first.startswith("tsm-train: the loss became ")
    assert "in epoch 1; lower train.learning_rate (now 1e+30)" in first
    assert second == "no epoch was stored yet"
    assert not list(tmp_path.glob("tiny/*.safetensors"))


def test_a_loss_that_becomes_nan_later_leaves_the_last_epoch(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = TSM.forward
    monkeypatch.setattr(TSM, "forward", lambda self, frames: spoilt(self, *forward(self, frames)))
    calls: list[int] = []

    def spoilt(model: TSM, action: torch.Tensor, scene: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if model.training:
            calls.append(1)
        return (action * float("nan") if len(calls) > 6 else action), scene

    folder = tmp_path / "run"
    with pytest.raises(
        RunError, match=r"the loss became nan in epoch 2(.|\n)*last\.safetensors holds epoch 1"
    ):
        fit(load_config(config_file), folder)
    assert load_checkpoint(folder / "last.safetensors").epoch == 1
    assert len(rows_of(folder)) == 1


def test_weights_ruined_by_the_last_step_are_not_stored(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = training_run.TrainingRun.on_validation_start

    def ruin_and_check(run: Any) -> None:
        with torch.no_grad():
            run.model.action_head.bias.fill_(float("inf"))
        check(run)

    monkeypatch.setattr(training_run.TrainingRun, "on_validation_start", ruin_and_check)
    with pytest.raises(RunError, match="the weights became nan or infinite in epoch 1"):
        fit(load_config(config_file), tmp_path / "run")
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_a_full_disk(config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, data: bytes | str) -> None:
        raise RunError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr("tsm_train.tensor_files.write_whole", refuse)
    with pytest.raises(RunError, match="No space left"):
        fit(load_config(config_file), tmp_path / "run")


def test_a_folder_that_cannot_be_made(config_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot make the run's folder"):
        fit(load_config(config_file), tmp_path / "file" / "run")


def test_memory_that_does_not_suffice(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training_run.TrainingRun, "training_step", too_much)
    with pytest.raises(RunError, match=r"lower train\.batch_size \(now 8\)"):
        fit(load_config(config_file), tmp_path / "run")


def test_interrupted(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import signal

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training_run, "predict", interrupt)
    code, _ = tsm_train(monkeypatch, capsys, config_file, "-o", tmp_path / "runs", "--device", "cpu")
    assert code == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_device_that_is_not_there(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match="no CUDA device"):
        training.train(load_config(config_file), tmp_path / "run", device="cuda")
    code, said = tsm_train(monkeypatch, capsys, config_file, "--device", "tpu")
    assert (code, said) == (2, "tsm-train: --device 'tpu': expected auto, cpu or cuda\n")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.validation_subset=val"], r"no video of subset 'val'; .*'training', 'validation'"),
        (["data.training_subset=train"], r"no video of subset 'train'; .*'training', 'validation'"),
        (["data.annotations=/nowhere.json"], r"/nowhere\.json: cannot be read: No such file"),
        (["data.videos=/nowhere"], "/nowhere: there is no such folder of videos"),
        (["model.pretrained=/nowhere.pth"], r"no file /nowhere\.pth"),
        (["clip.interval_seconds=60"], "no training video is as long as one interval of 60 s"),
    ],
)
def test_what_does_not_fit_is_reported_before_training(
    config_file: Path, tmp_path: Path, overrides: list[str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        fit(load_config(config_file, overrides), tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.*"))


def test_annotations_that_cannot_train(own_data: Path, own_config: Path, tmp_path: Path) -> None:
    truth = own_data / "ground_truth.json"
    change_truth(own_data, lambda database: database["validation_0000"].update(annotations=[]))
    with pytest.raises(UsageError, match="subset 'validation': no action in its 1 video"):
        fit(load_config(own_config), tmp_path / "run")
    change_truth(
        own_data, lambda database: database["training_0000"]["annotations"][0].update(segment=[3, 1])
    )
    with pytest.raises(UsageError, match=r"'training_0000', entry 1: segment \[3\.0, 1\.0\] ends before"):
        fit(load_config(own_config), tmp_path / "run")
    truth.write_text("[]")
    with pytest.raises(UsageError, match='neither "database"'):
        fit(load_config(own_config), tmp_path / "run")


def test_an_annotated_validation_video_that_is_missing(
    own_data: Path, own_config: Path, tmp_path: Path
) -> None:
    (own_data / "videos" / "validation_0000.mp4").unlink()
    with pytest.raises(UsageError, match=r"validation_0000\.\*: annotated, but there is no such video"):
        fit(load_config(own_config), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unreadable_training_videos_are_named_left_out_and_counted(
    own_data: Path, own_config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    videos = own_data / "videos"
    (videos / "training_0001.mp4").write_bytes(b"no video at all")
    fit(load_config(own_config, ["train.epochs=1"]), tmp_path / "run")
    first, second, third = caplog.messages
    assert first.startswith(f"{videos}/training_0001.mp4: ")
    assert first.endswith("; skipped")
    assert second == "skipped: 1 of 4 videos"
    assert third.startswith("epoch 1/1")
    for number in (0, 2):
        (videos / f"training_000{number}.mp4").write_bytes(b"no video at all")
    with pytest.raises(VideoError, match=r"no training video can be read \(3 failed\)"):
        fit(load_config(own_config), tmp_path / "other")


def test_a_validation_video_shorter_than_an_interval_does_not_end_the_training(
    own_data: Path, own_config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from tsm_train.synthetic.video import draw_video

    video = own_data / "videos" / "validation_0000.mp4"
    draw_video(video, seed=1, seconds=0.4, width=96, height=72)
    label = annotated_labels(own_data / "ground_truth.json")[0]
    change_truth(
        own_data,
        lambda database: database["validation_0000"].update(
            duration=0.4, annotations=[{"label": label, "segment": [0.0, 0.4]}]
        ),
    )
    fit(load_config(own_config), tmp_path / "run")
    named, *epochs = caplog.messages
    assert named.startswith(f"validation counts this video as one where nothing is found: {video}: ")
    assert len(epochs) == 2
    assert all("1 of 1 video failed" in line for line in epochs)
    assert [row["map"] for row in rows_of(tmp_path / "run")] == ["0", "0"]


def test_an_unreadable_validation_video_is_named_and_skipped(
    own_data: Path, own_config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = own_data / "videos" / "training_0002.mp4"
    broken.write_bytes(b"no video at all")
    change_truth(own_data, lambda database: database["training_0002"].update(subset="validation"))
    fit(load_config(own_config, ["train.epochs=1", 'data.accept=["only-in-validation"]']), tmp_path / "run")
    said = caplog.messages
    assert said[0].startswith(f"{broken}: ")
    assert "skipped: 1 of 4 videos" in said
    assert "failed" not in said[-1]


def test_labels_that_only_validation_has(
    own_data: Path, own_config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change_truth(own_data, lambda db: db["validation_0000"]["annotations"][0].update(label="flying"))
    with pytest.raises(UsageError, match=r"'flying' is in validation and not in training"):
        fit(load_config(own_config, ["train.epochs=1"]), tmp_path / "run")
    accepted = ["train.epochs=1", 'data.accept=["only-in-validation"]']
    fit(load_config(own_config, accepted), tmp_path / "run")
    first = caplog.messages[0]
    assert first.endswith("'flying' is in validation and not in training: it cannot be learnt")
    assert "flying" not in load_checkpoint(tmp_path / "run" / "last.safetensors").labels.actions


def test_wrong_usage_answers_without_torch(tmp_path: Path) -> None:
    script = (
        "import sys; from tsm_train.commands.train import main\n"
        "try: main()\nfinally: assert 'torch' not in sys.modules"
    )
    for words, code, said in (
        (["--help"], 0, "Train action and scene heads together"),
        (["--version"], 0, "tsm-tal "),
        ([], 2, "Missing argument"),
        (["none.toml"], 2, "tsm-train: none.toml: cannot be read: No such file or directory"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert said in done.stdout + done.stderr


def test_training_without_its_extra_names_it(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "tsm_train.training.train")
    monkeypatch.setitem(sys.modules, "lightning", None)
    code, said = tsm_train(monkeypatch, capsys, config_file, "-o", tmp_path)
    assert (code, said) == (5, "tsm-train: lightning is not installed: pip install 'tsm-tal[train]'\n")


def test_progress_on_a_terminal(config_file: Path, tmp_path: Path) -> None:
    """A bar and the epochs' lines, all on standard error, and nothing of any library's own talk."""
    terminal, side = pty.openpty()
    command = [str(Path(sys.executable).with_name("tsm-train")), str(config_file), "-o", str(tmp_path)]
    with subprocess.Popen(
        [*command, "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=side,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    ) as process:
        os.close(side)
        shown = b""
        while part := _read(terminal):
            shown += part
        printed = process.stdout.read() if process.stdout else b""
    os.close(terminal)
    text = shown.decode()
    assert (process.returncode, printed) == (0, b""), text
    assert "epoch 1/2 " in text
    assert "loss:" in text
    assert "epoch 2/2  loss" in text
    for noise in ("Warning", "warn", "GPU", "TPU", "Tip", "litlogger", "http"):
        assert noise not in text


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux says so when the other side has closed
        return b""


def test_truth_of_the_drawn_data_is_what_these_tests_expect(drawn_data: Path) -> None:
    truth = read_ground_truth(drawn_data / "ground_truth.json")
    assert set(truth.subset("validation").action_labels) <= set(truth.subset("training").action_labels)
