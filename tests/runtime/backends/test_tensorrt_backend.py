"""The TensorRT runner on doubles of library and GPU: what it computes and asks for, and in which order."""

from __future__ import annotations

import gc
import random
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from cuda_double import ContractError, FakeDevice
from fakes import ACTIONS, SCENES, BrightnessBackend, brightness_member
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media import write_levels
from tensorrt_contract import CONTRACTS, source_uses
from tensorrt_double import NUM_FRAMES, SIZE, TensorrtDouble, plan_for

from tsm_runtime.backends.base import Scores
from tsm_runtime.backends.cuda.gpu import Gpu
from tsm_runtime.backends.cuda.memory import DeviceError
from tsm_runtime.backends.tensorrt import plan as plan_module
from tsm_runtime.backends.tensorrt.backend import TensorrtBackend
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.manifest import EngineInfo, ModelFile, sha256
from tsm_runtime.errors import BackendError, BundleError, OutOfMemoryError, RunError, TsmError
from tsm_runtime.models.choice import open_model
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run, run_videos
from tsm_runtime.video.finding import VideoInput

PLAN = "model.fp16.plan"
NEWEST = "tensorrt-11.4.0.106"
Frames = npt.NDArray[np.uint8]


class Machine:
    """A GPU with a library on it, and a bundle with a plan for both."""

    def __init__(self, bundle: Bundle, contract: str, device: FakeDevice | None = None) -> None:
        self.device = device or FakeDevice()
        self.double = TensorrtDouble(contract, self.device)
        self.bundle = bundle
        self.put_plan()

    def put_plan(self, data: bytes | None = None, **changes: Any) -> None:
        """Let the bundle hold a plan; `changes` are of its EngineInfo."""
        if data is None:
            data = plan_for(self.double.version).encode()
        (self.bundle.path / PLAN).write_bytes(data)
        info = EngineInfo(
            library=self.double.module.__name__,  # type: ignore[arg-type]
            version=self.double.version,
            gpu=self.device.gpu.name,
            compute_capabilities=(self.device.gpu.compute_capability,),
            batch=(1, 4, 8),
            onnx_sha256=self.bundle.manifest.files["model.fp32.onnx"].sha256,
        )
        entry = ModelFile(
            sha256=sha256(data), precision="fp16", engine=msgspec.structs.replace(info, **changes)
        )
        files = {**self.bundle.manifest.files, PLAN: entry}
        manifest = msgspec.structs.replace(self.bundle.manifest, files=files)
        self.bundle = msgspec.structs.replace(self.bundle, manifest=manifest)

    def open(self) -> TensorrtBackend:
        return TensorrtBackend(self.bundle, PLAN, memory=self.device)

    def refused(self, *kinds: type[TsmError]) -> str:
        """Open a backend that cannot be opened; all that was taken is given back."""
        with pytest.raises(kinds or BundleError) as caught:
            self.open()
        message = str(caught.value)
        assert "\n" not in message
        assert self.device.closed == 1
        assert self.double.alive == []
        assert self.device.violations == []
        return message


@pytest.fixture
def make_machine(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Machine]]:
    """Makes machines whose library is the one that is imported; at the end nothing may have gone wrong."""
    (tmp_path / "bundle").mkdir()
    for file in tiny_bundle.iterdir():
        (tmp_path / "bundle" / file.name).write_bytes(file.read_bytes())
    machines = []

    def make(contract: str = NEWEST, device: FakeDevice | None = None) -> Machine:
        machine = Machine(load_bundle(tmp_path / "bundle"), contract, device)
        monkeypatch.setitem(sys.modules, machine.double.module.__name__, machine.double.module)
        machines.append(machine)
        return machine

    yield make
    for machine in machines:
        assert machine.device.violations == []


@pytest.fixture
def machine(make_machine: Callable[..., Machine]) -> Machine:
    return make_machine()


def clips(number: int, seed: int = 0) -> Frames:
    rng = np.random.default_rng(seed)
    brightness = rng.integers(0, 200, (number, 1, 1, 1, 1), np.uint8)
    return brightness + rng.integers(0, 56, (number, NUM_FRAMES, SIZE, SIZE, 3), np.uint8)


