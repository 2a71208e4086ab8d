"""`tsm-verify` through its entry point: exit code, whole output, and what it leaves in the manifest."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from entry import Command, Outcome, command
from fakes import ACTION_CENTRES, SCENE_CENTRES, SHARPNESS
from media import write_levels

from tsm_runtime import __version__
from tsm_runtime.backends.base import Backend, BlockingBackend, Scores
from tsm_runtime.backends.cuda.gpu import Gpu
from tsm_runtime.backends.onnxruntime_module import integer_instructions
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.bundle.manifest import (
    FORMAT_VERSION,
    EngineInfo,
    Manifest,
    ModelFile,
    encode_manifest,
    sha256,
)
from tsm_runtime.bundle.reports import Verification
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.commands.verify import main
from tsm_runtime.errors import BackendError
from tsm_runtime.verification import record, variants
from tsm_runtime.verification import verify as run
from tsm_runtime.verification.clip_sets import noise_clips, video_clips

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from tiny_bundle import NUM_FRAMES, SIZE, tiny_manifest, tiny_model, with_constants  # noqa: E402

DARK, GREY, BRIGHT = 20, 128, 235
SCENE = [(DARK, 1.0), (GREY, 0.5), (BRIGHT, 1.5)]
"""Six clips at t = 0.5: dark from 0 to 1, bright from 1.5 to 3."""
SPEC = ClipSpec(interval_seconds=0.5, num_frames=NUM_FRAMES, size=SIZE)
MAIN = "from tsm_runtime.commands.verify import main; main()"


@pytest.fixture
def tsm_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Command:
    """The command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return command("tsm-verify", main, monkeypatch, capfdbinary)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_levels(tmp_path_factory.mktemp("media") / "scene.mp4", SCENE)


# --- models and bundles ---------------------------------------------------------------------------


def off_model() -> Any:
    """The sharpness is off by one percent."""
    return with_constants(sharpness=-SHARPNESS * 1.01)


def wrong_model() -> Any:
    """Says bright for dark."""
    return with_constants(action_centres=[[0.9, 0.1, 0.5]])


def nan_model() -> Any:
    return with_constants(scene_centres=[[np.nan, 1.0]])


def leaking_model() -> Any:
    """A clip's brightness is moved by that of its neighbours in the batch."""
    model = tiny_model()
    nodes = list(model.graph.node)
    place = [node.op_type for node in nodes].index("Div")
    nodes[place].output[0] = "own"
    added = [
        helper.make_node("ReduceMean", ["own"], ["mean_of_all"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["own", "mean_of_all"], ["apart"]),
        helper.make_node("Add", ["own", "apart"], ["brightness"]),
    ]
    del model.graph.node[:]
    model.graph.node.extend([*nodes[: place + 1], *added, *nodes[place + 1 :]])
    return model


def squeezing_model() -> Any:
    """Gives one row whatever the number of clips, which onnxruntime cannot tell before it runs."""
    model = tiny_model()
    nodes = list(model.graph.node)
    place = [node.op_type for node in nodes].index("Unsqueeze")
    nodes[place].output[0] = "full_column"
    added = [
        helper.make_node("ReduceMax", ["float"], ["brightest"], keepdims=0),
        helper.make_node("Mul", ["brightest", "nothing"], ["zero"]),
        helper.make_node("Exp", ["zero"], ["one"]),
        helper.make_node("Cast", ["one"], ["whole_one"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["whole_one", "first"], ["end"]),
        helper.make_node("Slice", ["full_column", "first", "end", "first"], ["column"]),
    ]
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.float32(0), "nothing"), numpy_helper.from_array(np.array([0]), "first")]
    )
    del model.graph.node[:]
    model.graph.node.extend([*nodes[: place + 1], *added, *nodes[place + 1 :]])
    return model


def wider_model() -> Any:
    """Knows four actions."""
    model = with_constants(action_centres=[[0.1, 0.9, 0.5, 0.3]])
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 4
    return model


