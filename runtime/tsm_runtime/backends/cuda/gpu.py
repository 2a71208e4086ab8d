"""Properties of a GPU from the driver itself, without a package or a CUDA context."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

from tsm_runtime.errors import BackendError

_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h."""


_REMEDIES = {
    2: "its memory is full; nvidia-smi lists what uses it",
    35: "the driver is older than CUDA needs; install a newer one",
    100: "the driver finds no device; does nvidia-smi list one, and what is CUDA_VISIBLE_DEVICES?",
    101: "there is none of this number; nvidia-smi lists them, CUDA_VISIBLE_DEVICES may hide some",
    802: "the system is not ready; on machines with NVSwitch nvidia-fabricmanager must run",
    803: "the driver's library does not fit its kernel module; restart the machine after an update",
    804: "the driver is older than CUDA needs; install a newer one",
    999: "the driver does not start; load its kernel module: nvidia-smi, or restart the machine",
}
"""By CUresult of cuda.h."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of this machine."""

    name: str
    compute_capability: str
    """As "9.0"."""


def open_driver() -> Any:
    """Return the library of the NVIDIA driver.

    Raises:
        BackendError: it is not installed.
    """
    try:
        return ctypes.CDLL(_DRIVER)
    except OSError as error:
        raise BackendError(f"no GPU: the NVIDIA driver is not installed ({error})") from error


def find_gpu(device: int = 0) -> Gpu:
    """Return the properties of a GPU.

    Raises:
        BackendError: there is no driver or no such GPU.
    """
    driver = open_driver()
    handle = ctypes.c_int()
    _call(driver, "cuInit", 0)
    _call(driver, "cuDeviceGet", ctypes.byref(handle), device)
    name = ctypes.create_string_buffer(256)
    _call(driver, "cuDeviceGetName", name, len(name), handle)
    major, minor = (_attribute(driver, handle, key) for key in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR))
    return Gpu(name=name.value.decode(errors="replace"), compute_capability=f"{major}.{minor}")


def num_gpus() -> int:
    """Return how many GPUs the driver shows, which CUDA_VISIBLE_DEVICES limits.

    Raises:
        BackendError: there is no driver or no GPU.
    """
    driver = open_driver()
    count = ctypes.c_int()
    _call(driver, "cuInit", 0)
    _call(driver, "cuDeviceGetCount", ctypes.byref(count))
    return count.value


def gpu_memory_bytes(device: int = 0) -> int | None:
    """Return the bytes of GPU memory in use by all processes; None if unknown.

    The value comes from NVML, which needs no CUDA context.
    """
    try:
        library = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    except OSError:
        return None
    handle, memory = ctypes.c_void_p(), _NvmlMemory()
    calls = (
        ("nvmlInit_v2",),
        ("nvmlDeviceGetHandleByIndex_v2", device, ctypes.byref(handle)),
        ("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory)),
    )
    if any(getattr(library, name)(*arguments) for name, *arguments in calls):
        return None
    return int(memory.used)


class _NvmlMemory(ctypes.Structure):
    """nvmlMemory_t of nvml.h."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def _attribute(driver: Any, handle: ctypes.c_int, key: int) -> int:
    value = ctypes.c_int()
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(value), key, handle)
    return value.value


def driver_error(function: str, code: int) -> str:
    """Return what an error code of the driver means, and the remedy.

    Args:
        function: that gave it.
        code: CUresult of cuda.h.
    """
    known = _REMEDIES.get(code)
    if known is None:
        known = f"{function} gives CUDA error {code}; does nvidia-smi list a GPU?"
    return known


def _call(driver: Any, function: str, *arguments: object) -> None:
    code = getattr(driver, function)(*arguments)
    if code:
        raise BackendError(f"no GPU: {driver_error(function, code)}")
