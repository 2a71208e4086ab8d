"""Check of a plan against this machine by its manifest entry, before any of its bytes are interpreted."""

from __future__ import annotations

import re

from tsm_runtime.backends.cuda.gpu import Gpu
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.bundle.manifest import EngineInfo
from tsm_runtime.errors import BundleError

REBUILD = "build it again here: tsm-run --rebuild, or tsm-export --target tensorrt"

_AMPERE = (8, 0)
_RTX_DEFAULT = {(8, 0), (8, 6), (8, 9)}
_RTX_DEFAULT_FROM = (12, 0)
"""Where a plan of TensorRT for RTX runs that was built for no GPU in particular (its documentation, "CPU-Only
AOT and TensorRT-RTX Engines")."""


def engine_info(bundle: Bundle, name: str) -> EngineInfo:
    """Return the manifest entry of a plan of a bundle.

    Raises:
        BundleError: the manifest has none.
    """
    info = bundle.manifest.files[name].engine
    if info is None:
        raise BundleError(
            f"{bundle.path / name}: the manifest does not state its TensorRT version and GPU; {REBUILD}"
        )
    return info


def require_fit(info: EngineInfo, *, version: str, gpu: Gpu, what: str) -> None:
    """Check that a plan's library, version and kind of GPU are those of this machine.

    A plan loads in the version that built it. A version compatible one also loads in later versions, up
    to those of the next major version (TensorRT's support matrix, "Engine Portability").

    Args:
        info: manifest entry of the plan.
        version: of the installed library of `info`.
        gpu: of this machine.
        what: the plan, for the message.

    Raises:
        BundleError: it is for another version or GPU; says for which, and how to rebuild it.
    """
    if not _version_fits(info, version):
        later = " or later" if info.version_compatible else ""
        raise BundleError(f"{what} is for {info.library} {info.version}{later}, here is {version}; {REBUILD}")
    if not _gpu_fits(info, gpu.compute_capability):
        raise BundleError(
            f"{what} is for {_gpus(info)}, here is {gpu.name} (compute capability {gpu.compute_capability});"
            f" {REBUILD}"
        )


def other_model(info: EngineInfo, gpu: Gpu) -> str:
    """Return a line where a plan fits but was tuned on another model of GPU, else nothing."""
    if info.library == "tensorrt_rtx" or info.hardware_compatibility != "none" or info.gpu in ("", gpu.name):
        return ""
    return f"it was built on {info.gpu}, here is {gpu.name}: it may be slower than it could be; {REBUILD}"


def _version_fits(info: EngineInfo, version: str) -> bool:
    if info.library == "tensorrt_rtx" or not info.version_compatible:
        return version == info.version
    built, here = _numbers(info.version), _numbers(version)
    return here >= built and here[0] - built[0] <= 1


def _gpu_fits(info: EngineInfo, capability: str) -> bool:
    here = _numbers(capability)
    if info.compute_capabilities:
        above = info.hardware_compatibility == "ampere_plus" and here >= _AMPERE
        return above or here in map(_numbers, info.compute_capabilities)
    return info.library == "tensorrt" or here in _RTX_DEFAULT or here >= _RTX_DEFAULT_FROM


def _gpus(info: EngineInfo) -> str:
    if not info.compute_capabilities:
        return "compute capabilities 8.0, 8.6, 8.9, 12.0 and later"
    above = " or 8.0 and later" if info.hardware_compatibility == "ampere_plus" else ""
    kind = f"compute capability {' or '.join(info.compute_capabilities)}{above}"
    return f"{info.gpu} ({kind})" if info.gpu else kind


def _numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a version.

    >>> _numbers("10.16.1.11")
    (10, 16, 1, 11)
    """
    return tuple(int(number) for number in re.findall(r"\d+", text))