def assert_scores(found: Scores, frames: Frames) -> None:
    assert found.scene is not None
    assert (len(found.action), len(found.scene)) == (len(frames), len(frames))
    if not len(frames):
        return
    wanted = BrightnessBackend().infer(frames)
    assert wanted.scene is not None
    assert found.action.dtype == found.scene.dtype == np.float32
    np.testing.assert_array_equal(found.action, wanted.action)
    np.testing.assert_array_equal(found.scene, wanted.scene)


# --- what it computes -----------------------------------------------------------------------------


@pytest.mark.parametrize("contract", CONTRACTS)
def test_every_version_scores_as_onnxruntime_does(
    make_machine: Callable[..., Machine], contract: str
) -> None:
    machine = make_machine(contract)
    frames = clips(19)
    with machine.open() as backend:
        found = backend.infer(frames)
    reference = open_model(machine.bundle, "model.fp32.onnx", num_threads=1).infer(frames)
    np.testing.assert_allclose(found.action, reference.action, atol=1e-5)
    assert found.scene is not None
    assert reference.scene is not None
    np.testing.assert_allclose(found.scene, reference.scene, atol=1e-5)
    assert machine.double.runs == [8, 8, 3]
    library, _, version = contract.partition("-")
    assert backend.name == f"{library} {version} on NVIDIA H100 80GB HBM3 (double), fp16"
    assert backend.notices == ()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    batch=st.tuples(st.integers(1, 6), st.integers(0, 6)),
    sizes=st.lists(st.integers(0, 15), max_size=6),
    order=st.randoms(use_true_random=False),
    hurry=st.none() | st.integers(0, 10_000).map(random.Random),
)
def test_scores_do_not_depend_on_batches_order_or_the_gpus_haste(
    make_machine: Callable[..., Machine],
    batch: tuple[int, int],
    sizes: list[int],
    order: random.Random,
    hurry: random.Random | None,
) -> None:
    machine = make_machine(device=FakeDevice(hurry=hurry))
    least, most = batch[0], sum(batch)
    machine.put_plan(
        plan_for(machine.double.version, batch=(least, least, most)).encode(), batch=(least, least, most)
    )
    batches = [clips(size, seed) for seed, size in enumerate(sizes)]
    with machine.open() as backend:
        scratch = [frames.copy() for frames in batches]
        submitted = [(i, backend.submit(frames)) for i, frames in enumerate(scratch)]
        for frames in scratch:
            frames.fill(7)  # theirs again as soon as they are submitted
        order.shuffle(submitted)
        for i, pending in submitted:
            assert_scores(backend.result(pending), batches[i])
            assert backend.result(pending) is pending.scores
    assert all(least <= number <= most for number in machine.double.runs)
    assert len(machine.double.runs) == sum(-(-size // most) for size in sizes)
    assert machine.device.violations == []


def test_results_stay_what_they_were(machine: Machine) -> None:
    with machine.open() as backend:
        first = backend.infer(clips(3, seed=1))
        for seed in range(2, 6):
            backend.infer(clips(8, seed=seed))
    assert_scores(first, clips(3, seed=1))


def test_a_model_without_scene_head_gives_none(machine: Machine) -> None:
    manifest = msgspec.structs.replace(machine.bundle.manifest, scene_labels=())
    machine.bundle = msgspec.structs.replace(machine.bundle, manifest=manifest)
    machine.put_plan(plan_for(machine.double.version, outputs=(("action_scores", len(ACTIONS)),)).encode())
    with machine.open() as backend:
        found = backend.infer(clips(2))
    assert found.scene is None
    np.testing.assert_array_equal(found.action, BrightnessBackend().infer(clips(2)).action)


def test_the_batch_is_left_as_it_is(machine: Machine) -> None:
    frames = clips(2)
    frames.setflags(write=False)
    with machine.open() as backend:
        assert_scores(backend.infer(frames), frames)
        assert_scores(backend.infer(frames[:, ::-1, :, ::-1]), frames[:, ::-1, :, ::-1])


def test_a_small_batch_is_filled_up_with_black_clips(machine: Machine) -> None:
    machine.put_plan(plan_for(machine.double.version, batch=(6, 6, 8)).encode(), batch=(6, 6, 8))
    with machine.open() as backend:
        for number in (8, 2):
            pending = [backend.submit(clips(number, seed=number)) for _ in range(2)]  # one in each slot
            for batch in pending:
                assert_scores(backend.result(batch), clips(number, seed=number))
        buffers = [buffer for buffer in machine.device.live["device memory"] if buffer.num_bytes > 1000]
        assert machine.double.runs == [8, 8, 6, 6]
        assert len(buffers) == 2
        for buffer in buffers:
            left = buffer.data.reshape(8, -1)
            np.testing.assert_array_equal(left[:2], clips(2, seed=2).reshape(2, -1))
            assert (left[2:6] == 0).all()


@pytest.mark.parametrize(
    "frames",
    [clips(2).astype(np.float32), clips(2)[:, :3], clips(2)[..., :1], clips(1)[0]],
)
def test_other_frames_are_refused(machine: Machine, frames: Frames) -> None:
    with (
        machine.open() as backend,
        pytest.raises(ValueError, match=r"expected uint8 \(N, 4, 32, 32, 3\), got "),
    ):
        backend.infer(frames)


def test_open_model_takes_plans(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    requested = []

    def open_double(index: int) -> FakeDevice:
        requested.append(index)
        return machine.device

    monkeypatch.setattr("tsm_runtime.backends.tensorrt.backend.open_device", open_double)
    backend = open_model(machine.bundle, PLAN)
    assert requested == [0]
    assert_scores(backend.infer(clips(1)), clips(1))
    del backend
    gc.collect()
    assert machine.device.closed == 1


@pytest.mark.parametrize("contract", CONTRACTS)
def test_every_name_of_tensorrt_in_the_source_went_through_the_contract(
    make_machine: Callable[..., Machine], contract: str
) -> None:
    machine = make_machine(contract)
    version = machine.double.version
    weights = machine.bundle.manifest.files["model.fp32.onnx"].sha256
    plain = plan_for(version, has_single=True)
    stripped = plan_for(version, stripped=True, weights=weights)
    compatible = plan_for(version, version_compatible=True)
    for plan in (plain, stripped, compatible):
        machine.put_plan(plan.encode(), version_compatible=plan.version_compatible, stripped=plan.stripped)
        machine.device.closed = 0
        with machine.open() as backend:
            assert_scores(backend.infer(clips(2)), clips(2))
    written = set(source_uses(Path(plan_module.__file__).read_text()))
    assert len(written) >= 15
    strategy = "ExecutionContextAllocationStrategy"  # an enum: read, not called
    assert written - machine.double.module.used == {
        "Runtime",  # called: Runtime.__init__
        strategy,
        f"{strategy}.ON_PROFILE_CHANGE",
    }


# --- two in flight, and the end -------------------------------------------------------------------


def test_two_batches_are_in_flight_and_a_third_waits_for_the_first(machine: Machine) -> None:
    with machine.open() as backend:
        first = backend.submit(clips(8, seed=1))
        second = backend.submit(clips(8, seed=2))
        assert machine.double.runs == []  # this GPU does nothing before it must
        third = backend.submit(clips(5, seed=3))
        assert machine.double.runs == [8]
        assert first.num_missing == 0
        assert second.num_missing == 8
        assert_scores(backend.result(third), clips(5, seed=3))
        assert_scores(backend.result(second), clips(8, seed=2))
        assert_scores(backend.result(first), clips(8, seed=1))


def test_the_next_batch_is_copied_while_the_gpu_works(machine: Machine) -> None:
    """The copies have a stream of their own: the second is done although the first run has not begun."""
    with machine.open() as backend:
        pending = [backend.submit(clips(8, seed=seed)) for seed in (1, 2)]
        copies = next(stream for stream in machine.device.live["stream"] if not stream.queue[0].after)
        with machine.device.active():
            copies.synchronize()
        assert machine.double.runs == []
        for seed, batch in enumerate(pending, start=1):
            assert_scores(backend.result(batch), clips(8, seed=seed))


@pytest.mark.parametrize("in_flight", [0, 1, 2])
def test_all_is_given_back_in_the_right_order(machine: Machine, in_flight: int) -> None:
    backend = machine.open()
    for _ in range(in_flight):
        backend.submit(clips(8))
    machine.device.log.clear()
    backend.close()
    backend.close()
    log = machine.device.log
    assert log[:2] == ["synchronize", "synchronize"]
    assert log[2:5] == ["delete IExecutionContext", "delete ICudaEngine", "delete Runtime"]
    frees = [entry for entry in log[5:-1] if "memory" in entry]
    assert frees == (["free device memory"] * 3 + ["free pinned memory"] * 3) * 2
    assert log[-3:] == ["free stream", "free stream", "leave the GPU"]
    assert machine.double.runs == [8] * in_flight
    assert not any(machine.device.live.values())
    assert machine.device.closed == 1


def test_after_the_end_nothing_runs(machine: Machine) -> None:
    with machine.open() as backend:
        pending = backend.submit(clips(1))
    for call in (lambda: backend.infer(clips(1)), lambda: backend.result(pending)):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_a_forgotten_backend_gives_all_back(machine: Machine) -> None:
    backend = machine.open()
    backend.submit(clips(8))
    del backend
    gc.collect()
    assert machine.double.alive == []
    assert not any(machine.device.live.values())
    assert machine.device.closed == 1


def test_threads_take_turns(make_machine: Callable[..., Machine]) -> None:
    machine = make_machine(device=FakeDevice(hurry=random.Random(4)))
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for i in range(8):
                frames = clips(1 + (seed + i) % 11, seed=100 * seed + i)
                assert_scores(backend.infer(frames), frames)
        except BaseException as error:
            failures.append(error)

    with machine.open() as backend:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


# --- what is refused before anything of the plan is interpreted -------------------------------------


def test_an_altered_plan_is_never_deserialised(machine: Machine) -> None:
    (machine.bundle.path / PLAN).write_bytes(plan_for(machine.double.version).encode() + b" ")
    with pytest.raises(BundleError, match="SHA-256 differs from the manifest"):
        machine.open()
    assert machine.double.deserialized == []
    assert machine.device.log == []


def test_a_plan_without_description_is_never_deserialised(machine: Machine) -> None:
    entry = msgspec.structs.replace(machine.bundle.manifest.files[PLAN], engine=None)
    files = {**machine.bundle.manifest.files, PLAN: entry}
    manifest = msgspec.structs.replace(machine.bundle.manifest, files=files)
    machine.bundle = msgspec.structs.replace(machine.bundle, manifest=manifest)
    with pytest.raises(BundleError, match="does not state its TensorRT version and GPU; build it again"):
        machine.open()
    assert machine.double.deserialized == []


def test_a_plan_for_elsewhere_is_never_deserialised(machine: Machine) -> None:
    machine.put_plan(version="10.16.1.11")
    assert machine.refused() == (
        f"{machine.bundle.path / PLAN} is for tensorrt 10.16.1.11, here is 11.4.0.106;"
        " build it again here: tsm-run --rebuild, or tsm-export --target tensorrt"
    )
    assert machine.double.deserialized == []


def test_a_plan_for_another_gpu_is_never_deserialised(machine: Machine) -> None:
    machine.put_plan(gpu="NVIDIA A100-SXM4-80GB", compute_capabilities=("8.0",))
    assert machine.refused() == (
        f"{machine.bundle.path / PLAN} is for NVIDIA A100-SXM4-80GB (compute capability 8.0),"
        " here is NVIDIA H100 80GB HBM3 (compute capability 9.0);"
        " build it again here: tsm-run --rebuild, or tsm-export --target tensorrt"
    )
    assert machine.double.deserialized == []


def test_another_model_of_gpu_is_reported(machine: Machine) -> None:
    machine.put_plan(gpu="NVIDIA H100 PCIe")
    with machine.open() as backend:
        (notice,) = backend.notices
    assert "it was built on NVIDIA H100 PCIe, here is NVIDIA H100 80GB HBM3: it may be slower" in notice


def test_without_the_library_the_command_is_reported(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendError, match=r"pip install 'tsm-tal\[tensorrt\]'") as caught:
        machine.open()
    assert caught.value.exit_code == 5
    assert machine.device.log == []


# --- what the library refuses ---------------------------------------------------------------------


def test_host_code_is_allowed_to_version_compatible_plans_only(machine: Machine) -> None:
    with machine.open():
        pass
    assert "Runtime.engine_host_code_allowed" not in machine.double.module.used


def test_a_version_compatible_plan_of_an_older_version_runs(make_machine: Callable[..., Machine]) -> None:
    machine = make_machine()
    plan = plan_for("10.16.1.11", version_compatible=True)
    machine.put_plan(plan.encode(), version="10.16.1.11", version_compatible=True)
    with machine.open() as backend:
        assert_scores(backend.infer(clips(3)), clips(3))
    assert "Runtime.engine_host_code_allowed" in machine.double.module.used


def test_a_stripped_plan_gets_its_weights_from_the_bundle(machine: Machine) -> None:
    weights = machine.bundle.manifest.files["model.fp32.onnx"].sha256
    plan = plan_for(machine.double.version, stripped=True, weights=weights)
    machine.put_plan(plan.encode(), stripped=True)
    with machine.open() as backend:
        assert_scores(backend.infer(clips(3)), clips(3))


def test_a_stripped_plan_without_its_weights_is_reported(machine: Machine) -> None:
    machine.put_plan(
        plan_for(machine.double.version, stripped=True).encode(), stripped=True, onnx_sha256="0" * 64
    )
    assert f"the ONNX file that {PLAN} was built from" in machine.refused()


@pytest.mark.parametrize("data", [b"", b"\x00" * 100, b"ftrt" + bytes(range(256))])
def test_what_is_no_plan_is_reported_in_the_librarys_words(machine: Machine, data: bytes) -> None:
    machine.put_plan(data)
    assert machine.refused() == (
        f"tensorrt 11.4.0.106 does not load {machine.bundle.path / PLAN}:"
        " [runtime.cpp] Serialization assertion magicTag == kPLAN_MAGIC failed.;"
        " build it again here: tsm-run --rebuild, or tsm-export --target tensorrt"
    )


@pytest.mark.parametrize("call", ["Runtime.deserialize_cuda_engine", "ICudaEngine.create_execution_context"])
def test_a_library_that_gives_nothing_is_reported(machine: Machine, call: str) -> None:
    machine.double.refuse[call] = "Error Code 1: Internal Error (of some kind)"
    assert "does not load" in (message := machine.refused())
    assert "Error Code 1: Internal Error (of some kind); build it again here" in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frames": (8, 32, 32, 3)}, "(-1, 8, 32, 32, 3)"),
        ({"frames_type": "HALF"}, "'frames': ('INPUT', 'HALF', (-1, 4, 32, 32, 3))"),
        ({"outputs": (("action_scores", 3),)}, "does not fit the manifest: expected"),
        ({"outputs": (("action_scores", 4), ("scene_scores", len(SCENES)))}, "('OUTPUT', 'FLOAT', (-1, 4))"),
        ({"outputs": (("verb", 3), ("scene_scores", len(SCENES)))}, "'verb': ('OUTPUT', 'FLOAT', (-1, 3))"),
        ({"batch": (1, 4, 16)}, "takes 1 to 16 clips, but the manifest says 1 to 8; build it again"),
        ({"batch": (2, 4, 8)}, "takes 2 to 8 clips, but the manifest says 1 to 8; build it again"),
    ],
)
def test_a_plan_that_does_not_fit_the_manifest_is_refused(
    machine: Machine, changes: dict[str, Any], words: str
) -> None:
    machine.put_plan(plan_for(machine.double.version, **changes).encode())
    assert words in machine.refused()


# --- the profile of one clip ----------------------------------------------------------------------


@pytest.mark.parametrize("contract", CONTRACTS)
def test_one_clip_runs_in_its_own_profile(make_machine: Callable[..., Machine], contract: str) -> None:
    machine = make_machine(contract)
    machine.put_plan(plan_for(machine.double.version, has_single=True).encode())
    with machine.open() as backend:
        for number in (1, 3, 1, 9):
            frames = clips(number, seed=number)
            assert_scores(backend.infer(frames), frames)
    assert machine.double.runs == [1, 3, 1, 8, 1]
    assert machine.double.profiles == [1, 0, 1, 0, 1]
    assert machine.double.alive == []


def test_an_older_plan_of_one_profile_runs_one_clip_too(machine: Machine) -> None:
    with machine.open() as backend:
        assert_scores(backend.infer(clips(1)), clips(1))
    assert machine.double.profiles == [0]


def test_without_a_context_for_one_clip_that_of_batches_runs_it(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.put_plan(plan_for(machine.double.version, has_single=True).encode())
    machine.double.refuse["IExecutionContext.set_optimization_profile_async"] = "no memory for it"
    with machine.open() as backend:
        assert_scores(backend.infer(clips(1)), clips(1))
    assert machine.double.profiles == [0]
    assert machine.double.alive == []
    (message,) = caplog.messages
    assert message.endswith(
        f"{PLAN}: single clips run as small batches: tensorrt 11.4.0.106 has no context for one clip:"
        " no memory for it"
    )


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [0, 50_000, 150_000, 201_000])
def test_a_gpu_without_enough_memory_is_reported(make_machine: Callable[..., Machine], capacity: int) -> None:
    machine = make_machine(device=FakeDevice(capacity=capacity))
    message = machine.refused(BackendError)
    assert (
        "out of memory; free some of it (nvidia-smi shows which process holds it), or build the plan for"
        in message
    )


def test_page_locked_memory_may_be_refused_too(machine: Machine) -> None:
    machine.device.faults["pin"] = DeviceError("cuMemHostAlloc failed: out of memory", out_of_memory=True)
    assert "cuMemHostAlloc failed: out of memory; free some of it" in machine.refused(BackendError)


def test_another_fault_of_the_gpu_at_the_start_is_reported(machine: Machine) -> None:
    machine.device.faults["event"] = DeviceError("cuEventCreate failed: unknown error")
    message = machine.refused(BackendError)
    assert message == (
        f"NVIDIA H100 80GB HBM3 cannot take {machine.bundle.path / PLAN}: cuEventCreate failed: unknown error"
    )


CALLS_TO_OPEN = 2 + 2 * (2 + 3 + 3)
"""Two streams; in each slot events, pinned memory, and memory of the GPU."""


@pytest.mark.parametrize("number", range(CALLS_TO_OPEN))
def test_each_call_at_the_start_may_fail(machine: Machine, number: int) -> None:
    machine.device.calls_until_fault = number
    assert "failed: unknown error" in machine.refused(BackendError)
    assert not any(machine.device.live.values())


def test_no_other_call_is_made_at_the_start(machine: Machine) -> None:
    machine.device.calls_until_fault = CALLS_TO_OPEN
    with machine.open() as backend, pytest.raises(RunError, match="upload failed: unknown error"):
        backend.infer(clips(1))


@pytest.mark.parametrize("number", range(0, 18, 2))
def test_each_call_of_a_run_may_fail(machine: Machine, number: int) -> None:
    """Eighteen: six parts, each with a copy to the GPU and two back."""
    batches = [clips(size, seed=size) for size in (8, 19, 3, 8)]
    with machine.open() as backend:
        machine.device.calls_until_fault = number
        with pytest.raises(RunError, match="failed: unknown error"):
            _ = [backend.submit(frames) for frames in batches]
        for frames in batches:
            assert_scores(backend.infer(frames), frames)


def test_a_batch_of_another_backend_is_refused(make_machine: Callable[..., Machine]) -> None:
    with make_machine().open() as first:
        pending = first.submit(clips(3))
        with make_machine().open() as second, pytest.raises(ValueError, match="to another backend"):
            second.result(pending)
        assert_scores(first.result(pending), clips(3))
    assert_scores(first.result(pending), clips(3))  # there already, so closing does not matter


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("IExecutionContext.set_input_shape", "does not run a batch of 5: the reason"),
        ("IExecutionContext.infer_shapes", "does not run a batch of 5: no shape is known for frames"),
        ("IExecutionContext.set_tensor_address", "does not run a batch of 5: the reason"),
        ("IExecutionContext.execute_async_v3", "does not run a batch of 5: the reason"),
    ],
)
def test_a_refused_batch_ends_what_is_in_flight_and_the_next_one_runs(
    machine: Machine, call: str, words: str
) -> None:
    with machine.open() as backend:
        done = backend.submit(clips(3))
        backend.result(done)
        lost = backend.submit(clips(8))
        machine.double.refuse[call] = "the reason"
        with pytest.raises(RunError, match=words) as caught:
            backend.infer(clips(5))
        assert caught.value.exit_code == 7
        with pytest.raises(RunError, match=f"lost when another batch broke off .*{words}"):
            backend.result(lost)
        assert_scores(backend.result(done), clips(3))
        machine.double.refuse.clear()
        for seed in range(3):
            assert_scores(backend.infer(clips(11, seed=seed)), clips(11, seed=seed))


