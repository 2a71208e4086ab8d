"""The client against a gRPC server on loopback that speaks Triton's protocol with Triton's own messages.

It serves what `tsm-triton` wrote, with onnxruntime. `test_triton_real.py` does the same with a real Triton.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from entry import Command, Outcome, command
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from media import cut, write_levels, write_video
from sounds import RATE, write_sound
from tiny_bundle import write_tiny_bundle, write_tiny_sound_bundle
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from tsm_export.commands.triton_client import main
from tsm_export.triton.backend import TritonBackend
from tsm_export.triton.model_config import PARAMETER
from tsm_export.triton.repository import write_model
from tsm_export.triton.settings import Request, choose_settings
from tsm_runtime import __version__
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.manifest import Manifest
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.commands.run import main as run_main
from tsm_runtime.video.reader import VideoReader

LEVELS = [(20, 1.0), (128, 0.5), (235, 1.5), (20, 0.75), (235, 1.35)]
"""5.1 s: ten intervals of 0.5 s, some at a change of level."""


@dataclass
class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """What the client needs of Triton's service, over one repository."""

    repository: Path
    change_config: Callable[[Any], None] = lambda config: None
    before_answer: Callable[[Any], None] = lambda context: None
    change_answer: Callable[[Any], None] = lambda response: None
    requests: list[Any] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ServerMetadataResponse(name="triton", version="test")

    def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        models = [
            service_pb2.RepositoryIndexResponse.ModelIndex(name=folder.name, version="1", state="READY")
            for folder in self.repository.iterdir()
        ]
        return service_pb2.RepositoryIndexResponse(models=models)

    def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ModelConfigResponse(config=self._config(request, context))

    def _config(self, request: Any, context: Any) -> Any:
        folder = self.repository / request.name
        if not (folder / (request.version or "1")).is_dir():
            version = f" version {request.version}" if request.version else ""
            context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"Request for unknown model: '{request.name}'{version} is not found",
            )
        config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
        self.change_config(config)
        return config

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self.lock:
            self.requests.append(request)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            self.before_answer(context)
            return self._answer(request)
        finally:
            with self.lock:
                self.in_flight -= 1

    def _answer(self, request: Any) -> Any:
        path = self.repository / request.model_name / (request.model_version or "1") / "model.onnx"
        session = session_of(path)
        names = [output.name for output in request.outputs]
        response = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1")
        for name, value in zip(names, session.run(names, {"frames": clips_of(request)}), strict=True):
            response.outputs.add(name=name, datatype="FP32", shape=value.shape)
            response.raw_output_contents.append(value.tobytes())
        self.change_answer(response)
        return response


@cache
def session_of(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def clips_of(request: Any) -> npt.NDArray[np.uint8]:
    (frames,), (raw,) = request.inputs, request.raw_input_contents
    assert (frames.name, frames.datatype) == ("frames", "UINT8")
    return np.frombuffer(raw, np.uint8).reshape(tuple(frames.shape))


@dataclass
class Served:
    servicer: Servicer
    server: Any
    address: str


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("models") / "bundle")


