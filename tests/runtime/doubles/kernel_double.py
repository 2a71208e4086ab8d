"""TensorRT's double on a real GPU: pycuda moves real memory, and running the engine launches a real kernel.

The kernel computes what `fakes.BrightnessBackend` does, on the stream that it is given, and can
wait until the host releases it: so a test sees what has been submitted while the GPU is at work.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fakes import ACTION_CENTRES, ACTIONS, SCENE_CENTRES, SCENES, SHARPNESS
from tensorrt_double import NUM_FRAMES, SIZE, TensorrtDouble, plan_for

from tsm_runtime.backends.cuda.bindings_memory import BindingsMemory
from tsm_runtime.backends.cuda.pycuda_memory import PycudaMemory
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.bundle.manifest import FORMAT_VERSION, EngineInfo, Manifest, ModelFile, sha256

__all__ = ["PLAN", "THREADS", "WATCHED", "KernelDouble", "current_context", "kernel_bundle", "kernel_source"]

PLAN = "model.fp16.plan"
THREADS = 256


def kernel_source() -> str:
    """Return CUDA C++; one block of THREADS scores one clip."""
    centres = {
        name: ", ".join(f"{value}f" for value in values)
        for name, values in (("actions", ACTION_CENTRES), ("scenes", SCENE_CENTRES))
    }
    return f"""
__device__ void scores(float mean, const float *centres, int num, float *out)
{{
    float sum = 0;
    for (int i = 0; i < num; ++i) {{
        float distance = mean - centres[i];
        out[i] = expf(-{SHARPNESS}f * distance * distance);
        sum += out[i];
    }}
    for (int i = 0; i < num; ++i)
        out[i] /= sum;
}}

__global__ void brightness(
    const unsigned char *frames, unsigned int clip_bytes, float *action, float *scene,
    const volatile int *may_run, unsigned long long cycles)
{{
    __shared__ unsigned long long sums[{THREADS}];
    while (may_run && !*may_run)
        ;
    for (long long start = clock64(); clock64() - start < (long long) cycles;)
        ;
    const unsigned char *clip = frames + (size_t) blockIdx.x * clip_bytes;
    unsigned long long sum = 0;
    for (unsigned int i = threadIdx.x; i < clip_bytes; i += {THREADS})
        sum += clip[i];
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x)
        return;
    for (int i = 1; i < {THREADS}; ++i)
        sum += sums[i];
    float mean = (float) ((double) sum / clip_bytes / 255);
    const float actions[] = {{ {centres["actions"]} }}, scenes[] = {{ {centres["scenes"]} }};
    scores(mean, actions, {len(ACTION_CENTRES)}, action + blockIdx.x * {len(ACTION_CENTRES)});
    scores(mean, scenes, {len(SCENE_CENTRES)}, scene + blockIdx.x * {len(SCENE_CENTRES)});
}}
"""


class Watch:
    """Notes what TensorrtDouble asks of a GPU, beside a `DeviceMemory`."""

    broken = None

    def __init__(self, index: int = 0) -> None:
        super().__init__(index)  # type: ignore[call-arg]  # a DeviceMemory's
        self.log: list[str] = []
        self.violations: list[str] = []
        self.streams: dict[int, Any] = {}
        self.closed = 0
        self.used_bytes, self.capacity = 0, 1  # of the double's own, which takes none
        with self.active():  # type: ignore[attr-defined]
            self._handle = current_context()

    def stream(self) -> Any:
        made = super().stream()  # type: ignore[misc]
        self.streams[made.handle] = made
        return made

    def close(self) -> None:
        super().close()  # type: ignore[misc]
        self.closed += 1

    def require(self, holds: object, words: str) -> None:
        self.note(holds, words)
        assert holds, words

    def note(self, holds: object, words: str) -> None:
        if not holds:
            self.violations.append(words)

    @property
    def is_active(self) -> bool:
        return current_context() == self._handle

    def require_active(self, what: str) -> None:
        self.require(self.is_active, f"{what}: the GPU is not active in this thread")


class WatchedPycuda(Watch, PycudaMemory):
    """pycuda's memory; reports its calls to the double."""


