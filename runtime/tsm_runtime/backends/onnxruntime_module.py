"""The onnxruntime module, and the instructions that its integer kernels use on this processor."""

from __future__ import annotations

import base64
import functools
import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tsm_runtime.errors import BackendError

CPU_PACKAGE, GPU_PACKAGE = "onnxruntime", "onnxruntime-gpu"

NO_VNNI = "no VNNI"
"""The processor lacks instructions for sums of 8-bit products; INT8 gains less there."""

_PROBE = base64.b64decode(
    "CAYSADpcChgKAWEKAWISAXkiDU1hdE11bEludGVnZXISAXBaEwoBYRIOCgwIAhIICgIIAQoCCAJaEwoBYhIOCgwIAxIICgIIAgoCCAFi"
    "EwoBeRIOCgwIBhIICgIIAQoCCAFCBAoAEAo="
)
"""An ONNX file of one node: y (1, 1) int32 = MatMulInteger(a (1, 2) uint8, b (2, 1) int8)."""

_LARGEST = (255, 127)


def import_onnxruntime() -> Any:
    """Return the module.

    Raises:
        BackendError: it is not installed, or its files are gone.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            "no backend is installed: pip install 'tsm-tal[cpu]' (or 'tsm-tal[gpu]' on a CUDA machine)"
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):  # a folder that pip left behind
        raise BackendError(f"onnxruntime is installed without its files: {repair_command()}")
    return onnxruntime


def repair_command() -> str:
    """Return the command after which the installed onnxruntime is whole, for CUDA where its package is there.

    onnxruntime and onnxruntime-gpu install into one folder: the later one overwrites the files of the other,
    and uninstalling either takes files of both.
    """
    name = GPU_PACKAGE if installed_version(GPU_PACKAGE) else CPU_PACKAGE
    version = installed_version(name)
    return f"pip install --force-reinstall --no-deps {name}{f'=={version}' if version else ''}"


def has_both_packages() -> bool:
    """Whether onnxruntime and onnxruntime-gpu are installed together."""
    return installed_version(CPU_PACKAGE) is not None and installed_version(GPU_PACKAGE) is not None


def installed_version(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def integer_instructions() -> str:
    """Return the instructions that INT8 runs on: "AVX-512 VNNI", "AVX VNNI", `NO_VNNI`, or the architecture.

    Whether VNNI runs is measured: without it, onnxruntime adds two products of uint8 and int8 in 16 bits, and
    the sum saturates. Its name comes from /proc/cpuinfo.

    Raises:
        BackendError: onnxruntime is not installed.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return platform.machine()
    if _saturates():
        return NO_VNNI
    return "AVX-512 VNNI" if "avx512_vnni" in _cpu_flags() else "AVX VNNI"


def _saturates() -> bool:
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(_PROBE, options, providers=["CPUExecutionProvider"])
    activation, weight = _LARGEST
    pair = {"a": np.full((1, 2), activation, np.uint8), "b": np.full((2, 1), weight, np.int8)}
    return int(session.run(None, pair)[0].item()) != 2 * activation * weight


def _cpu_flags() -> frozenset[str]:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "flags":
                return frozenset(value.split())
    return frozenset()
