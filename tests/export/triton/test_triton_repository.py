"""`tsm-triton` through its entry point: what is written, what stays, exit codes."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from entry import Command, Outcome, command
from tiny_bundle import write_tiny_bundle

from tsm_export.commands.triton import main
from tsm_export.triton import repository
from tsm_runtime import __version__
from tsm_runtime.bundle.manifest import FORMAT_VERSION

ENGINE = {"library": "tensorrt", "version": "10.16.1.11", "batch": [1, 2, 4], "onnx_sha256": "0" * 64}


@pytest.fixture
def tsm_triton(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Command:
    """The command, in an empty folder that holds the bundle `tiny` only."""
    monkeypatch.chdir(tmp_path)
    write_tiny_bundle(Path("tiny"))
    return command("tsm-triton", main, monkeypatch, capfdbinary)


def tree(folder: Path | str) -> dict[str, bytes | None]:
    """Every file with its bytes, and every folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(Path(folder).rglob("*"))
    }


def names(folder: str = ".") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def with_plan(folder: Path, **engine: object) -> Path:
    """Add a plan to a bundle, as the export does."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "model.fp16.plan").write_bytes(b"plan")
    manifest["format_version"] = FORMAT_VERSION
    manifest["files"]["model.fp16.plan"] = {
        "sha256": hashlib.sha256(b"plan").hexdigest(), "precision": "fp16", "engine": ENGINE | engine
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@contextmanager
def disk_takes(num_bytes: int) -> Iterator[None]:
    """Let the system refuse files that grow beyond a size, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- what is written ------------------------------------------------------------------------------


def test_a_model_in_a_new_repository(tsm_triton: Command, tmp_path: Path) -> None:
    code, out, err = tsm_triton("tiny", "-o", "models")
    assert (code, out) == (0, "")
    assert err == (
        "models/tiny/1: model.fp32.onnx with onnxruntime on the CPU, batches of up to 8\n"
        f"start the server with: tritonserver --model-repository {tmp_path}/models\n"
    )
    assert sorted(tree("models")) == [
        "tiny", "tiny/1", "tiny/1/model.onnx", "tiny/action_scores.txt", "tiny/config.pbtxt",
        "tiny/scene_scores.txt", "tiny/tsm-triton.json",
    ]  # fmt: skip
    assert names() == ["models", "tiny"]
    assert Path("models/tiny").stat().st_mode & 0o777 == Path("models").stat().st_mode & 0o777


def test_all_options_reach_the_configuration(tsm_triton: Command) -> None:
    flags = ["--name", "m.1", "--platform", "tensorrt", "--precision", "fp16", "--device", "gpu"]
    with_plan(Path("tiny"))
    code, _, err = tsm_triton(
        *("tiny", "-o", "models", *flags, "--batch", "3,2", "--max-batch", 3),
        *("--delay", 7, "--instances", 2, "--model-version", 5),
    )
    assert code == 0
    assert "models/m.1/5: model.fp16.plan with tensorrt on the GPU, batches of up to 3\n" in err
    assert "for TensorRT 10.16.1.11: take the container of Triton that has this version\n" in err
    text = " ".join(Path("models/m.1/config.pbtxt").read_text().split())
    for part in (
        'name: "m.1" platform: "tensorrt_plan"',
        "preferred_batch_size: [2, 3] max_queue_delay_microseconds: 7",
        "max_batch_size: 3",
        "instance_group { count: 2 kind: KIND_GPU }",
    ):
        assert part in text
    assert Path("models/m.1/5/model.plan").read_bytes() == b"plan"


def test_models_of_several_calls_beside_what_is_there(tsm_triton: Command) -> None:
    Path("models/foreign/1").mkdir(parents=True)
    Path("models/foreign/1/model.pt").write_bytes(b"foreign")
    Path("models/notes.txt").write_text("mine")
    before = tree("models")
    assert tsm_triton("tiny", "-o", "models", "--name", "a").code == 0
    first = tree("models")
    assert tsm_triton("tiny", "-o", "models/", "--name", "b").code == 0
    assert {name: first[name] for name in before} == before
    assert {name: data for name, data in tree("models").items() if name.split("/")[0] != "b"} == first
    assert {name.split("/")[0] for name in tree("models")} == {"a", "b", "foreign", "notes.txt"}