class WatchedBindings(Watch, BindingsMemory):
    """The same of cuda.bindings."""


WATCHED = {"pycuda": WatchedPycuda, "bindings": WatchedBindings}


def current_context() -> int | None:
    """The driver's own answer."""
    driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    found = ctypes.c_void_p()
    assert driver.cuCtxGetCurrent(ctypes.byref(found)) == 0
    return found.value


class KernelDouble(TensorrtDouble):
    """The module of a version whose engines run a kernel on the GPU of a watched memory.

    Args:
        name: of the stored contract.
        memory: where engines run.
        cycles: of the GPU's clock that the kernel takes at least.
    """

    def __init__(self, name: str, memory: Watch, *, cycles: int = 0) -> None:
        super().__init__(name, memory)  # type: ignore[arg-type]  # has what the double asks of it
        self.memory = memory
        self.cycles = cycles
        self.may_run = 0
        """Address, on the GPU, of the int that lets the kernel go on; 0: it does not wait."""
        self._kernel: Any = None

    def ICudaEngine__create_execution_context(self, this: Any, **options: object) -> Any:  # noqa: N802
        self.device.require_active("create_execution_context")
        self.load_kernel()
        self.alive.append("IExecutionContext")
        return self.module.make(
            "IExecutionContext", engine=this, shape=None, addresses={}, running=[], profile=0
        )

    def IExecutionContext__execute_async_v3(self, this: Any, stream_handle: int) -> bool:  # noqa: N802
        self.device.require_active("execute_async_v3")
        shape, addresses = this.double.shape, this.double.addresses
        self.launch(stream_handle, shape, addresses)
        self.runs.append(shape[0])
        self.profiles.append(this.double.profile)
        return True

    def load_kernel(self) -> None:
        """Compile the kernel in the current context."""
        from pycuda.compiler import SourceModule

        self._kernel = SourceModule(kernel_source()).get_function("brightness")
        self._kernel.prepare("PIPPPQ")

    def launch(self, stream_handle: int, shape: Sequence[int], addresses: Mapping[str, int]) -> None:
        """Submit the kernel to a stream.

        Args:
            stream_handle: of it.
            shape: of the frames.
            addresses: of input and outputs on the GPU, by name.
        """
        import pycuda.driver as cuda

        self._kernel.prepared_async_call(
            (shape[0], 1),
            (THREADS, 1, 1),
            cuda.ExternalStream(stream_handle),
            addresses["frames"],
            int(np.prod(shape[1:])),
            addresses["action_scores"],
            addresses["scene_scores"],
            self.may_run,
            self.cycles,
        )


def kernel_bundle(
    folder: Path,
    double: KernelDouble,
    *,
    num_frames: int = NUM_FRAMES,
    size: int = SIZE,
    batch: tuple[int, int, int] = (1, 4, 8),
    has_single: bool = False,
) -> Bundle:
    """Return a bundle in a folder with a plan of the double."""
    frames = (num_frames, size, size, 3)
    data = plan_for(double.version, frames=frames, batch=batch, has_single=has_single).encode()
    (folder / PLAN).write_bytes(data)
    engine = EngineInfo(
        library=double.module.__name__,  # type: ignore[arg-type]
        version=double.version,
        gpu=double.memory.gpu.name,
        compute_capabilities=(double.memory.gpu.compute_capability,),
        batch=batch,
        onnx_sha256="",
    )
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        action_labels=ACTIONS,
        scene_labels=SCENES,
        interval_seconds=0.5,
        num_frames=num_frames,
        size=size,
        backbone="brightness",
        files={PLAN: ModelFile(sha256=sha256(data), precision="fp16", engine=engine)},
    )
    return Bundle(path=folder, manifest=manifest, manifest_sha256="")