def write_bundle(folder: Path, files: dict[str, tuple[object, str]], **changes: object) -> Path:
    """Write a bundle of model name to (model or bytes, precision); the reference is the tiny model."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = {}
    for name, (model, precision) in {"model.fp32.onnx": (tiny_model(), "fp32"), **files}.items():
        data = model if isinstance(model, bytes) else model.SerializeToString()  # type: ignore[attr-defined]
        (folder / name).write_bytes(data)
        entries[name] = {"sha256": sha256(data), "precision": precision}
    raw = {**tiny_manifest(b""), "format_version": FORMAT_VERSION, "files": entries, **changes}
    (folder / "manifest.json").write_bytes(encode_manifest(msgspec.convert(raw, Manifest)))
    return folder


def softmax(mean: npt.NDArray[np.float64], centres: tuple[float, ...], sharpness: float) -> Any:
    weights = np.exp(-sharpness * (mean[:, None] - np.array(centres)) ** 2)
    return weights / weights.sum(axis=1, keepdims=True)


def words(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()]


# --- a good bundle --------------------------------------------------------------------------------


def test_a_good_bundle(tsm_verify: Command, tmp_path: Path, video: Path) -> None:
    files = {"model.fp16.onnx": (tiny_model(), "fp16"), "model.int8.onnx": (off_model(), "int8")}
    bundle = write_bundle(tmp_path / "good", files)
    identity = load_bundle(bundle).manifest_sha256
    code, out, err = tsm_verify("good", "--video", video)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("good: model.fp32.onnx on onnxruntime ")
    assert lines[0].endswith(" CPU, fp32, one clip per call, is the reference")
    rows = words(out)
    same = ["0.0e+00", "0.0e+00", "100.00"]
    assert rows[4:11] == [
        ["model.fp32.onnx", "noise", "action", *same, "passed"],
        ["1", "and", "4", "a", "call", "8", "clips", "scene", *same],
        [],
        ["model.fp16.onnx", "noise", "action", *same, "passed"],
        ["1", "and", "4", "a", "call", "8", "clips", "scene", *same],
        ["scene.mp4", "action", *same, "100.00", "passed"],
        ["6", "clips", "scene", *same, "2", "and", "2,", "2", "shared"],
    ]
    assert lines[-1] == "passed"
    assert "not run" not in out
    assert "FAILED" not in out

    verified = load_bundle(bundle)
    assert verified.manifest_sha256 == identity
    (kept,) = verified.manifest.verifications
    assert [(f.file, f.input, f.num_clips, f.passed) for f in kept.files] == [
        ("model.fp32.onnx", "noise", 8, True),
        ("model.fp16.onnx", "noise", 8, True),
        ("model.fp16.onnx", "scene.mp4", 6, True),
        ("model.int8.onnx", "noise", 8, True),
        ("model.int8.onnx", "scene.mp4", 6, True),
    ]
    assert [f.segment_agreement for f in kept.files] == [None, None, 1.0, None, 1.0]
    assert kept.files[2].max_abs_error == {"action_scores": 0.0, "scene_scores": 0.0}
    assert [f.sha256 for f in kept.files] == [verified.manifest.files[f.file].sha256 for f in kept.files]
    assert kept.files[1].backend.startswith("onnxruntime ")
    assert kept.files[3].backend.endswith(f"int8, {integer_instructions()}")
    assert f"model.int8.onnx ran on {kept.files[3].backend}" in out
    assert f"tsm-tal {__version__}" in kept.machine


def test_json_tells_the_errors(tsm_verify: Command, tmp_path: Path, video: Path) -> None:
    """Against the scores by formula, in double precision."""
    write_bundle(tmp_path / "b", {"model.fp16.onnx": (off_model(), "fp16")})
    code, out, err = tsm_verify("b", "--video", video, "--json")
    assert (code, err) == (0, "")
    reported = json.loads(out)
    assert reported["passed"] is True
    assert reported["compared"] == ["model.fp16.onnx"]
    assert reported["failures"] == {}
    assert reported["problems"] == []
    assert reported["bundle_sha256"] == load_bundle(Path("b")).manifest_sha256
    assert reported["segments"] == [
        {"file": "model.fp16.onnx", "input": "scene.mp4", "reference": 2, "file_has": 2, "shared": 2}
    ]
    kept = load_bundle(Path("b")).manifest.verifications[0]
    assert msgspec.convert(reported["verification"], Verification) == kept
    for entry, clips in zip(kept.files[1:], (noise_clips(SPEC), video_clips(video, SPEC, 64)), strict=True):
        mean = clips.frames.reshape(len(clips.frames), -1).mean(axis=1) / 255
        for name, centres in (("action_scores", ACTION_CENTRES), ("scene_scores", SCENE_CENTRES)):
            one, other = softmax(mean, centres, SHARPNESS), softmax(mean, centres, 1.01 * SHARPNESS)
            error = np.abs(one - other)
            assert entry.max_abs_error[name] == pytest.approx(error.max(), abs=3e-6)
            relative = (error / np.maximum(np.maximum(one, other), 0.01)).max()
            assert entry.max_rel_error[name] == pytest.approx(relative, abs=1e-4)
            assert entry.top1_agreement[name] == 1
    assert max(kept.files[2].max_abs_error.values()) > 1e-4  # it is off


def test_the_number_of_clips(tsm_verify: Command, tmp_path: Path, video: Path) -> None:
    write_bundle(tmp_path / "b", {"model.fp16.onnx": (tiny_model(), "fp16")})
    code, out, _ = tsm_verify("b", "--video", video, "--clips", 2)
    assert code == 0
    rows = words(out)
    assert ["2", "clips", "scene", "0.0e+00", "0.0e+00", "100.00", "1", "and", "1,", "1", "shared"] in rows


def test_no_segments_at_all_is_agreement(tsm_verify: Command, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", {"model.int8.onnx": (tiny_model(), "int8")})
    grey = write_levels(tmp_path / "grey.mp4", [(GREY, 1.0)])
    code, out, _ = tsm_verify("b", "--video", grey)
    assert code == 0
    rows = words(out)
    place = rows.index(["2", "clips", "scene", "0.0e+00", "0.0e+00", "100.00", "none", "in", "either"])
    assert rows[place - 1] == ["grey.mp4", "action", "0.0e+00", "0.0e+00", "100.00", "100.00", "passed"]


# --- bad files ------------------------------------------------------------------------------------

ZOO: dict[str, tuple[Callable[[], object], str]] = {
    "model.fp16.onnx": (tiny_model, "fp16"),
    "model.off.onnx": (off_model, "fp32"),
    "model.wrong.onnx": (wrong_model, "int8"),
    "model.nan.onnx": (nan_model, "fp32"),
    "model.wider.onnx": (wider_model, "fp32"),
    "model.squeezing.onnx": (squeezing_model, "fp32"),
    "model.leaking.onnx": (leaking_model, "fp32"),
    "model.altered.onnx": (tiny_model, "fp32"),
    "model.text.onnx": (lambda: b"no model", "fp32"),
    "model.gone.onnx": (tiny_model, "fp32"),
    "model.fp16.plan": (lambda: b"a plan", "fp16"),
    "model.altered.plan": (lambda: b"another", "fp16"),
}


def without_gpu(bundle: Bundle, name: str, *, num_threads: int | None = None, device: int = 0) -> Backend:
    if name.endswith(".plan"):
        raise BackendError("no GPU here")
    return open_really(bundle, name, num_threads=num_threads)


open_really = variants.open_model


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with one file of each kind of trouble."""
    files = {name: (make(), precision) for name, (make, precision) in ZOO.items()}
    folder = write_bundle(tmp_path_factory.mktemp("models") / "zoo", files)
    for name in ("model.altered.onnx", "model.altered.plan"):
        (folder / name).write_bytes((folder / name).read_bytes() + b"!")
    (folder / "model.gone.onnx").unlink()
    return folder