@pytest.fixture(scope="module")
def repository(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "models"
    opened = load_bundle(bundle)
    for version in (1, 2):
        write_model(opened, folder, choose_settings(opened, Request(name="tiny", version=version)))
    return folder


@pytest.fixture
def served(repository: Path) -> Iterator[Served]:
    servicer = Servicer(repository)
    server = grpc.server(ThreadPoolExecutor(16))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield Served(servicer, server, f"127.0.0.1:{port}")
    server.stop(None).wait()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_levels(tmp_path_factory.mktemp("media") / "scene.mp4", LEVELS)


@pytest.fixture
def video(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """scene.mp4 in the current folder, by its short name."""
    monkeypatch.chdir(tmp_path)
    Path("scene.mp4").write_bytes(scene.read_bytes())
    return Path("scene.mp4")


@pytest.fixture
def tsm_run(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Command:
    monkeypatch.setenv("TSM_MODEL", str(bundle))
    return command("tsm-run", run_main, monkeypatch, capfdbinary)


@pytest.fixture
def client(
    served: Served, video: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Command:
    """The command, asking the test's server for its model."""
    call = command("client", main, monkeypatch, capfdbinary)
    return lambda *words: call("--server", served.address, "-m", "tiny", *words)


def one_line(outcome: Outcome, code: int, *words: str) -> None:
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (code, "", 1), outcome
    for word in words:
        assert word in outcome.err


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Labels and bounds are equal; a score may differ in rounding, as batches are cut differently."""
    for part in ("results", "scenes"):
        assert found[part].keys() == expected[part].keys()
        for name, entries in expected[part].items():
            keys = [{**entry, "score": 0} for entry in entries]
            assert [{**entry, "score": 0} for entry in found[part][name]] == keys
            assert [entry["score"] for entry in found[part][name]] == pytest.approx(
                [entry["score"] for entry in entries], abs=1e-5
            )


# --- the same as tsm-run --------------------------------------------------------------------------


def test_address_and_name_are_enough(client: Command, tsm_run: Command, served: Served, bundle: Path) -> None:
    code, out, err = client("scene.mp4")
    assert (code, err) == (0, "")
    found, expected = json.loads(out), json.loads(tsm_run("scene.mp4").out)
    assert [entry["label"] for entry in expected["results"]["scene"]] == ["dark", "bright", "dark", "bright"]
    assert_same(found, expected)
    written, known = found["external_data"], expected["external_data"]
    assert written["videos"] == known["videos"]
    assert written["options"] == known["options"]
    backend = {"backend": f"Triton test at {served.address}, tiny"}
    assert written["model"] == known["model"] | backend
    assert written["model"]["bundle_sha256"] == load_bundle(bundle).manifest_sha256


def test_the_clips_are_the_runtimes_own(client: Command, served: Served, bundle: Path) -> None:
    rng = np.random.default_rng(3)
    write_video(Path("noise.mp4"), (rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(50)))
    assert client("noise.mp4", "-o", "out.json").code == 0
    spec = load_bundle(bundle).manifest.clip_spec
    with VideoReader(Path("noise.mp4")) as reader:
        clips = np.concatenate([batch.frames for batch in ClipStream(reader, spec)])
    sent = {clips_of(request).tobytes() for request in served.servicer.requests}
    assert len(clips) == 4
    assert sent == {clip.tobytes() for clip in clips}


def test_labels_from_a_bundle(client: Command, served: Served, tsm_run: Command, bundle: Path) -> None:
    served.servicer.change_config = lambda config: config.parameters.clear()
    one_line(
        client("scene.mp4"),
        5,
        f"{served.address}: model 'tiny' was not written by tsm-triton (no parameter {PARAMETER})",
        "--bundle",
    )
    code, out, err = client("scene.mp4", "--bundle", bundle)
    assert (code, err) == (0, "")
    assert_same(json.loads(out), json.loads(tsm_run("scene.mp4").out))


def test_files_are_those_of_tsm_run(client: Command, tsm_run: Command) -> None:
    Path("a").mkdir()
    Path("b").mkdir()
    for name in ("out.csv", "out.jsonl", "out.vtt", "out.srt", "out.eaf", "out.txt"):
        assert client("scene.mp4", "-o", f"a/{name}") == (0, "", "")
        assert tsm_run("scene.mp4", "-o", f"b/{name}") == (0, "", "")
        assert (Path("a") / name).read_bytes() == (Path("b") / name).read_bytes(), name


def test_options_as_of_tsm_run(client: Command, tsm_run: Command) -> None:
    flags = ("--start", "0.6", "--end", "4.4", "--min-score", "0.5", "--id", "name", "--format", "csv")
    assert client("scene.mp4", *flags) == tsm_run("scene.mp4", *flags)
    Path("ids.json").write_text('{"dark": 1, "bright": 2}')
    flags = ("--format", "kaggle", "--label-map", "ids.json")
    assert client("scene.mp4", *flags) == tsm_run("scene.mp4", *flags)


def test_many_videos_in_a_folder(client: Command, tsm_run: Command) -> None:
    Path("b.mp4").write_bytes(Path("scene.mp4").read_bytes())
    cut(Path("b.mp4"), 0.02)
    code, out, err = client(".", "-o", "found/")
    assert (code, out) == (1, "")
    assert [path.name for path in Path("found").iterdir()] == ["scene.json"]
    assert err.count("\n") == 1
    assert "b.mp4" in err
    assert client("b.mp4").code == 3


def test_recordings_for_a_model_of_sound_alone(client: Command, tsm_run: Command, served: Served) -> None:
    bundle = write_tiny_sound_bundle(Path("heard"))
    write_model(
        load_bundle(bundle),
        served.servicer.repository,
        choose_settings(load_bundle(bundle), Request(name="heard")),
    )
    Path("recordings").mkdir()
    loud = 0.3 * np.random.default_rng(0).normal(size=RATE)
    samples = np.concatenate([0 * loud, loud, 0 * loud])
    for name, codec in (("a.wav", "pcm_s16le"), ("b.flac", "flac")):
        write_sound(Path("recordings") / name, samples, codec=codec, picture_seconds=0)
    expected = tsm_run("recordings", "--model", bundle, "--format", "csv")
    try:
        found = client("recordings", "-m", "heard", "--format", "csv")
    finally:
        shutil.rmtree(served.servicer.repository / "heard")
    assert (found.code, expected.code) == (0, 0)
    assert found.out == expected.out
    assert found.out.count("dark") == 4


# --- requests -------------------------------------------------------------------------------------


def test_several_requests_are_in_flight_and_no_more_than_the_limit(client: Command, served: Served) -> None:
    gate = threading.Barrier(3, timeout=60)  # answers go out three at a time: fewer would wait for ever

    def hold(context: Any) -> None:
        gate.wait()

    served.servicer.before_answer = hold
    code, out, err = client("scene.mp4", "--in-flight", "3", "--end", "4.5")
    assert (code, err) == (0, "")
    assert len(json.loads(out)["results"]["scene"]) == 4
    assert len(served.servicer.requests) == 9
    assert served.servicer.most_in_flight == 3


@pytest.mark.parametrize(("clips", "sizes"), [(1, [1] * 10), (4, [2, 4, 4]), (8, [2, 8])])
def test_clips_per_request(client: Command, served: Served, clips: int, sizes: list[int]) -> None:
    expected = client("scene.mp4", "--format", "csv")
    served.servicer.requests.clear()
    assert client("scene.mp4", "--format", "csv", "--batch", clips) == expected
    assert sorted(len(clips_of(request)) for request in served.servicer.requests) == sizes
    for request in served.servicer.requests:
        assert [output.name for output in request.outputs] == ["action_scores", "scene_scores"]


def test_more_clips_than_the_model_takes(client: Command) -> None:
    one_line(client("scene.mp4", "--batch", 9), 2, "takes up to 8 clips in a request, not 9")


def test_a_version_is_passed_on(client: Command, served: Served) -> None:
    code, out, _ = client("scene.mp4", "--model-version", 2)
    assert code == 0
    assert {request.model_version for request in served.servicer.requests} == {"2"}
    assert json.loads(out)["external_data"]["model"]["backend"].endswith("tiny version 2")
    one_line(client("scene.mp4", "--model-version", 3), 5, "unknown model: 'tiny' version 3 is not found")


@dataclass
class FakeServer:
    """Answers what it is sent in any order, never later than it must."""

    in_flight: int
    total: int
    data: st.DataObject
    address: str = "fake"
    version: str = "0"
    pending: list[tuple[npt.NDArray[np.uint8], Callable[[Any, Any], None]]] = field(default_factory=list)
    sent: int = 0

    def model_config(self, model: str, version: str) -> Any:
        return model_config_pb2.ModelConfig(max_batch_size=8)

    def signature(self, config: Any) -> Any:
        return {"frames": ("TYPE_UINT8", [1, 1, 1, 3]), "action_scores": ("TYPE_FP32", [2])}

    def send(self, model: str, version: str, frames: Any, outputs: Any, answered: Any) -> Any:
        assert outputs == ("action_scores",)
        self.sent += 1
        self.pending.append((frames, answered))
        assert len(self.pending) <= self.in_flight
        while len(self.pending) == self.in_flight or (self.pending and self.sent == self.total):
            frames, answered = self.pending.pop(self.data.draw(st.integers(0, len(self.pending) - 1)))
            answered(FakeResult(frames), None)


@dataclass
class FakeResult:
    frames: npt.NDArray[np.uint8]

    def as_numpy(self, name: str) -> npt.NDArray[np.float32]:
        value = self.frames.reshape(len(self.frames), -1)[:, :1].astype(np.float32)
        return np.concatenate([value, 255 - value], axis=1)


@given(data=st.data(), num_clips=st.integers(1, 30), clips=st.integers(1, 8), in_flight=st.integers(1, 9))
@settings(max_examples=60)
def test_scores_are_in_the_order_of_the_clips(
    data: st.DataObject, num_clips: int, clips: int, in_flight: int
) -> None:
    manifest = Manifest(
        format_version=1,
        action_labels=("a", "background"),
        interval_seconds=1.0,
        num_frames=1,
        size=1,
        backbone="none",
        files={},
    )
    server: Any = FakeServer(in_flight, -(-num_clips // clips), data)
    backend = TritonBackend(server, "m", manifest, clips_per_request=clips, in_flight=in_flight)
    frames = np.arange(num_clips * 3, dtype=np.uint8).reshape(num_clips, 1, 1, 1, 3)
    scores = backend.infer(frames)
    assert scores.scene is None
    assert scores.action[:, 0].tolist() == [3 * number for number in range(num_clips)]
    assert server.sent == server.total


# --- servers that do not do their part ------------------------------------------------------------


def test_no_server(client: Command, served: Served) -> None:
    served.server.stop(None).wait()
    one_line(client("scene.mp4"), 5, f"{served.address}: no Triton server answers there", "gRPC port")


def test_a_server_that_says_nothing(client: Command, served: Served) -> None:
    release = threading.Event()
    served.servicer.before_answer = lambda context: release.wait(60)
    try:
        outcome = client("scene.mp4", "--timeout", 5)
    finally:
        release.set()
    one_line(outcome, 5, "model 'tiny' failed on a request: Deadline Exceeded")


def test_a_model_that_is_not_there(client: Command) -> None:
    one_line(client("scene.mp4", "-m", "nothing"), 5, "unknown model: 'nothing' is not found; it serves tiny")


def test_an_error_of_the_server(client: Command, served: Served) -> None:
    def fail(context: Any) -> None:
        context.abort(grpc.StatusCode.INTERNAL, "out of\nmemory")

    served.servicer.before_answer = fail
    one_line(client("scene.mp4", "-o", "out.json"), 5, "failed on a request: out of memory")
    assert not Path("out.json").exists()


def test_a_server_that_goes_away(served: Served, video: Path) -> None:
    def leave(context: Any) -> None:
        if len(served.servicer.requests) == 4:
            served.server.stop(None)

    served.servicer.before_answer = leave
    # In a process of its own: gRPC writes to standard error, unless configured before it is loaded.
    program = [sys.executable, "-m", "tsm_export.commands.triton_client"]
    done = subprocess.run(
        [*program, "scene.mp4", "--server", served.address, "-m", "tiny", "--in-flight", "1"],
        capture_output=True,
        text=True,
    )
    one_line(
        Outcome(done.returncode, done.stdout, done.stderr),
        5,
        f"python -m tsm_export.commands.triton_client: {served.address}: model 'tiny' failed on a request: ",
    )


def fewer_scores(response: Any) -> None:
    response.outputs[0].shape[1] = 2
    response.raw_output_contents[0] = response.raw_output_contents[0][:8]


def bytes_missing(response: Any) -> None:
    response.raw_output_contents[0] = response.raw_output_contents[0][:8]


def whole_numbers(response: Any) -> None:
    response.outputs[0].datatype = "INT32"


def no_scenes(response: Any) -> None:
    del response.outputs[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (fewer_scores, "answered action_scores as float32 (1, 2); expected float32 (1, 3)"),
        (bytes_missing, "answered action_scores as nothing"),
        (whole_numbers, "answered action_scores as int32 (1, 3)"),
        (no_scenes, "answered scene_scores as nothing; expected float32 (1, 2)"),
    ],
)
def test_answers_of_another_shape(
    client: Command, served: Served, change: Callable[[Any], None], words: str
) -> None:
    served.servicer.change_answer = change
    one_line(client("scene.mp4"), 5, words)


def test_scores_that_are_not_numbers(client: Command, served: Served) -> None:
    def spoil(response: Any) -> None:
        response.raw_output_contents[0] = np.full(3, np.nan, np.float32).tobytes()

    served.servicer.change_answer = spoil
    one_line(client("scene.mp4"), 7, "not numbers")


def test_another_model_than_the_bundles(client: Command, tmp_path: Path) -> None:
    other = write_tiny_bundle(tmp_path / "other", action_labels=["bright", "dark", "background"])
    one_line(client("scene.mp4", "--bundle", other), 5, f"is not that of {other}: action_labels differ")


def test_a_model_of_another_shape(client: Command, served: Served, bundle: Path) -> None:
    def change(config: Any) -> None:
        config.input[0].dims[1] = 64

    served.servicer.change_config = change
    for flags in ((), ("--bundle", bundle)):
        one_line(
            client("scene.mp4", *flags),
            5,
            "takes or gives something else",
            "[4, 32, 32, 3]",
            "[4, 64, 32, 3]",
        )


def test_a_model_of_a_newer_version_of_this_program(client: Command, served: Served) -> None:
    def change(config: Any) -> None:
        value = config.parameters[PARAMETER]
        value.string_value = value.string_value.replace('"format_version":1', '"format_version":99')

    served.servicer.change_config = change
    one_line(client("scene.mp4"), 5, f"its parameter {PARAMETER} is", "update tsm-tal")


def test_an_interrupt_while_waiting(client: Command, served: Served) -> None:
    release = threading.Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # test runners may ignore it

    def interrupt(context: Any) -> None:
        release.wait(0.5)  # until it is done sending, and waits
        os.kill(os.getpid(), signal.SIGINT)
        release.wait(60)

    served.servicer.before_answer = interrupt
    try:
        outcome = client("scene.mp4", "--in-flight", 1)
    finally:
        release.set()
        signal.signal(signal.SIGINT, before)
    assert outcome == (130, "", "python -m tsm_export.commands.triton_client: interrupted\n")


# --- wrong usage ----------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["localhost", "http://localhost:8000", "a:b", "", "a b:1", "host:123456"])
def test_addresses_of_another_form(client: Command, address: str) -> None:
    one_line(client("scene.mp4", f"--server={address}"), 2, repr(address), "localhost:8001")


def test_the_command_itself(client: Command, tmp_path: Path) -> None:
    assert client("--version") == (0, f"tsm-tal {__version__}\n", "")
    assert client("--in-flight", 0, "scene.mp4").code == 2
    assert client("--timeout", 0, "scene.mp4").code == 2
    assert client("nothing.mp4").code == 3
    one_line(client("scene.mp4", "-o", "no/out.json"), 2, "there is no folder no")
    one_line(client("scene.mp4", "--bundle", "no"), 4, "no such bundle folder")


def test_without_tritonclient(client: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    one_line(client("scene.mp4"), 5, "pip install 'tsm-tal[triton]'")


def test_it_runs_as_a_module_without_torch_or_onnx(served: Served, video: Path) -> None:
    program = (
        "import runpy, sys\n"
        "sys.argv = ['client', *sys.argv[1:]]\n"
        "try:\n    runpy.run_module('tsm_export.commands.triton_client', run_name='__main__',"
        " alter_sys=True)\n"
        "except SystemExit as left:\n    assert not left.code, left.code\n"
        "print('LOADED', *{name.split('.')[0] for name in sys.modules})"
    )
    flags = [str(video), "--server", served.address, "-m", "tiny", "-o", "out.json"]
    done = subprocess.run([sys.executable, "-c", program, *flags], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split()[1:])
    assert json.loads(Path("out.json").read_text())["results"]["scene"]
    assert {"numpy", "av", "tritonclient"} <= loaded
    heavy = {
        "torch",
        "torchvision",
        "onnx",
        "onnxscript",
        "onnxruntime",
        "tsm_train",
        "lightning",
        "timm",
        "rich",
    }
    assert loaded & heavy == set()
