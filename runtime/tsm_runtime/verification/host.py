"""Description of the machine for a verification: hardware, and versions of system and packages."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path

from tsm_runtime._version import __version__
from tsm_runtime.backends.cuda.gpu import find_gpu
from tsm_runtime.backends.onnxruntime_module import installed_version
from tsm_runtime.errors import BackendError
from tsm_runtime.wording import counted

_SEPARATOR = " | "
_PACKAGES = (
    *("numpy", "av", "onnxruntime", "onnxruntime-gpu", "openvino"),
    *("tensorrt", "tensorrt-rtx", "tensorrt-rtx-cu13", "pycuda"),
)


def describe_machine() -> str:
    """Return processor, number of cores and GPU, then the versions of system and packages."""
    hardware = [cpu_name(), counted(os.cpu_count() or 1, "core"), *_gpu_names()]
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    versions = [system, f"Python {platform.python_version()}", f"tsm-tal {__version__}"]
    versions += [f"{name} {version}" for name in _PACKAGES if (version := installed_version(name))]
    return ", ".join(hardware) + _SEPARATOR + ", ".join(versions)


def hardware_of(machine: str) -> str:
    """Return the part of a description that does not change when packages are updated."""
    return machine.partition(_SEPARATOR)[0]


def cpu_name() -> str:
    """Return the name of the processor."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _gpu_names() -> list[str]:
    try:
        return [find_gpu().name]
    except BackendError:
        return []
