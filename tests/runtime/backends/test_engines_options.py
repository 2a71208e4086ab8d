"""What surrounds a build: options, the libraries' presence, the GPU, and progress."""

from __future__ import annotations

import ctypes
import io
import signal
import sys
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsm_runtime.backends.cuda.gpu import Gpu, find_gpu
from tsm_runtime.backends.tensorrt import library
from tsm_runtime.backends.tensorrt.build_options import BuildOptions, options_of, parse_batch
from tsm_runtime.backends.tensorrt.library import Library, import_library
from tsm_runtime.backends.tensorrt.progress import BuildWatch, build_bar
from tsm_runtime.bundle.manifest import EngineInfo, HardwareCompatibility
from tsm_runtime.errors import BackendError, UsageError


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": (0, 1, 2)}, "batch 0,1,2: expected MIN,OPT,MAX"),
        ({"batch": (2, 1, 4)}, "batch 2,1,4"),
        ({"batch": (1, 5, 4)}, "batch 1,5,4"),
        ({"workspace_mib": 0}, "workspace 0 MiB: expected 1 or more"),
        ({"optimization_level": 6}, "optimization level 6: expected 0 to 5"),
        ({"optimization_level": -1}, "optimization level -1"),
        ({"compute_capabilities": ("89",)}, "compute capability '89': expected a number like 8.9"),
        ({"compute_capabilities": ("8.6", "sm_89")}, "compute capability 'sm_89'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        BuildOptions(**options)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    "options", [BuildOptions(version_compatible=True), BuildOptions(hardware_compatibility="ampere_plus")]
)
def test_options_of_the_other_library_are_refused(options: BuildOptions) -> None:
    options.require_fit("tensorrt")
    with pytest.raises(UsageError, match="tensorrt-rtx has neither version nor hardware compatible plans"):
        options.require_fit("tensorrt_rtx")


def test_compute_capabilities_are_of_rtx() -> None:
    options = BuildOptions(compute_capabilities=("8.9",))
    options.require_fit("tensorrt_rtx")
    with pytest.raises(UsageError, match="for tensorrt-rtx only"):
        options.require_fit("tensorrt")


@given(st.lists(st.integers(1, 999), min_size=3, max_size=3), st.sampled_from([",", " , "]))
def test_a_batch_is_read_as_it_is_written(numbers: list[int], comma: str) -> None:
    assert parse_batch(comma.join(map(str, numbers))) == tuple(numbers)


@pytest.mark.parametrize(("text", "batch"), [("4", (4, 4, 4)), ("1,8,32", (1, 8, 32))])
def test_one_number_stands_for_all_three(text: str, batch: tuple[int, int, int]) -> None:
    assert parse_batch(text) == batch


@pytest.mark.parametrize(
    "text", ["", "1,2", "1,2,3,4", "a", "1,,3", "1,2,x", "-1,2,3", "1.5", "1;2;3", "9" * 9]
)
def test_a_batch_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected MIN,OPT,MAX, for example 1,8,32"):
        parse_batch(text)


@pytest.mark.parametrize("gpus", ["none", "ampere_plus", "same_compute_capability"])
def test_a_plan_is_built_anew_with_the_options_it_had(gpus: HardwareCompatibility) -> None:
    options = BuildOptions(
        batch=(1, 2, 3), version_compatible=True, hardware_compatibility=gpus, stripped=True
    )
    engine = EngineInfo(
        library="tensorrt",
        version="10.16.1.11",
        gpu="NVIDIA A100",
        compute_capabilities=("8.0",),
        batch=(1, 2, 3),
        onnx_sha256="0" * 64,
        version_compatible=True,
        hardware_compatibility=gpus,
        stripped=True,
    )
    assert options_of(engine) == options


def test_an_rtx_plan_is_built_anew_for_the_same_gpus() -> None:
    engine = EngineInfo(
        library="tensorrt_rtx",
        version="1.6",
        compute_capabilities=("8.6", "8.9"),
        batch=(1, 1, 1),
        onnx_sha256="0" * 64,
    )
    assert options_of(engine) == BuildOptions(batch=(1, 1, 1), compute_capabilities=("8.6", "8.9"))


