"""A GPU's memory through cuda.bindings, NVIDIA's own package: a wheel, where pycuda is compiled."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.cuda.gpu import Gpu
from tsm_runtime.backends.cuda.memory import DeviceError, DeviceEvent, DeviceStream
from tsm_runtime.errors import BackendError

_Kind = TypeVar("_Kind")


class BindingsMemory:
    """The primary context of a GPU, as `PycudaMemory`.

    Args:
        index: of the GPU, in CUDA's order.

    Raises:
        BackendError: cuda.bindings is not installed, or there is no such GPU.
    """

    library = "cuda.bindings"

    def __init__(self, index: int) -> None:
        self._cuda = _import_driver()
        keys = self._cuda.CUdevice_attribute
        try:
            self._call("cuInit", 0)
            self._device = self._call("cuDeviceGet", index)
            name = self._call("cuDeviceGetName", 256, self._device).split(b"\0")[0].decode(errors="replace")
            capability = (
                self._call("cuDeviceGetAttribute", key, self._device)
                for key in (
                    keys.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                    keys.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                )
            )
            self.gpu = Gpu(name, "{}.{}".format(*capability))
            self._context: Any = self._call("cuDevicePrimaryCtxRetain", self._device)
        except (DeviceError, RuntimeError) as error:  # RuntimeError: there is no driver's library
            raise BackendError(
                f"no GPU {index}: {error}; does nvidia-smi list it, and what is CUDA_VISIBLE_DEVICES?"
            ) from error

    def _call(self, function: str, *arguments: object) -> Any:
        """Call the driver and return what it gives beside its code.

        Raises:
            DeviceError: the driver refuses the call.
        """
        code, *values = getattr(self._cuda, function)(*arguments)
        if code != self._cuda.CUresult.CUDA_SUCCESS:
            words = code.name.removeprefix("CUDA_ERROR_").lower().replace("_", " ")
            out_of_memory = code == self._cuda.CUresult.CUDA_ERROR_OUT_OF_MEMORY
            raise DeviceError(f"{function}: {words}", out_of_memory=out_of_memory)
        return values[0] if values else None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Push the context for the block."""
        self._call("cuCtxPushCurrent", self._context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent")

    def allocate(self, num_bytes: int) -> _Buffer:
        """Take memory on the GPU."""
        address = int(self._call("cuMemAlloc", num_bytes))
        return _Buffer(address, num_bytes, lambda: self._call("cuMemFree", address))

    def pin(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> _Pinned:
        """Take page-locked memory of the host."""
        num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        address = int(self._call("cuMemHostAlloc", num_bytes, 0))
        memory = (ctypes.c_uint8 * num_bytes).from_address(address)
        array: npt.NDArray[Any] = np.ndarray(shape, dtype, buffer=memory)  # type: ignore[arg-type]
        return _Pinned(array, lambda: self._call("cuMemFreeHost", address))

    def stream(self) -> _Stream:
        """Make a stream that does not wait for the default one."""
        return _Stream(self, self._call("cuStreamCreate", self._cuda.CUstream_flags.CU_STREAM_NON_BLOCKING))

    def event(self) -> _Event:
        """Make an event whose waiting thread sleeps."""
        flags = self._cuda.CUevent_flags
        return _Event(
            self, self._call("cuEventCreate", flags.CU_EVENT_BLOCKING_SYNC | flags.CU_EVENT_DISABLE_TIMING)
        )

    def upload(self, address: int, source: npt.NDArray[Any], stream: DeviceStream) -> None:
        """Submit a copy to the GPU."""
        held = _of(stream, _Stream).held
        self._call("cuMemcpyHtoDAsync", address, source.ctypes.data, source.nbytes, held)

    def download(self, target: npt.NDArray[Any], address: int, stream: DeviceStream) -> None:
        """Submit a copy from the GPU."""
        held = _of(stream, _Stream).held
        self._call("cuMemcpyDtoHAsync", target.ctypes.data, address, target.nbytes, held)

    def copy(self, target: int, source: int, num_bytes: int, stream: DeviceStream) -> None:
        """Submit a copy from one place on the GPU to another."""
        self._call("cuMemcpyDtoDAsync", target, source, num_bytes, _of(stream, _Stream).held)

    def close(self) -> None:
        """Release the primary context, from any thread; a second call does nothing."""
        if self._context is not None:
            self._context = None
            self._call("cuDevicePrimaryCtxRelease", self._device)


class _Buffer:
    def __init__(self, address: int, num_bytes: int, free: Callable[[], None]) -> None:
        self.address, self.num_bytes, self.free = address, num_bytes, free


class _Pinned:
    def __init__(self, array: npt.NDArray[Any], free: Callable[[], None]) -> None:
        self.array, self.free = array, free


class _Event:
    def __init__(self, memory: BindingsMemory, held: Any) -> None:
        self._memory, self.held = memory, held

    def record(self, stream: DeviceStream) -> None:
        self._memory._call("cuEventRecord", self.held, _of(stream, _Stream).held)

    def synchronize(self) -> None:
        self._memory._call("cuEventSynchronize", self.held)

    def free(self) -> None:
        self._memory._call("cuEventDestroy", self.held)


class _Stream:
    def __init__(self, memory: BindingsMemory, held: Any) -> None:
        self._memory, self.held, self.handle = memory, held, int(held)

    def wait(self, event: DeviceEvent) -> None:
        self._memory._call("cuStreamWaitEvent", self.held, _of(event, _Event).held, 0)

    def synchronize(self) -> None:
        self._memory._call("cuStreamSynchronize", self.held)

    def free(self) -> None:
        self._memory._call("cuStreamDestroy", self.held)


def _of(given: object, kind: type[_Kind]) -> _Kind:
    if not isinstance(given, kind):
        raise TypeError(f"expected what BindingsMemory made, got {type(given).__name__}")
    return given


def _import_driver() -> Any:
    try:
        driver: Any = import_module("cuda.bindings.driver")
    except ImportError as error:
        raise BackendError(
            f"plans need cuda.bindings, which does not load ({error}):"
            " pip install 'tsm-tal[tensorrt-bindings]'"
        ) from error
    return driver
