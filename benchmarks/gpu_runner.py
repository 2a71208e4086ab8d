"""What the TensorRT runner adds to the time of an engine: frames to the GPU, the call, scores back.

No TensorRT is needed, only a GPU, pycuda and nvcc: in its place stands the double of the tests, whose
engine is a kernel on the given stream that takes `kernel_ms` at least. Read `serial_ms` (each batch waited
for) against `in_flight_ms` (two in flight, as the pipeline is to run it): the time of a batch, median and
10th and 90th percentile. With a kernel longer than the copies, `in_flight_ms` should come near `kernel_ms`
alone; what is above it is what the runner costs. `host_copy_ms` is the copy of the frames into page-locked
memory, a part of both.

    python benchmarks/gpu_runner.py
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _common import store

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "runtime"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "runtime" / "doubles"))

from kernel_double import PLAN, WATCHED, KernelDouble, kernel_bundle

from tsm_runtime.backends.tensorrt.backend import TensorrtBackend

CONTRACT = "tensorrt-11.4.0.106"
WARM_UP = 5


def main() -> None:
    """Measure every batch size with every kernel, store the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--kernel-ms", type=float, nargs="+", default=[0, 2, 10, 50])
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=100, help="batches of each measurement")
    options = parser.parse_args()
    rows = [measure(batch, kernel_ms, options) for batch in options.batch for kernel_ms in options.kernel_ms]
    store("gpu_runner", {"clip": [options.num_frames, options.size], "gpu": gpu_facts(), "runs": rows})


def measure(batch: int, kernel_ms: float, options: argparse.Namespace) -> dict[str, Any]:
    """Return the times of one batch size with one kernel."""
    memory = WATCHED["pycuda"]()
    double = KernelDouble(CONTRACT, memory, cycles=round(kernel_ms * clock_khz()))
    sys.modules[double.module.__name__] = double.module
    shape = (batch, options.num_frames, options.size, options.size, 3)
    frames = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        bundle = kernel_bundle(
            Path(folder),
            double,
            num_frames=options.num_frames,
            size=options.size,
            batch=(1, batch, batch),
        )
        with TensorrtBackend(bundle, PLAN, memory=memory) as backend:
            serial = times(lambda: backend.infer(frames), options.rounds)
            in_flight = times_in_flight(backend, frames, options.rounds)
            target = backend._slots[0].frames.array
            host_copy = times(lambda: np.copyto(target, frames), options.rounds)
    row = {
        "batch": batch,
        "kernel_ms": kernel_ms,
        "host_copy_ms": summary(host_copy),
        "serial_ms": summary(serial),
        "in_flight_ms": summary(in_flight),
        "clips_per_second": round(1e3 * batch / statistics.median(in_flight), 1),
    }
    print(row, flush=True)
    return row


def times(call: Callable[[], object], rounds: int) -> list[float]:
    """Return the milliseconds of each call."""
    for _ in range(WARM_UP):
        call()
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        found.append(1e3 * (time.perf_counter() - started))
    return found


def times_in_flight(backend: TensorrtBackend, frames: npt.NDArray[np.uint8], rounds: int) -> list[float]:
    """Return the milliseconds from result to result, the next batch submitted before each is fetched."""
    found = []
    pending = backend.submit(frames)
    last = time.perf_counter()
    for i in range(WARM_UP + rounds):
        submitted = backend.submit(frames)
        backend.result(pending)
        pending = submitted
        now = time.perf_counter()
        if i >= WARM_UP:
            found.append(1e3 * (now - last))
        last = now
    backend.result(pending)
    return found


def summary(milliseconds: list[float]) -> dict[str, float]:
    """Return median, 10th and 90th percentile."""
    low, middle, high = (round(float(value), 3) for value in np.percentile(milliseconds, [10, 50, 90]))
    return {"median": middle, "p10": low, "p90": high}


def clock_khz() -> int:
    """Return the GPU's highest clock: cycles of a millisecond."""
    import pycuda.driver as cuda

    return int(cuda.Device(0).get_attribute(cuda.device_attribute.CLOCK_RATE))


def gpu_facts() -> dict[str, Any]:
    """Return what was measured on."""
    import pycuda
    import pycuda.driver as cuda

    device = cuda.Device(0)
    return {
        "name": device.name(),
        "compute_capability": "{}.{}".format(*device.compute_capability()),
        "driver_cuda": cuda.get_driver_version(),
        "pycuda": pycuda.VERSION_TEXT,
    }


if __name__ == "__main__":
    main()