def test_its_own_model_is_replaced(tsm_triton: Command) -> None:
    assert tsm_triton("tiny", "-o", "models").code == 0
    first = tree("models")
    Path("models/tiny/old.txt").write_text("of the old one")
    assert tsm_triton("tiny", "-o", "models").code == 0
    assert tree("models") == first
    assert tsm_triton("tiny", "-o", "models", "--max-batch", "2").code == 0
    assert "max_batch_size: 2\n" in Path("models/tiny/config.pbtxt").read_text()
    assert names("models") == ["tiny"]
    assert names() == ["models", "tiny"]


def test_an_empty_folder_of_the_name_is_taken(tsm_triton: Command) -> None:
    Path("models/tiny").mkdir(parents=True)
    assert tsm_triton("tiny", "-o", "models").code == 0
    assert Path("models/tiny/1/model.onnx").exists()


def test_nothing_unfinished_is_inside_the_repository(
    tsm_triton: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that starts or looks meanwhile would take it for a model, and not start."""
    seen: list[list[str]] = []
    label_file = repository.label_file

    def looking(output: str) -> str:
        seen.append(sorted(tree("models")))
        return label_file(output)

    monkeypatch.setattr(repository, "label_file", looking)
    assert tsm_triton("tiny", "-o", "models").code == 0
    assert seen == [[], []]


def test_a_repository_whose_folder_around_cannot_be_written(
    tsm_triton: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("models").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert tsm_triton("tiny", "-o", "models").code == 0
    assert names("models") == ["tiny"]
    assert names() == ["models", "tiny"]


# --- versions -------------------------------------------------------------------------------------


def test_another_version_beside_the_first(tsm_triton: Command) -> None:
    assert tsm_triton("tiny", "-o", "models").code == 0
    first = Path("models/tiny/1/model.onnx").stat()
    assert tsm_triton("tiny", "-o", "models", "--model-version", 3).code == 0
    kept = Path("models/tiny/1/model.onnx").stat()
    assert (kept.st_ino, kept.st_nlink) == (first.st_ino, 1)  # not copied, and nothing else holds it
    assert Path("models/tiny/3/model.onnx").exists()
    assert json.loads(Path("models/tiny/tsm-triton.json").read_text())["versions"].keys() == {"1", "3"}
    code, _, err = tsm_triton("tiny", "-o", "models", "--model-version", 2)
    assert code == 0
    assert "version 3 is there too, and Triton serves the highest\n" in err
    assert {path.name for path in Path("models/tiny").iterdir() if path.is_dir()} == {"1", "2", "3"}


def test_a_version_is_copied_where_it_cannot_be_linked(
    tsm_triton: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(source: str, target: str) -> None:
        raise OSError(95, "Operation not supported")

    assert tsm_triton("tiny", "-o", "models").code == 0
    first = tree("models/tiny/1")
    monkeypatch.setattr(os, "link", no_links)
    assert tsm_triton("tiny", "-o", "models", "--model-version", 2).code == 0
    assert tree("models/tiny/1") == tree("models/tiny/2") == first


def test_a_version_that_was_deleted_by_hand(tsm_triton: Command) -> None:
    for version in (1, 2):
        assert tsm_triton("tiny", "-o", "models", "--model-version", version).code == 0
    shutil.rmtree("models/tiny/2")
    write_tiny_bundle(Path("other"), interval_seconds=1.0)
    assert tsm_triton("other", "-o", "models", "--name", "tiny").code == 0  # in place of what is left
    assert [path.name for path in Path("models/tiny").iterdir() if path.is_dir()] == ["1"]


def test_versions_are_not_guessed(tsm_triton: Command) -> None:
    assert tsm_triton("tiny", "-o", "models", "--model-version", 2).code == 0
    before = tree("models")
    assert tsm_triton("tiny", "-o", "models") == (
        2,
        "",
        "tsm-triton: models/tiny has version 2; say which to write, as --model-version 3 for a new one\n",
    )
    assert tree("models") == before


def test_a_version_of_another_model_is_refused(tsm_triton: Command) -> None:
    assert tsm_triton("tiny", "-o", "models").code == 0
    before = tree("models")
    write_tiny_bundle(Path("other"), interval_seconds=1.0, scene_labels=["inside", "outside"])
    code, _, err = tsm_triton("other", "-o", "models", "--name", "tiny", "--model-version", 2)
    assert (code, err.count("\n")) == (2, 1)
    assert "has version 1 of another model (scene_labels and clip_spec differ)" in err
    with_plan(Path("tiny"))
    code, _, err = tsm_triton("tiny", "-o", "models", "--model-version", 2, "--platform", "tensorrt")
    assert (code, "(platform differ)" in err) == (2, True)
    assert tree("models") == before
    assert tsm_triton("other", "-o", "models", "--name", "tiny").code == 0  # in place of the only version


def test_a_version_that_takes_fewer_clips(tsm_triton: Command) -> None:
    with_plan(Path("tiny"))
    with_plan(write_tiny_bundle(Path("large")), batch=[1, 8, 16])
    plan = ("--platform", "tensorrt", "--name", "m", "-o", "models")
    assert tsm_triton("tiny", *plan).code == 0
    code, _, err = tsm_triton("large", *plan, "--model-version", 2)
    assert (code, "--max-batch 16: version 1 in models/m takes up to 4 clips" in err) == (2, True)
    assert tsm_triton("large", *plan, "--model-version", 2, "--max-batch", 4).code == 0


# --- wrong usage ----------------------------------------------------------------------------------


def one_line(outcome: Outcome, code: int, *words: str) -> None:
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (code, "", 1)
    for word in words:
        assert word in outcome.err


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "", "a b", "é", "-a", "a" * 129, "a\nb"])
def test_names_that_are_no_folder_of_triton(tsm_triton: Command, name: str) -> None:
    one_line(tsm_triton("tiny", "-o", "models", f"--name={name}"), 2, "model name", "--name")
    assert not Path("models").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--batch", "4,x"], "--batch '4,x'"),
        (["--batch", "0"], "--batch 0: expected 1 to 8"),
        (["--batch", "9"], "--batch 9: expected 1 to 8"),
        (["--max-batch", "0"], "--max-batch"),
        (["--delay", "-1"], "--delay"),
        (["--instances", "0"], "--instances"),
        (["--model-version", "0"], "--model-version"),
        (["--precision", "fp8"], "fp8"),
        (["--platform", "tensorrt", "--device", "cpu"], "--platform tensorrt runs on a GPU only"),
    ],
)
def test_wrong_usage(tsm_triton: Command, flags: list[str], words: str) -> None:
    outcome = tsm_triton("tiny", "-o", "models", *flags)
    assert (outcome.code, outcome.out) == (2, "")
    assert words in outcome.err
    assert not Path("models").exists()


def test_no_repository_or_one_that_is_a_file(tsm_triton: Command) -> None:
    assert tsm_triton("tiny").code == 2
    one_line(tsm_triton("tiny", "-o", "no/models"), 2, "there is no folder no")
    Path("models").write_text("a file")
    one_line(tsm_triton("tiny", "-o", "models"), 2, "models")
    assert Path("models").read_text() == "a file"


def test_a_folder_of_somebody_else_is_left_alone(tsm_triton: Command) -> None:
    Path("models/tiny/1").mkdir(parents=True)
    Path("models/tiny/config.pbtxt").write_text('name: "tiny"')
    Path("models/file").write_text("no model")
    Path("models/broken").mkdir()
    Path("models/broken/tsm-triton.json").write_text("{")
    before = tree("models")
    for name in ("tiny", "file", "broken"):
        outcome = tsm_triton("tiny", "-o", "models", "--name", name)
        one_line(outcome, 2, f"models/{name} was not written by this tsm-triton", "--name")
    assert tree("models") == before


def test_bundles_that_cannot_be_used(tsm_triton: Command) -> None:
    one_line(tsm_triton("nothing", "-o", "models"), 4, "nothing: no such bundle folder", "tsm-export")
    one_line(
        tsm_triton("tiny", "-o", "models", "--device", "gpu"),
        4,
        "has no model.fp16.onnx (it has model.fp32.onnx)",
        "tsm-export",
    )
    one_line(tsm_triton("tiny", "-o", "models", "--platform", "tensorrt"), 4, "has no model.fp16.plan")
    one_line(tsm_triton("tiny", "-o", "models", "--precision", "int8"), 4, "has no model.int8.onnx")
    with Path("tiny/model.fp32.onnx").open("ab") as file:
        file.write(b" ")
    one_line(tsm_triton("tiny", "-o", "models"), 4, "SHA-256 differs")
    assert not Path("models").exists()


def test_the_default_name_is_the_folders(tsm_triton: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("tiny")
    assert tsm_triton(".", "-o", "../models").code == 0
    assert names("../models") == ["tiny"]


def test_without_tritonclient(tsm_triton: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for missing in ("tritonclient", "tritonclient.grpc"):
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, missing, None)
            patched.delitem(
                sys.modules, "tritonclient.grpc", raising=False
            ) if missing == "tritonclient" else None
            one_line(tsm_triton("tiny", "-o", "models"), 5, "pip install 'tsm-tal[triton]'")
    assert not Path("models").exists()


# --- whole or not at all --------------------------------------------------------------------------


def test_a_full_disk(tsm_triton: Command) -> None:
    size = Path("tiny/model.fp32.onnx").stat().st_size
    with disk_takes(size - 1):
        one_line(tsm_triton("tiny", "-o", "models"), 7, "cannot write models/tiny: File too large")
    assert names() == ["tiny"]
    assert tsm_triton("tiny", "-o", "models").code == 0
    before = tree("models")
    with disk_takes(size - 1):
        assert tsm_triton("tiny", "-o", "models").code == 7
        assert tsm_triton("tiny", "-o", "models", "--model-version", "2").code == 7
    assert tree("models") == before
    assert names() == ["models", "tiny"]


def test_the_old_model_comes_back_when_the_exchange_fails(
    tsm_triton: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tsm_triton("tiny", "-o", "models").code == 0
    before = tree("models")
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    one_line(tsm_triton("tiny", "-o", "models"), 7, "cannot write models/tiny: Permission denied")
    assert tree("models") == before
    assert names() == ["models", "tiny"]


def test_an_interrupt_leaves_nothing(tsm_triton: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(output: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(repository, "label_file", interrupted)
    assert tsm_triton("tiny", "-o", "models") == (130, "", "tsm-triton: interrupted\n")
    assert names() == ["tiny"]


# --- the command itself ---------------------------------------------------------------------------


def test_version_and_help(tsm_triton: Command) -> None:
    assert tsm_triton("--version") == (0, f"tsm-tal {__version__}\n", "")
    assert "model repository" in tsm_triton("--help").out


@pytest.mark.parametrize("module", ["tsm_export.commands.triton", "tsm_export.commands.triton_client"])
def test_help_loads_next_to_nothing(module: str) -> None:
    program = (
        "import sys\nsys.argv = ['x', '--help']\n"
        f"from {module} import main\n"
        "try:\n    main()\nexcept SystemExit as left:\n    assert not left.code\n"
        "print('LOADED', *{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split()[1:])
    assert "typer" in loaded
    assert (
        loaded & {"numpy", "av", "tritonclient", "grpc", "google", "onnxruntime", "onnx", "torch", "rich"}
        == set()
    )