def test_a_bad_file_fails_and_the_others_go_on(
    tsm_verify: Command, zoo: Path, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "open_model", without_gpu)
    shutil.copytree(zoo, tmp_path / "zoo")
    code, out, err = tsm_verify("zoo", "--video", video, "--json")
    bad = [
        "altered.onnx", "altered.plan", "gone.onnx", "leaking.onnx", "nan.onnx", "off.onnx",
        "squeezing.onnx", "text.onnx", "wider.onnx", "wrong.onnx",
    ]  # fmt: skip
    listed = ", ".join(f"model.{name}" for name in bad)
    assert (code, err) == (6, f"tsm-verify: zoo: failed: {listed}; do not use what failed, export it again\n")
    reported = json.loads(out)
    assert reported["passed"] is False
    assert reported["compared"] == [
        "model.fp16.onnx", "model.leaking.onnx", "model.off.onnx", "model.wrong.onnx"
    ]  # fmt: skip
    failures = reported["failures"]
    assert sorted(failures) == [
        f"model.{name}" for name in bad if name not in ("leaking.onnx", "off.onnx", "wrong.onnx")
    ]
    assert "SHA-256 differs" in failures["model.altered.onnx"]
    assert "SHA-256 differs" in failures["model.altered.plan"]
    assert "not readable" in failures["model.gone.onnx"]
    assert "does not load in onnxruntime" in failures["model.text.onnx"]
    assert "does not fit the manifest" in failures["model.wider.onnx"]
    assert failures["model.nan.onnx"] == (
        "model.nan.onnx gives 2 of 2 scene_scores that are not finite on noise, in a call of 1"
    )
    assert failures["model.squeezing.onnx"] == (
        "model.squeezing.onnx gives outputs of another shape on noise: expected {'action_scores': (4, 3),"
        " 'scene_scores': (4, 2)}, got {'action_scores': (1, 3), 'scene_scores': (1, 2)}"
    )
    assert reported["verification"]["not_run"] == {"model.fp16.plan": "no GPU here"}
    problems = {(entry["file"], entry["input"]): entry["problem"] for entry in reported["problems"]}
    assert problems["model.off.onnx", "scene.mp4"].endswith("_scores: error 0.0011, allowed is 0.0001")
    assert ("model.leaking.onnx", "scene.mp4") in problems
    # dark is called bright and the other way round: only the grey clip of six is right, and no segment
    wrong = [entry["problem"] for entry in reported["problems"] if entry["file"] == "model.wrong.onnx"]
    assert wrong == [
        "action_scores: top-1 agreement 16.7 %, at least 90 % is required",
        "segment agreement 0.0 %, at least 50 % is required",
    ]
    kept = load_bundle(tmp_path / "zoo").manifest.verifications[0]
    assert kept.not_run == reported["verification"]["not_run"]
    passed = {
        name: all(f.passed for f in kept.files if f.file == name) for name in {f.file for f in kept.files}
    }
    assert sorted(name for name, good in passed.items() if not good) == [f"model.{name}" for name in bad]
    assert sorted(name for name, good in passed.items() if good) == ["model.fp16.onnx", "model.fp32.onnx"]