def test_an_output_of_another_shape_is_never_written(machine: Machine) -> None:
    with machine.open() as backend:
        machine.double.shown_shapes["action_scores"] = (8, 300)
        with pytest.raises(RunError, match=r"action_scores would have the shape \(8, 300\)"):
            backend.infer(clips(8))
        assert machine.double.runs == []


def test_a_lack_of_memory_in_a_run_is_reported(machine: Machine) -> None:
    with machine.open() as backend:
        machine.device.faults["upload"] = DeviceError("cuMemcpy failed: out of memory", out_of_memory=True)
        with pytest.raises(
            RunError,
            match=r"out of memory; free some of it .nvidia-smi shows which process holds it.*--batch",
        ):
            backend.infer(clips(3))


@pytest.mark.parametrize("call", ["upload", "download"])
def test_a_failed_copy_is_reported(machine: Machine, call: str) -> None:
    with machine.open() as backend:
        machine.device.faults[call] = DeviceError("cuMemcpy failed: invalid argument")
        with pytest.raises(RunError, match=r"HBM3 \(double\), fp16: cuMemcpy failed: invalid argument"):
            backend.infer(clips(3))
        assert_scores(backend.infer(clips(3)), clips(3))


def test_a_gpu_that_breaks_down_is_reported_and_left(machine: Machine) -> None:
    with machine.open() as backend:
        first = backend.submit(clips(8))
        machine.device.broken = DeviceError("cuEventSynchronize failed: an illegal memory access")
        with pytest.raises(RunError, match="an illegal memory access"):
            backend.result(first)
        with pytest.raises(RunError, match="an illegal memory access"):
            backend.infer(clips(1))
    assert machine.double.alive == []
    assert not any(machine.device.live.values())
    assert machine.device.closed == 1


