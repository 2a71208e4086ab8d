"""Clips and pictures that stay on the GPU, with TensorRT: on doubles of library and GPU."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from cuda_double import FakeDevice
from fakes import BrightnessBackend
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from picture_double import MODEL, NEWEST, Machine, mean_level
from tensorrt_contract import CONTRACTS
from tensorrt_double import NUM_FRAMES, SIZE, plan_for

from tsm_runtime.backends.cuda.device_clips import DeviceClips
from tsm_runtime.backends.cuda.memory import DeviceError
from tsm_runtime.backends.cuda.planes import Planes
from tsm_runtime.backends.tensorrt import drawer as tensorrt_drawer
from tsm_runtime.backends.tensorrt.backend import TensorrtBackend
from tsm_runtime.backends.tensorrt.build import BuiltPlan
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.manifest import EngineInfo
from tsm_runtime.errors import BackendError, BundleError, OutOfMemoryError, RunError
from tsm_runtime.video.preprocess import PictureView

PICTURES = "preprocess.plan"
PICTURE_BYTES = SIZE * SIZE * 3
NO_MEMORY: Any = None
"""Nothing is put into the clips of these tests."""


@pytest.fixture
def make_machine(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Machine]]:
    """Makes machines whose library is the one that is imported; at the end nothing may have gone wrong."""
    machines = []

    def make(contract: str = NEWEST, device: FakeDevice | None = None) -> Machine:
        folder = tmp_path / f"bundle{len(machines)}"
        folder.mkdir()
        for file in tiny_bundle.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        machine = Machine(load_bundle(folder), contract, device or FakeDevice())
        monkeypatch.setitem(sys.modules, machine.double.module.__name__, machine.double.module)
        machines.append(machine)
        return machine

    yield make
    for machine in machines:
        assert machine.device.violations == []


@pytest.fixture
def machine(make_machine: Callable[..., Machine]) -> Machine:
    return make_machine()


def put_clips(device: FakeDevice, number: int, seed: int = 0, shift: int = 0) -> tuple[Any, DeviceClips]:
    """Clips on the GPU, `shift` bytes from where its memory begins, and their buffer."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 256, (number, 1, 1, 1, 1), np.uint8)
    values = np.broadcast_to(levels, (number, NUM_FRAMES, SIZE, SIZE, 3))
    buffer = device.of_others(shift + values.size)
    buffer.data[shift:] = values.reshape(-1)
    return buffer, DeviceClips(values.shape, buffer.address + shift, NO_MEMORY)


def free(device: FakeDevice, *buffers: Any) -> None:
    with device.active():
        for buffer in buffers:
            buffer.free()


def expected_of(buffer: Any, number: int, shift: int = 0) -> Any:
    return BrightnessBackend().infer(buffer.data[shift:].reshape(number, NUM_FRAMES, SIZE, SIZE, 3))


# --- clips ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("contract", CONTRACTS)
@pytest.mark.parametrize("number", [1, 8, 19])
def test_clips_on_the_gpu_are_scored_where_they_lie(
    make_machine: Callable[..., Machine], contract: str, number: int
) -> None:
    """19 clips take three calls: their parts lie in the midst of the memory."""
    device = FakeDevice()
    machine = make_machine(contract, device)
    buffer, clips = put_clips(device, number)
    uploads: list[int] = []
    upload = device.upload
    device.upload = lambda *given: uploads.append(upload(*given))  # type: ignore[assignment,func-returns-value]
    device.copy = lambda *given: pytest.fail("copied")  # type: ignore[assignment]
    with machine.open() as backend:
        found = backend.infer(clips)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.action, expected_of(buffer, number).action)
        assert not uploads
        free(device, buffer)