# The libraries.


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("tensorrt", r"pip install 'tsm-tal\[tensorrt\]'"),
        ("tensorrt_rtx", "pip install tensorrt-rtx-cu13"),
    ],
)
def test_a_missing_library_is_named_with_its_command(
    name: Library, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendError, match=f"^{name} is not installed .*: {command}$"):
        import_library(name)


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libnvinfer.so.10: cannot open shared object file:\n No such file or directory"),
        OSError("libcudart.so.13: cannot open shared object file: No such file or directory"),
        RuntimeError("CUDA driver version is insufficient: No such file or directory"),
    ],
)
def test_a_library_that_does_not_load_is_reported_why(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def import_module(name: str) -> None:
        raise error

    monkeypatch.setattr(library.importlib, "import_module", import_module)
    with pytest.raises(
        BackendError, match=r"tensorrt is installed but does not load \(.*No such file"
    ) as raised:
        import_library("tensorrt")
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 5


@pytest.mark.parametrize("version", ["8.6.1", "10.11.0.33", "10.2"])
def test_an_old_library_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("tensorrt")
    module.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    with pytest.raises(BackendError) as raised:
        import_library("tensorrt")
    assert str(raised.value) == (
        f"tensorrt {version} is too old: 10.12 or newer is needed; pip install --upgrade 'tsm-tal[tensorrt]'"
    )


@pytest.mark.parametrize("version", ["10.12.0.36", "10.16.1.11", "11.0.0", "12.1"])
def test_newer_libraries_are_taken(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("tensorrt")
    module.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    assert import_library("tensorrt") is module


# The GPU.


class Driver:
    """Stands for libcuda: one device."""

    def __init__(self, init_code: int = 0, name: bytes = b"NVIDIA H100") -> None:
        self.init_code, self.name = init_code, name

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.init_code

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:  # noqa: N802
        device._obj.value = 7
        return 0 if ordinal == 0 else 101

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:  # noqa: N802
        assert device.value == 7
        name.value = self.name[: length - 1]
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 12, 76: 1}[attribute]
        return 0


def test_the_driver_states_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    assert find_gpu() == Gpu(name="NVIDIA H100", compute_capability="12.1")
    with pytest.raises(BackendError, match="there is none of this number"):
        find_gpu(1)


def test_a_driver_without_device_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(init_code=100))
    with pytest.raises(BackendError, match="no GPU: the driver finds no device") as raised:
        find_gpu()
    assert raised.value.exit_code == 5


def test_a_machine_without_driver_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(BackendError, match=r"no GPU: the NVIDIA driver is not installed \(\S+: cannot open"):
        find_gpu()


# Progress.


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=6))
def test_every_phase_ends_once_with_all_its_steps(phases: list[tuple[int, bool]]) -> None:
    """Phases of 1 to 5 steps; some leave out their last one, as the library's do."""
    events: list[tuple[str, int, int]] = []
    watch = BuildWatch(lambda *event: events.append(event))
    for number, (num_steps, complete) in enumerate(phases):
        watch.start(f"phase {number}", num_steps)
        for step in range(num_steps if complete else num_steps - 1):
            assert watch.step(f"phase {number}", step)
        watch.finish(f"phase {number}")
    ends = [event for event in events if event[1] == event[2]]
    assert ends == [(f"phase {number}", steps, steps) for number, (steps, _) in enumerate(phases)]
    for number, (num_steps, _) in enumerate(phases):
        counted = [done for name, done, _ in events if name == f"phase {number}"]
        assert counted == list(range(num_steps + 1))


def test_what_stops_a_build_is_raised_later() -> None:
    def fail(phase: str, done: int, total: int) -> None:
        raise ValueError("no more")

    watch = BuildWatch(fail)
    watch.start("phase", 3)
    assert watch.stopped
    assert not watch.step("phase", 0)
    watch.finish("phase")
    with pytest.raises(ValueError, match="no more"):
        watch.raise_stop()


def test_no_listener_is_needed() -> None:
    watch = BuildWatch(None)
    watch.start("phase", 1)
    assert watch.step("phase", 0)
    assert watch.step("a phase that never began", 4)
    watch.finish("phase")
    watch.raise_stop()


def test_a_second_ctrl_c_is_left_to_the_system() -> None:
    watch = BuildWatch(None)
    before = signal.getsignal(signal.SIGINT)
    with watch.catching_interrupts():
        assert not watch.stopped
        signal.raise_signal(signal.SIGINT)
        assert watch.stopped
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        watch.raise_stop()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_shows_the_running_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with build_bar("model.fp16.plan") as report:
        assert report is not None
        report("Building engine", 1, 6)
        report("Timing\x1b[2J tactics", 3, 7)
        report("Timing\x1b[2J tactics", 7, 7)
        report("No steps", 0, 0)
    shown = terminal.getvalue()
    assert "model.fp16.plan: Building engine" in shown
    assert "1/6" in shown
    assert "\x1b[2J tactics" not in shown


def test_there_is_no_bar_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with build_bar("model.fp16.plan") as report:
        assert report is None