def test_the_table_tells_what_failed(
    tsm_verify: Command, zoo: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "open_model", without_gpu)
    before = (zoo / "manifest.json").read_bytes()
    code, out, _ = tsm_verify(zoo, "--video", video, "--no-write")
    assert code == 6
    lines = out.splitlines()
    problem = "segment agreement 0.0 %, at least 50 % is required"
    assert f"FAILED  model.wrong.onnx on scene.mp4: {problem}" in lines
    assert any(line.startswith("FAILED  model.nan.onnx: model.nan.onnx gives 2 of 2") for line in lines)
    assert "not run  model.fp16.plan: no GPU here" in lines
    assert lines[-1] == "FAILED"
    row = next(row for row in words(out) if row[:1] == ["model.fp16.onnx"])
    assert row == ["model.fp16.onnx", "noise", "action", "0.0e+00", "0.0e+00", "100.00", "passed"]
    assert [row[-1] for row in words(out) if row[:1] == ["scene.mp4"]].count("FAILED") == 3
    assert (zoo / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(("tolerance", "code"), [("0.01", 0), ("1e-9", 6)])
def test_a_tolerance(tsm_verify: Command, tmp_path: Path, video: Path, tolerance: str, code: int) -> None:
    write_bundle(tmp_path / "b", {"model.off.onnx": (off_model(), "fp32")})
    assert tsm_verify("b", "--video", video).code == 6
    outcome = tsm_verify("b", "--video", video, "--tolerance", tolerance)
    assert outcome.code == code
    (kept,) = load_bundle(tmp_path / "b").manifest.verifications  # the newer one alone
    assert {f.tolerance for f in kept.files} == {float(tolerance)}


# --- the reference --------------------------------------------------------------------------------


def test_nothing_but_the_reference(tsm_verify: Command, tmp_path: Path, video: Path) -> None:
    write_bundle(tmp_path / "b", {})
    code, out, err = tsm_verify("b", "--video", video)
    assert (code, err) == (0, "")
    assert out.splitlines()[-2:] == [
        "nothing but the reference could be run here: no other file was compared with it",
        "passed",
    ]


def test_a_reference_whose_clips_depend_on_one_another(
    tsm_verify: Command, tmp_path: Path, video: Path
) -> None:
    write_bundle(tmp_path / "b", {"model.fp32.onnx": (leaking_model(), "fp32")})
    code, out, err = tsm_verify("b", "--video", video)
    assert code == 6
    assert "FAILED  model.fp32.onnx on noise: action_scores: error" in out
    assert err == "tsm-verify: b: failed: model.fp32.onnx; do not use what failed, export it again\n"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"model.fp32.onnx": (b"text", "fp32")}, "model.fp32.onnx does not load in onnxruntime"),
        ({"model.fp32.onnx": (nan_model, "fp32")}, "the reference model.fp32.onnx gives 2 of 2 scene_scores"),
    ],
)
def test_a_reference_that_is_of_no_use(
    tsm_verify: Command, tmp_path: Path, video: Path, files: dict[str, Any], message: str
) -> None:
    made = {name: (model() if callable(model) else model, p) for name, (model, p) in files.items()}
    before = (write_bundle(tmp_path / "b", made) / "manifest.json").read_bytes()
    code, out, err = tsm_verify("b", "--video", video)
    assert (code, out) == (4, "")
    assert message in err
    assert (tmp_path / "b" / "manifest.json").read_bytes() == before