@pytest.mark.parametrize(("number", "least", "shift"), [(1, 2, 0), (3, 1, 48), (2, 4, 16)])
def test_too_few_or_unaligned_clips_are_copied_on_the_gpu(
    machine: Machine, number: int, least: int, shift: int
) -> None:
    batch = (least, 4, 8)
    machine.put(MODEL, plan_for(machine.double.version, batch=batch).encode(), batch=batch)
    buffer, clips = put_clips(machine.device, number, shift=shift)
    with machine.open() as backend:
        found = backend.infer(clips)  # type: ignore[arg-type]
    assert machine.double.runs == [max(number, least)]
    assert len(found.action) == number
    np.testing.assert_array_equal(found.action, expected_of(buffer, number, shift).action)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(seed=st.integers(0, 1 << 30), numbers=st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_scores_do_not_depend_on_what_the_gpu_does_first(
    make_machine: Callable[..., Machine], seed: int, numbers: list[int]
) -> None:
    device = FakeDevice(hurry=random.Random(seed))
    machine = make_machine(device=device)
    given_ = [put_clips(device, number, seed + i, 16 * (i % 2)) for i, number in enumerate(numbers)]
    with machine.open() as backend:
        submitted = [backend.submit(clips) for _, clips in given_]  # type: ignore[arg-type]
        for i, (number, (buffer, _)) in enumerate(zip(numbers, given_, strict=True)):
            found = backend.result(submitted[i])
            np.testing.assert_array_equal(found.action, expected_of(buffer, number, 16 * (i % 2)).action)
            free(device, buffer)  # what has a result is not in use


def test_clips_in_use_are_noticed(machine: Machine) -> None:
    """The double detects memory released before `result`."""
    buffer, clips = put_clips(machine.device, 2)
    with machine.open() as backend:
        submitted = backend.submit(clips)  # type: ignore[arg-type]
        with pytest.raises(AssertionError, match="while the GPU may still use it"):
            free(machine.device, buffer)
        backend.result(submitted)
    machine.device.violations.clear()


def test_clips_of_another_shape_are_refused(machine: Machine) -> None:
    clips = DeviceClips((1, 2, 8, 8, 3), 256, NO_MEMORY)
    with machine.open() as backend, pytest.raises(ValueError, match=r"expected uint8 \(N, 4, 32, 32, 3\)"):
        backend.submit(clips)  # type: ignore[arg-type]


# --- pictures -------------------------------------------------------------------------------------


class Surface:
    """What NVDEC would give: two planes on the GPU, and its memory."""

    def __init__(
        self, device: FakeDevice, width: int, height: int, pitch: int, shift: int = 0, seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        rows = height, (height + 1) // 2
        self.buffers = [device.of_others(shift + number * pitch) for number in rows]
        self.values = {}
        for name, buffer, number in zip(("y", "uv"), self.buffers, rows, strict=True):
            buffer.data[:] = rng.integers(0, 256, len(buffer.data), np.uint8)
            self.values[name] = buffer.data[shift:].reshape(1, number, pitch)
        planes = [
            SimpleNamespace(height=number, line_size=pitch, buffer_ptr=buffer.address + shift)
            for buffer, number in zip(self.buffers, rows, strict=True)
        ]
        self.frame: Any = SimpleNamespace(width=width, height=height, planes=planes)


def view(seed: int = 0) -> PictureView:
    rng = np.random.default_rng(seed)
    return PictureView(
        sample_bytes=np.ones(1, np.float32),
        part=rng.integers(0, 9, 4).astype(np.float32),
        colour=rng.integers(0, 9, (3, 4)).astype(np.float32),
        turn=np.zeros(3, np.float32),
    )


def drawn(surface: Surface, seed: int) -> Any:
    return mean_level({**surface.values, **view(seed).inputs()}, SIZE).reshape(-1)


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_picture_is_there_when_draw_returns(make_machine: Callable[..., Machine], contract: str) -> None:
    """Sizes that change, planes and targets that lie where no tensor may, memory that NVDEC takes back."""
    machine = make_machine(contract)
    device = machine.device
    target = device.of_others(4 * PICTURE_BYTES + 16)
    with machine.open() as backend:
        drawer = backend.open_drawer(machine.bundle)
        sizes = [(64, 48, 256, 0), (1920, 1080, 2048, 0), (64, 48, 256, 48), (321, 241, 512, 16)]
        for number, (width, height, pitch, shift) in enumerate(sizes):
            surface = Surface(device, width, height, pitch, shift, seed=number)
            assert drawer.refusal(surface.frame) is None
            start = number * PICTURE_BYTES + (16 if number == 3 else 0)
            drawer.draw([Planes.of(surface.frame)], view(number), target.address + start)
            free(device, *surface.buffers)
            picture = target.data[start : start + PICTURE_BYTES]
            np.testing.assert_array_equal(picture, drawn(surface, number))
    assert machine.double.num_pictures == 4
    assert device.closed == 1
    assert machine.double.alive == []


@pytest.mark.parametrize(("shift", "offset"), [(0, 0), (48, 16)])
def test_the_pictures_of_a_clip_are_waited_for_once(machine: Machine, shift: int, offset: int) -> None:
    """One upload of what they share; also where planes and pictures lie where no tensor may."""
    device = machine.device
    target = device.of_others(NUM_FRAMES * PICTURE_BYTES + offset)
    with machine.open() as backend:
        drawer = backend.open_drawer(machine.bundle)
        surfaces = [Surface(device, 64, 48, 256, shift, seed=number) for number in range(NUM_FRAMES)]
        uploads, upload = [], device.upload
        device.upload = lambda *given: uploads.append(upload(*given))  # type: ignore[method-assign,func-returns-value]
        for clip in range(2):
            before = device.log.count("synchronize")
            drawer.draw([Planes.of(each.frame) for each in surfaces], view(clip), target.address + offset)
            assert device.log.count("synchronize") == before + 1
            found = target.data[offset:].reshape(NUM_FRAMES, PICTURE_BYTES)
            for picture, surface in zip(found, surfaces, strict=True):
                np.testing.assert_array_equal(picture, drawn(surface, clip))
        assert len(uploads) == 4 + 2  # `sample_bytes` and `turn` are those of the clip before
        for surface in surfaces:
            free(device, *surface.buffers)
    assert machine.double.num_pictures == 2 * NUM_FRAMES


def test_the_plan_of_pictures_for_this_kind_of_gpu_is_opened(machine: Machine) -> None:
    """That of the first kind is for another card; its own is beside it."""
    own = "preprocess.sm90.plan"
    plan = machine.bundle.model_bytes("preprocess.plan")
    machine.put(own, plan, batch=(1, 1, 1))
    machine.put("preprocess.plan", plan, batch=(1, 1, 1), compute_capabilities=("8.6",))
    with machine.open() as backend:
        assert backend.open_drawer(machine.bundle).name.endswith(own)


def test_memory_follows_the_pictures(machine: Machine) -> None:
    """Small pictures take little; larger ones get more, once; what is enough stays."""
    device = machine.device
    used = []
    with machine.open() as backend:
        drawer = backend.open_drawer(machine.bundle)
        target = device.of_others(PICTURE_BYTES)
        for width, height, pitch in [(64, 48, 256), (1920, 1080, 2048), (64, 48, 256)]:
            surface = Surface(device, width, height, pitch)
            drawer.draw([Planes.of(surface.frame)], view(), target.address)
            free(device, *surface.buffers)
            used.append(device.used_bytes)
    assert used[1] - used[0] == 4 * (1080 + 540) * 2048 - 4 * (48 + 24) * 256
    assert used[2] == used[1]


def test_pictures_beyond_the_plan_are_reported(machine: Machine) -> None:
    frame: Any = SimpleNamespace(
        width=9000,
        height=4500,
        planes=[SimpleNamespace(height=4500, line_size=9216), SimpleNamespace(height=2250, line_size=9216)],
    )
    with machine.open() as backend:
        reason = backend.open_drawer(machine.bundle).refusal(frame)
    assert reason is not None
    assert reason.startswith("pictures of 9000 x 4500, in rows of 9216 bytes: ")
    assert reason.endswith("preprocess.plan takes 16 to 4352 rows of 16 to 16384 bytes")


def test_drawing_and_scoring_go_on_at_a_time(make_machine: Callable[..., Machine]) -> None:
    """Four threads draw while batches are in flight; then the drawer is closed with the backend."""
    machine = make_machine()
    device = machine.device
    lock = threading.RLock()

    with machine.open() as backend:
        drawer = backend.open_drawer(machine.bundle)
        buffer, clips = put_clips(device, 8)
        target = device.of_others(4 * PICTURE_BYTES)
        surfaces = [Surface(device, 64, 48 + 2 * i, 256, seed=i) for i in range(4)]
        run, failures = device.force, []

        def one_at_a_time(*given: Any) -> None:
            with lock:  # the double's queues are not the driver's
                run(*given)

        device.force = one_at_a_time  # type: ignore[method-assign]

        def draw(number: int) -> None:
            try:
                for _ in range(5):
                    place = target.address + number * PICTURE_BYTES
                    drawer.draw([Planes.of(surfaces[number].frame)], view(number), place)
            except BaseException as error:
                failures.append(error)

        submitted = backend.submit(clips)  # type: ignore[arg-type]
        threads = [threading.Thread(target=draw, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        np.testing.assert_array_equal(backend.result(submitted).action, expected_of(buffer, 8).action)
        assert not failures
        for number, surface in enumerate(surfaces):
            start = number * PICTURE_BYTES
            np.testing.assert_array_equal(target.data[start : start + PICTURE_BYTES], drawn(surface, number))
            free(device, *surface.buffers)
        free(device, target, buffer)
    with pytest.raises(ValueError, match=r"preprocess\.plan: closed"):
        drawer.draw([Planes.of(surfaces[0].frame)], view(), 256)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("IExecutionContext.set_input_shape", "no such shape"),
        ("IExecutionContext.infer_shapes", "no shape is known for y"),
        ("IExecutionContext.update_device_memory_size_for_shapes", "no size"),
        ("IExecutionContext.set_tensor_address", "no such address"),
        ("IExecutionContext.execute_async_v3", "no launch"),
    ],
)
def test_what_the_library_refuses_is_reported(machine: Machine, call: str, words: str) -> None:
    device = machine.device
    surface = Surface(device, 64, 48, 256)
    with machine.open() as backend:
        drawer = backend.open_drawer(machine.bundle)
        target = device.of_others(PICTURE_BYTES)
        machine.double.refuse[call] = words
        with pytest.raises(RunError, match=rf"does not draw a picture of planes .*: {words}"):
            drawer.draw([Planes.of(surface.frame)], view(), target.address)
        machine.double.refuse.clear()
        drawer.draw([Planes.of(surface.frame)], view(), target.address)  # nothing is left of it
        np.testing.assert_array_equal(target.data, drawn(surface, 0))
        free(device, target, *surface.buffers)


def test_another_output_shape_is_refused(machine: Machine) -> None:
    surface = Surface(machine.device, 64, 48, 256)
    machine.double.shown_shapes["frames"] = (1, 64, 64, 3)
    with machine.open() as backend:
        drawer = backend.open_drawer(machine.bundle)
        with pytest.raises(RunError, match=r"frames would have the shape \(1, 64, 64, 3\)"):
            drawer.draw([Planes.of(surface.frame)], view(), 0x7F0000000000)


def test_no_memory_for_pictures_of_a_size(make_machine: Callable[..., Machine]) -> None:
    machine = make_machine(device=FakeDevice(capacity=1 << 23))
    surface = Surface(machine.device, 1920, 1080, 2048)
    with machine.open() as backend:
        drawer = backend.open_drawer(machine.bundle)
        with pytest.raises(OutOfMemoryError, match=r"preprocess\.plan: cuMemAlloc failed: out of memory"):
            drawer.draw([Planes.of(surface.frame)], view(), surface.buffers[0].address)


def test_a_gpu_that_breaks_down_while_drawing_is_reported(machine: Machine) -> None:
    surface = Surface(machine.device, 64, 48, 256)
    with machine.open() as backend:
        drawer = backend.open_drawer(machine.bundle)
        machine.device.faults["upload"] = DeviceError("an illegal memory access was encountered")
        with pytest.raises(RunError, match="illegal memory access"):
            drawer.draw([Planes.of(surface.frame)], view(), surface.buffers[0].address)


@pytest.mark.parametrize("calls", range(12))
def test_what_was_taken_is_given_back_when_opening_fails(machine: Machine, calls: int) -> None:
    device = machine.device
    with machine.open() as backend:
        used, live = device.used_bytes, {kind: len(held) for kind, held in device.live.items()}
        device.calls_until_fault = calls
        if calls < 10:  # a stream, four pinned, four on the GPU, a picture
            with pytest.raises(BackendError, match=r"cannot take .*preprocess"):
                backend.open_drawer(machine.bundle)
            assert device.used_bytes == used
            assert {kind: len(held) for kind, held in device.live.items()} == live
        else:
            backend.open_drawer(machine.bundle)
        device.calls_until_fault = None
    assert machine.double.alive == []


# --- which plan -----------------------------------------------------------------------------------


def test_a_bundle_without_the_plan_says_what_to_do(machine: Machine) -> None:
    del machine.files[PICTURES]
    machine.write()
    with machine.open() as backend, pytest.raises(BundleError) as caught:
        backend.open_drawer(machine.bundle)
    assert str(caught.value) == (
        f"{machine.bundle.path}: has no preprocess.plan; build it here: tsm-run --rebuild, or tsm-export"
        " --target tensorrt"
    )


def test_plans_that_do_not_fit_are_refused(machine: Machine) -> None:
    with machine.open() as backend:
        (machine.bundle.path / PICTURES).write_bytes(b"altered")
        with pytest.raises(BundleError, match="SHA-256 differs"):
            backend.open_drawer(machine.bundle)
        machine.put(PICTURES, plan_for(machine.double.version, pictures=SIZE).encode(), version="9.9.9")
        with pytest.raises(BundleError, match=r"preprocess\.plan is for tensorrt 9\.9\.9, here is"):
            backend.open_drawer(machine.bundle)
        machine.put(PICTURES, plan_for(machine.double.version, pictures=SIZE * 2).encode())
        with pytest.raises(BundleError, match="does not fit the manifest"):
            backend.open_drawer(machine.bundle)
        machine.put(PICTURES, plan_for(machine.double.version).encode())
        with pytest.raises(BundleError, match="does not fit the manifest"):
            backend.open_drawer(machine.bundle)
        machine.put(PICTURES, plan_for(machine.double.version, pictures=SIZE).encode())
        machine.double.on_host = "turn"
        with pytest.raises(BundleError, match="reads turn from the host"):
            backend.open_drawer(machine.bundle)
        machine.double.on_host = ""
        backend.open_drawer(machine.bundle)


@pytest.mark.parametrize("there", [True, False])
def test_rebuild_builds_it_beside_the_plan_of_clips(
    machine: Machine, there: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Missing, or of another version; what was stored of the plan of clips in the meantime stays."""
    identity = load_bundle(machine.bundle.path).manifest_sha256
    if there:
        machine.put(PICTURES, b"old", version="9.9.9")
    else:
        del machine.files[PICTURES]
        machine.write()
    stale = machine.bundle
    machine.put(MODEL, plan_for(machine.double.version, batch=(1, 4, 6)).encode(), batch=(1, 4, 6))
    requested, devices = [], []

    def build(bundle: Bundle, like: EngineInfo, *, progress: Any = None, device: int = 0) -> BuiltPlan:
        requested.append(like)
        devices.append(device)
        info = msgspec.structs.replace(like, batch=(1, 1, 1))
        data = plan_for(machine.double.version, pictures=SIZE).encode()
        return BuiltPlan(plan=data, engine=info, evidence="graph", num_layers=1)

    monkeypatch.setattr(tensorrt_drawer, "build_picture_plan", build)
    with TensorrtBackend(machine.bundle, MODEL, memory=machine.device, device=1) as backend:
        backend.open_drawer(stale, rebuild=True)
        backend.open_drawer(load_bundle(stale.path))
    assert devices == [1]  # it is built on the GPU that it is for
    assert "building preprocess.plan again: " in caplog.text
    now = load_bundle(machine.bundle.path)
    assert now.manifest.files[PICTURES].kind == "preprocess"
    assert now.manifest.files[PICTURES].engine == msgspec.structs.replace(requested[0], batch=(1, 1, 1))
    assert now.manifest.files[MODEL] == machine.files[MODEL]
    assert now.manifest_sha256 == identity