def test_an_interrupt_leaves_a_backend_that_can_be_used(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine.open() as backend:
        backend.submit(clips(8))
        slot = backend._free[0]
        monkeypatch.setattr(
            type(slot), "download", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            backend.infer(clips(5))
        monkeypatch.undo()
        assert_scores(backend.infer(clips(11)), clips(11))


@pytest.mark.parametrize("library", ["tensorrt", "tensorrt_rtx"])
def test_the_other_gpu_names_are_used(make_machine: Callable[..., Machine], library: str) -> None:
    contract = next(name for name in CONTRACTS if name.startswith(f"{library}-"))
    machine = make_machine(contract, FakeDevice(gpu=Gpu("NVIDIA RTX PRO 6000", "12.0")))
    with machine.open() as backend:
        assert f"{library} " in backend.name
        assert "NVIDIA RTX PRO 6000" in backend.name


# --- batches in page-locked memory ----------------------------------------------------------------


def test_a_batch_of_the_pool_goes_to_the_gpu_from_where_it_is(machine: Machine) -> None:
    sources: list[Frames] = []
    upload = machine.device.upload

    def watched(address: int, source: Frames, stream: Any) -> None:
        sources.append(source)
        upload(address, source, stream)

    machine.device.upload = watched  # type: ignore[method-assign]
    with machine.open() as backend:
        held = backend.frame_pool.take((5, NUM_FRAMES, SIZE, SIZE, 3))
        held[:] = clips(5)
        plain = clips(4)
        assert_scores(backend.infer(held), clips(5))
        assert_scores(backend.infer(held[:3]), clips(5)[:3])  # the last batch of a video
        assert_scores(backend.infer(held[::2]), clips(5)[::2])  # not contiguous: has to be copied
        assert_scores(backend.infer(plain), plain)
    assert [np.shares_memory(source, held) for source in sources] == [True, True, False, False]


def test_fewer_clips_than_the_plan_takes_are_filled_up(machine: Machine) -> None:
    machine.put_plan(plan_for(machine.double.version, batch=(4, 4, 8)).encode(), batch=(4, 4, 8))
    with machine.open() as backend:
        held = backend.frame_pool.take((2, NUM_FRAMES, SIZE, SIZE, 3))
        held[:] = clips(2)
        assert_scores(backend.infer(held), clips(2))


def test_overwriting_a_batch_of_the_pool_too_early_is_noticed_here() -> None:
    """So that the tests of the pipeline below say something."""
    device = FakeDevice()
    with device.active():
        source = device.pin((2, 3), np.uint8).array
        target, stream = device.allocate(6), device.stream()
        device.upload(target.address, source, stream)
        source.fill(1)
        with pytest.raises(ContractError, match="page-locked memory is written before its copy"):
            stream.synchronize()


@pytest.mark.parametrize("hurry", [None, random.Random(1), random.Random(2)])
@pytest.mark.parametrize("jobs", [1, 3])
def test_videos_on_a_plan(
    make_machine: Callable[..., Machine], tmp_path: Path, hurry: random.Random | None, jobs: int
) -> None:
    """Batches are written into page-locked memory and used again, while two are in flight."""
    levels = [(20, 1.0), (128, 0.5), (235, 1.5), (60, 0.7)] * 3
    videos = [VideoInput(write_levels(tmp_path / f"v{n}.mkv", levels[n:]), f"v{n}") for n in range(4)]
    machine = make_machine(device=FakeDevice(hurry=hurry))
    with machine.open() as backend:
        member = replace(brightness_member(), backend=backend)
        found = dict(run_videos(videos, [member], Options(batch_size=3), jobs=jobs))
    for video, result in found.items():
        assert result == run(video.path, brightness_member())


def test_without_page_locked_memory_plain_memory_does(machine: Machine) -> None:
    with machine.open() as backend:
        machine.device.faults["pin"] = DeviceError("cuMemHostAlloc failed", out_of_memory=True)
        held = backend.frame_pool.take((2, NUM_FRAMES, SIZE, SIZE, 3))
        held[:] = clips(2)
        assert_scores(backend.infer(held), clips(2))
    late = backend.frame_pool.take((3, NUM_FRAMES, SIZE, SIZE, 3))
    late.fill(1)  # memory of its own: nothing of the GPU is there any more
    assert machine.device.closed == 1


def test_short_memory_of_the_gpu_is_distinguished(machine: Machine) -> None:
    with machine.open() as backend:
        machine.device.faults["upload"] = DeviceError("out of memory", out_of_memory=True)
        with pytest.raises(OutOfMemoryError, match="out of memory"):
            backend.infer(clips(2))
        machine.device.faults["upload"] = DeviceError("illegal address")
        with pytest.raises(RunError, match="illegal address") as raised:
            backend.infer(clips(2))
        assert not isinstance(raised.value, OutOfMemoryError)
