"""The repository and the client with a real Triton server, where there is one.

NVIDIA's wheel `nvidia-pytriton` (55 MB, Linux) holds Triton's server program without its backends for ONNX
and TensorRT. So its Python backend runs the models here, under the name `onnxruntime`: all but the arithmetic
is Triton's own, from reading the configuration to the batches. It wants numpy 1, so it is installed apart:

    pip install --no-deps --target FOLDER nvidia-pytriton
    TSM_TRITON=FOLDER pytest tests/export/test_triton_real.py
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc
from entry import command
from google.protobuf import text_format
from tiny_bundle import write_tiny_bundle, write_without_head
from tritonclient.grpc import model_config_pb2

from tsm_export.commands.triton import main as triton_main
from tsm_export.commands.triton_client import main
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.commands.run import main as run_main

BACKEND = """
import os, sys
sys.path += {path}
import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        return config

    def initialize(self, arguments):
        self.name = arguments["model_name"]
        path = os.path.join(arguments["model_repository"], arguments["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        print("LOADED", repr((self.name, arguments["model_version"])), flush=True)

    def execute(self, requests):
        # By dlpack, as this backend knows the memory of numpy 1 only.
        clips = [np.from_dlpack(request.inputs()[0]) for request in requests]
        print("RAN", repr((self.name, sum(map(len, clips)))), flush=True)
        names = [output.name for output in self.session.get_outputs()]
        outputs = self.session.run(names, {{"frames": np.concatenate(clips)}})
        ends = np.cumsum([len(part) for part in clips])[:-1]
        parts = zip(*(np.split(value, ends) for value in outputs))
        return [
            triton.InferenceResponse([triton.Tensor.from_dlpack(n, v) for n, v in zip(names, values)])
            for values in parts
        ]
"""


@dataclass
class Triton:
    address: str
    log: Path
    client: Any

    def logged(self, word: str) -> list[Any]:
        """What the backend printed behind a word, in order."""
        return [ast.literal_eval(found) for found in re.findall(rf"{word} (\(.*?\))", self.log.read_text())]


@pytest.fixture(scope="module")
def installed() -> Path:
    folder = os.environ.get("TSM_TRITON")
    if folder is None:
        pytest.skip(
            "no Triton server: pip install --no-deps --target FOLDER nvidia-pytriton; TSM_TRITON=FOLDER"
        )
    program = Path(folder) / "pytriton" / "tritonserver"
    assert (program / "bin" / "tritonserver").is_file(), f"TSM_TRITON={folder} holds no Triton server"
    return program


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models by four calls of `tsm-triton`."""
    folder = tmp_path_factory.mktemp("served")
    tiny = write_tiny_bundle(folder / "tiny")
    for flags in (
        [tiny],
        [tiny, "--model-version", 2, "--batch", "4"],
        [
            demo_folder() / "bundle",
            "--name",
            "demo",
            "--max-batch",
            4,
            "--batch",
            "2,4",
            "--delay",
            1_000_000,
        ],
        [tiny, "--name", "single", "--max-batch", 1, "--instances", 2],
    ):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(sys, "argv", ["tsm-triton", *map(str, flags), "-o", str(folder / "models")])
            with pytest.raises(SystemExit) as left:
                triton_main()
        assert not left.value.code
    return folder / "models"


@pytest.fixture(scope="module")
def triton(installed: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    folder = tmp_path_factory.mktemp("triton")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "log"
    words = [
        *(installed / "bin" / "tritonserver", f"--model-repository={repository}"),
        *(f"--backend-directory={write_backends(installed, folder / 'backends')}", f"--grpc-port={port}"),
        *("--grpc-address=127.0.0.1", "--allow-http=false", "--allow-metrics=false"),
    ]
    libraries = f"{sysconfig.get_config_var('LIBDIR')}:{installed.parents[1] / 'nvidia_pytriton.libs'}"
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries, "PYTHONHOME": sys.base_prefix}
    with (
        log.open("wb") as file,
        subprocess.Popen(words, stdout=file, stderr=file, env=environment) as process,
    ):
        client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{port}")
        try:
            wait_until_ready(client, process, log)
            yield Triton(f"127.0.0.1:{port}", log, client)
        finally:
            client.close()
            process.terminate()


def write_backends(installed: Path, folder: Path) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copytree(installed / "backends" / "python", folder / "python")
    stub = installed / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy(stub, folder / "python")
    (folder / "python" / stub.name).chmod(0o755)
    (folder / "onnxruntime").mkdir()
    packages = str(Path(onnxruntime.__file__).parents[1])
    (folder / "onnxruntime" / "model.py").write_text(BACKEND.format(path=[packages]))
    return folder


def wait_until_ready(client: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    while process.poll() is None:
        try:
            if client.is_server_ready():
                return
        except tritonclient.grpc.InferenceServerException:
            time.sleep(0.2)
    pytest.fail(f"Triton ended with {process.returncode}: {log.read_text()[-3000:]}")


# --- the repository -------------------------------------------------------------------------------


def test_triton_takes_every_model(triton: Triton) -> None:
    index = triton.client.get_model_repository_index()
    assert sorted((model.name, model.version, model.state) for model in index.models) == [
        ("demo", "1", "READY"), ("single", "1", "READY"), ("tiny", "2", "READY")
    ]  # fmt: skip
    assert sorted(triton.logged("LOADED")) == [("demo", "1"), ("single", "1"), ("single", "1"), ("tiny", "2")]


@pytest.mark.parametrize("name", ["demo", "single", "tiny"])
def test_triton_understands_every_field(triton: Triton, repository: Path, name: str) -> None:
    text = (repository / name / "config.pbtxt").read_text()
    written = text_format.Parse(text, model_config_pb2.ModelConfig())
    understood = triton.client.get_model_config(name).config
    for group in understood.instance_group:
        group.name = ""  # Triton's own
    for kind, value in written.ListFields():
        assert getattr(understood, kind.name) == value, kind.name


def test_models_are_warm_when_they_are_ready(triton: Triton) -> None:
    """The batches that ran before Triton called a model loaded, which is before it takes requests."""
    first = re.split("Started GRPCInferenceService", triton.log.read_text())[0]
    ran = [ast.literal_eval(found) for found in re.findall(r"RAN (\(.*?\))", first)]
    assert sorted(ran) == [("demo", 1), ("single", 1), ("single", 1), ("tiny", 1)]


def test_label_files_are_found(triton: Triton) -> None:
    for level, expected in ((20, ["dark", "night"]), (235, ["bright", "day"]), (128, ["background", "day"])):
        given = tritonclient.grpc.InferInput("frames", [1, 4, 32, 32, 3], "UINT8")
        given.set_data_from_numpy(np.full((1, 4, 32, 32, 3), level, np.uint8))
        outputs = [
            tritonclient.grpc.InferRequestedOutput(name, class_count=1)
            for name in ("action_scores", "scene_scores")
        ]
        answer = triton.client.infer("tiny", [given], outputs=outputs)
        best = [answer.as_numpy(output.name()).ravel()[0].decode() for output in outputs]
        assert [entry.split(":")[-1] for entry in best] == expected


# --- the client -----------------------------------------------------------------------------------


def test_segments_are_those_of_tsm_run(
    triton: Triton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    ask = command("client", main, monkeypatch, capfdbinary)
    run = command("tsm-run", run_main, monkeypatch, capfdbinary)
    video = demo_folder() / "video.mp4"
    code, out, err = ask(video, "--server", triton.address, "-m", "demo")
    assert (code, err) == (0, "")
    clips = write_without_head(demo_folder() / "bundle", tmp_path / "clips")  # what a server gives
    found, expected = json.loads(out), json.loads(run(video, "-m", clips).out)
    assert len(expected["results"]["video"]) > 5
    for part in ("results", "scenes"):
        (entries,), (others,) = found[part].values(), expected[part].values()
        assert [{**entry, "score": 0} for entry in entries] == [{**entry, "score": 0} for entry in others]
        scores = [entry["score"] for entry in others]
        assert [entry["score"] for entry in entries] == pytest.approx(scores, abs=1e-5)
    assert found["external_data"]["model"]["backend"].startswith("Triton 2.")
    sizes = {size for name, size in triton.logged("RAN") if name == "demo"}
    assert max(sizes) == 4  # its eight requests in flight were put together
    assert sizes <= {1, 2, 3, 4}


def test_what_triton_says_of_a_model_that_is_not_there(
    triton: Triton, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    ask = command("client", main, monkeypatch, capfdbinary)
    video = demo_folder() / "video.mp4"
    for flags, words in (
        (("-m", "nothing"), "'nothing' is not found; it serves demo, single, tiny"),
        (("-m", "tiny", "--model-version", 1), "'tiny' version 1 is not found"),
    ):
        code, out, err = ask(video, "--server", triton.address, *flags)
        assert (code, out, err.count("\n")) == (5, "", 1)
        assert words in err