def test_unusable_bundles(tsm_verify: Command, tmp_path: Path, video: Path) -> None:
    bundle = write_bundle(tmp_path / "b", {"model.fp16.onnx": (tiny_model(), "fp16")})
    (bundle / "model.fp32.onnx").write_bytes(b"altered")
    outcomes = {
        "altered": tsm_verify("b", "--video", video),
        "missing": tsm_verify("nowhere", "--video", video),
    }
    manifest = load_bundle(bundle).manifest
    files = {"model.fp16.onnx": manifest.files["model.fp16.onnx"]}
    (bundle / "manifest.json").write_bytes(encode_manifest(msgspec.structs.replace(manifest, files=files)))
    outcomes["no reference"] = tsm_verify("b", "--video", video)
    assert {(outcome.code, outcome.out) for outcome in outcomes.values()} == {(4, "")}
    assert "SHA-256 differs" in outcomes["altered"].err
    assert "no such bundle folder" in outcomes["missing"].err
    assert "has no model.fp32.onnx (it has model.fp16.onnx)" in outcomes["no reference"].err


def test_without_onnxruntime_nothing_can_be_run(
    tsm_verify: Command, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(tmp_path / "b", {})
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, out, err = tsm_verify("b", "--video", video)
    assert (code, out) == (5, "")
    assert "pip install 'tsm-tal[cpu]'" in err


# --- engines --------------------------------------------------------------------------------------


class Engine(BlockingBackend):
    """What a plan's backend would be: takes 2 to 8 clips, and is off by so much."""

    name = "TensorRT 10.16, some GPU"

    def __init__(self, onnxruntime: Backend, error: float) -> None:
        self.onnxruntime, self.error = onnxruntime, error
        self.batch_sizes: list[int] = []

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        self.batch_sizes.append(len(frames))
        action, scene, *_ = self.onnxruntime.infer(frames)
        return Scores(action + np.float32([self.error, -self.error, 0]), scene)


HERE = Gpu(name="some GPU", compute_capability="9.0")


def write_plan(folder: Path, engine: EngineInfo, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle with a plan, on a machine with TensorRT 10.16 and that GPU."""
    write_bundle(folder, {"model.fp16.plan": (b"a plan", "fp16")})
    manifest = load_bundle(folder).manifest
    entry = msgspec.structs.replace(manifest.files["model.fp16.plan"], engine=engine)
    files = {**manifest.files, "model.fp16.plan": entry}
    (folder / "manifest.json").write_bytes(encode_manifest(msgspec.structs.replace(manifest, files=files)))
    monkeypatch.setattr(run, "find_gpu", lambda device: HERE)
    monkeypatch.setattr(run, "import_library", lambda library: SimpleNamespace(__version__="10.16.1"))
    return folder


@pytest.mark.parametrize(("error", "code"), [(0.045, 0), (0.055, 6)])
def test_an_engine_within_its_profile(
    tsm_verify: Command,
    tmp_path: Path,
    video: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: float,
    code: int,
) -> None:
    info = EngineInfo(library="tensorrt", version="10.16.1", batch=(2, 5, 8), onnx_sha256="")
    folder = write_plan(tmp_path / "b", info, monkeypatch)
    engines: list[Engine] = []

    def open_here(bundle: Bundle, name: str, *, num_threads: int | None = None, device: int = 0) -> Backend:
        if not name.endswith(".plan"):
            return open_really(bundle, name, num_threads=num_threads)
        engines.append(Engine(open_really(bundle, "model.fp32.onnx", num_threads=1), error))
        return engines[-1]

    monkeypatch.setattr(variants, "open_model", open_here)
    outcome = tsm_verify("b", "--video", video)
    assert outcome.code == code
    # 8 clips of noise in calls of 2, 5 and 2 (one of them twice), then 6 of the video in 2 and 5
    assert [engine.batch_sizes for engine in engines] == [[2, 5, 2, 2, 5]]
    kept = load_bundle(folder).manifest.verifications[0].files[1:]
    assert [f.backend for f in kept] == ["TensorRT 10.16, some GPU"] * 2
    assert [f.max_abs_error["action_scores"] for f in kept] == pytest.approx([error] * 2, abs=1e-6)
    assert [f.passed for f in kept] == [code == 0] * 2


def test_an_engine_on_each_of_several_gpus(
    tsm_verify: Command, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line for each; the one on GPU 2 computes something else."""
    info = EngineInfo(library="tensorrt", version="10.16.1", batch=(1, 4, 8), onnx_sha256="")
    folder = write_plan(tmp_path / "b", info, monkeypatch)
    devices: list[int] = []

    def open_here(bundle: Bundle, name: str, *, num_threads: int | None = None, device: int = 0) -> Backend:
        if not name.endswith(".plan"):
            return open_really(bundle, name, num_threads=num_threads)
        devices.append(device)
        return Engine(open_really(bundle, "model.fp32.onnx", num_threads=1), 0.3 if device == 2 else 0.01)

    monkeypatch.setattr(variants, "open_model", open_here)
    outcome = tsm_verify("b", "--video", video, "--device", "0,2")
    assert outcome.code == 6
    assert devices == [0, 2]
    assert "model.fp16.plan on GPU 0" in outcome.out
    assert "failed: model.fp16.plan on GPU 2;" in outcome.err
    kept = load_bundle(folder).manifest.verifications[0].files[1:]
    assert [each.passed for each in kept] == [True, True, False, False]


@pytest.mark.parametrize(
    ("version", "capability", "reason"),
    [
        ("10.13.0", "9.0", "model.fp16.plan is for tensorrt 10.13.0, here is 10.16.1"),
        ("10.16.1", "8.6", "model.fp16.plan is for compute capability 8.6, here is some GPU"),
    ],
)
def test_a_plan_for_another_machine_is_no_failure(
    tsm_verify: Command,
    tmp_path: Path,
    video: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    capability: str,
    reason: str,
) -> None:
    info = EngineInfo(
        library="tensorrt",
        version=version,
        compute_capabilities=(capability,),
        batch=(1, 1, 1),
        onnx_sha256="",
    )
    folder = write_plan(tmp_path / "b", info, monkeypatch)
    code, out, err = tsm_verify("b", "--video", video)
    assert (code, err) == (0, "")
    assert f"not run  model.fp16.plan: {reason}" in out
    assert "nothing but the reference could be run here" in out
    assert load_bundle(folder).manifest.verifications[0].not_run["model.fp16.plan"].startswith(reason)
    (folder / "model.fp16.plan").write_bytes(b"altered")  # that it is for elsewhere does not excuse it
    code, out, err = tsm_verify("b", "--video", video)
    assert code == 6
    assert "model.fp16.plan: SHA-256 differs" in out


# --- the manifest ---------------------------------------------------------------------------------


def verification(machine: str) -> Verification:
    return Verification(date="2026-01-01T00:00:00+00:00", machine=machine, files=())


def test_the_last_of_each_machine_is_kept(
    tsm_verify: Command, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_bundle(tmp_path / "b", {"model.fp16.onnx": (tiny_model(), "fp16")})
    identity = load_bundle(folder).manifest_sha256
    older = (verification("CPU A, 4 cores, GPU | Python 3.12"), verification("CPU B, 4 cores | Python 3.12"))
    manifest = msgspec.structs.replace(load_bundle(folder).manifest, verifications=older)
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    monkeypatch.setattr(record, "describe_machine", lambda: "CPU A, 4 cores, GPU | Python 3.13")
    for _ in range(2):
        assert tsm_verify("b", "--video", video).code == 0
    verified = load_bundle(folder)
    assert verified.manifest_sha256 == identity
    assert [v.machine for v in verified.manifest.verifications] == [
        "CPU B, 4 cores | Python 3.12",
        "CPU A, 4 cores, GPU | Python 3.13",
    ]
    assert verified.manifest.verifications[0] == older[1]
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json", "model.fp16.onnx", "model.fp32.onnx"
    ]  # fmt: skip


def test_a_bundle_for_reading_only(
    tsm_verify: Command, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_bundle(tmp_path / "b", {"model.fp16.onnx": (tiny_model(), "fp16")})
    before = (folder / "manifest.json").read_bytes()
    really_open = Path.open

    def open_for_reading(self: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        if self.parent == folder and mode != "rb":
            raise OSError(30, "Read-only file system")
        return really_open(self, mode, *more, **named)

    monkeypatch.setattr(Path, "open", open_for_reading)  # root may write everywhere
    code, out, err = tsm_verify("b", "--video", video)
    assert (code, err) == (0, "cannot write b/manifest.json: Read-only file system\n")
    assert out.splitlines()[-1] == "passed"
    assert tsm_verify("b", "--video", video, "--quiet").err == ""
    assert tsm_verify("b", "--video", video, "--no-write").err == ""
    assert (folder / "manifest.json").read_bytes() == before


def test_a_manifest_that_changed_meanwhile_is_left_alone(
    tsm_verify: Command, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_bundle(tmp_path / "b", {"model.fp16.onnx": (tiny_model(), "fp16")})
    exported = encode_manifest(msgspec.structs.replace(load_bundle(folder).manifest, backbone="another"))

    def open_and_export(
        bundle: Bundle, name: str, *, num_threads: int | None = None, device: int = 0
    ) -> Backend:
        (folder / "manifest.json").write_bytes(exported)
        return open_really(bundle, name, num_threads=num_threads)

    monkeypatch.setattr(variants, "open_model", open_and_export)
    code, _, err = tsm_verify("b", "--video", video)
    assert code == 0
    assert err == (
        "b/manifest.json: was changed meanwhile, so the result is not written into it; verify it again\n"
    )
    assert (folder / "manifest.json").read_bytes() == exported


def test_no_bundle_becomes_another_by_its_verification(
    tsm_verify: Command, tmp_path: Path, video: Path
) -> None:
    """Whatever program wrote the manifest, and in whatever form: it is verified, and keeps its identity."""
    folder = write_bundle(tmp_path / "b", {"model.fp16.onnx": (tiny_model(), "fp16")})
    raw = json.loads((folder / "manifest.json").read_bytes())
    raw |= {"scene_labels": raw["scene_labels"], "head": "softmax", "format_version": 1}
    (folder / "manifest.json").write_text(json.dumps(raw))
    identity = load_bundle(folder).manifest_sha256
    code, out, err = tsm_verify("b", "--video", video)
    assert code == 0
    assert out.splitlines()[-1] == "passed"
    verified = load_bundle(folder)
    assert verified.manifest_sha256 == identity
    assert len(verified.manifest.verifications) == 1
    assert err == ""


# --- videos and flags -----------------------------------------------------------------------------


def test_videos_that_give_no_clip(tsm_verify: Command, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", {})
    code, out, err = tsm_verify("b", "--video", "nowhere.mp4")
    assert (code, out, err) == (3, "", "tsm-verify: nowhere.mp4: no such file\n")
    write_bundle(tmp_path / "slow", {}, interval_seconds=3600.0)
    code, out, err = tsm_verify("slow")
    assert (code, out) == (3, "")
    assert "shorter than one interval of 3600 s; give a longer one with --video" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--tolerance", "nan"), "--tolerance nan: expected 0 to 1"),
        (("--tolerance", "2"), "--tolerance 2: expected 0 to 1"),
        (("--clips", "1001"), "'--clips'"),
        (("--clips", "0"), "'--clips'"),
        (("--threads", "0"), "'--threads'"),
    ],
)
def test_wrong_flags(
    tsm_verify: Command, tmp_path: Path, video: Path, flags: tuple[str, ...], message: str
) -> None:
    write_bundle(tmp_path / "b", {})
    code, out, err = tsm_verify("b", "--video", video, *flags)
    assert (code, out) == (2, "")
    assert message in err


def test_names_that_are_no_text(tsm_verify: Command, tmp_path: Path, video: Path) -> None:
    odd = os.fsdecode(b"odd\xff")
    folder = write_bundle(tmp_path / odd, {"model.fp16.onnx": (tiny_model(), "fp16")})
    (folder / "model.fp16.onnx").write_bytes(b"altered")
    shutil.copy(video, tmp_path / f"{odd}.mp4")
    code, out, _ = tsm_verify(odd, "--video", f"{odd}.mp4", "--json")
    assert code == 6
    reported = json.loads(out)
    assert reported["bundle"] == "odd\\udcff"
    assert reported["failures"]["model.fp16.onnx"].startswith("odd\\udcff/model.fp16.onnx: SHA-256 differs")
    assert load_bundle(folder).manifest.verifications
    assert tsm_verify(odd, "--video", f"{odd}.mp4").code == 6


def test_no_bundle_given(tsm_verify: Command) -> None:
    code, out, err = tsm_verify()
    assert (code, out) == (2, "")
    assert "argument" in err
    assert "bundle" in err.lower()


def test_version(tsm_verify: Command) -> None:
    assert tsm_verify("--version") == Outcome(0, f"tsm-tal {__version__}\n", "")


def test_help_answers_at_once() -> None:
    report = "import sys; print('LOADED', *sys.modules)"
    program = f"""
import sys
sys.argv = ["tsm-verify", "--help"]
from tsm_runtime.commands.verify import main
try:
    main()
finally:
    {report}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    text, _, loaded = done.stdout.partition("LOADED")
    assert "--tolerance" in text
    assert "  6  a file is beyond tolerance" in text
    assert set(loaded.split()) & {"numpy", "av", "rich", "msgspec", "onnxruntime"} == set()


def test_a_terminal_gets_a_progress_bar(tmp_path: Path, video: Path) -> None:
    write_bundle(tmp_path / "b", {"model.fp16.onnx": (tiny_model(), "fp16")})
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, "b", "--video", str(video), "--threads", "1"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"},
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # Linux's word for the end
                break
        assert process.stdout is not None
        out = process.stdout.read().decode()
    os.close(ours)
    assert process.returncode == 0
    assert out.splitlines()[-1] == "passed"
    assert b"model.fp" in shown
    assert b"/14" in shown


# --- a real network -------------------------------------------------------------------------------


def test_the_embedded_demo(tsm_verify: Command, tmp_path: Path) -> None:
    """A trained network, a copy of it as fp16, and one whose last scene has a higher bias."""
    source = demo_folder() / "bundle"
    data = (source / "model.fp32.onnx").read_bytes()
    moved = onnx.load_from_string(data)
    bias = next(tensor for tensor in moved.graph.initializer if tensor.name.endswith("scene_head.bias"))
    values = numpy_helper.to_array(bias) + np.float32([0, 0, 1])
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    files = {"model.fp32.onnx": data, "model.fp16.onnx": data, "model.int8.onnx": moved.SerializeToString()}
    folder = tmp_path / "demo"
    folder.mkdir()
    entries = {}
    for name, content in files.items():
        (folder / name).write_bytes(content)
        entries[name] = ModelFile(sha256=sha256(content), precision=name.split(".")[1])  # type: ignore[arg-type]
    manifest = msgspec.structs.replace(
        load_bundle(source).manifest, files=entries, temporal_head=None, decoding=None
    )
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    code, out, err = tsm_verify("demo", "--clips", 6, "--threads", 1, "--json")
    assert (code, err) == (0, "")
    found = {(f["file"], f["input"]): f for f in json.loads(out)["verification"]["files"]}
    assert set(found) == {
        ("model.fp32.onnx", "noise"),
        *((f"model.{p}.onnx", clips) for p in ("fp16", "int8") for clips in ("noise", "the demo video")),
    }
    reference, spec = open_really(load_bundle(folder), "model.fp32.onnx", num_threads=1), manifest.clip_spec
    footage = video_clips(demo_folder() / "video.mp4", spec, 6)
    for name, clips in (("noise", noise_clips(spec)), ("the demo video", footage)):
        equal, off = (found[f"model.{p}.onnx", name] for p in ("fp16", "int8"))
        assert max(equal["max_abs_error"].values()) < 1e-5
        assert off["max_abs_error"]["action_scores"] < 1e-5
        scene = reference.infer(clips.frames).scene
        assert scene is not None
        moved_scene = scene * np.exp([0, 0, 1])
        error = np.abs(moved_scene / moved_scene.sum(axis=1, keepdims=True) - scene).max()
        assert off["max_abs_error"]["scene_scores"] == pytest.approx(error, abs=1e-5)
        assert error > 5e-3 or name != "noise"  # on the video its scene is certain
    assert found["model.fp16.onnx", "the demo video"]["segment_agreement"] == 1


# --- other engines --------------------------------------------------------------------------------


def test_openvino_is_compared_in_each_precision_that_it_has(
    tsm_verify: Command, tmp_path: Path, video: Path
) -> None:
    pytest.importorskip("openvino")
    from tsm_runtime.backends.openvino import _core, _has_bf16

    files = {"model.int8.onnx": (tiny_model(), "int8")}
    folder = write_bundle(tmp_path / "bundle", files)
    code, out, _ = tsm_verify(folder, "--video", video, "--backend", "openvino", "--json", "--threads", 1)
    reported = json.loads(out)
    wanted = {"model.fp32.onnx on openvino", "model.int8.onnx on openvino"}
    bf16, runs_bf16 = "model.fp32.onnx on openvino in bf16", _has_bf16(_core())
    assert code == 0
    assert set(reported["compared"]) == wanted | ({bf16} if runs_bf16 else set())
    assert (bf16 in reported["verification"]["not_run"]) == (not runs_bf16)
    assert {entry["file"] for entry in reported["verification"]["files"]} == {
        "model.fp32.onnx",
        "model.int8.onnx",
    }
    assert all("openvino" in entry["backend"] for entry in reported["verification"]["files"])
    assert "on openvino" in tsm_verify(folder, "--video", video, "--backend", "openvino", "--threads", 1).out


def test_both_engines_in_one_verification(tsm_verify: Command, tmp_path: Path, video: Path) -> None:
    pytest.importorskip("openvino")
    folder = write_bundle(tmp_path / "bundle", {"model.fp16.onnx": (off_model(), "fp16")})
    arguments = ("--backend", "all", "--tolerance", 1e-4, "--json", "--threads", 1)
    code, out, err = tsm_verify(folder, "--video", video, *arguments)
    reported = json.loads(out)
    assert code == 6
    assert {"model.fp16.onnx", "model.fp16.onnx on openvino"} <= {p["file"] for p in reported["problems"]}
    assert "failed: model.fp16.onnx, model.fp16.onnx on openvino" in err


def test_an_engine_that_is_not_installed_is_not_run(
    tsm_verify: Command, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    folder = write_bundle(tmp_path / "bundle", {})
    code, out, _ = tsm_verify(folder, "--video", video, "--backend", "openvino", "--threads", 1)
    assert code == 0
    assert "not run  model.fp32.onnx on openvino: openvino is not installed: pip install" in out
    assert "nothing but the reference could be run here" in out
