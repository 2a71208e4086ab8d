"""Opens a GPU's memory through the CUDA package that is installed."""

from __future__ import annotations

import os
from importlib.util import find_spec

from tsm_runtime.backends.cuda.memory import DeviceMemory
from tsm_runtime.errors import BackendError


def open_device(index: int) -> DeviceMemory:
    """Return the memory of a GPU, in CUDA's order, through the package that is installed.

    pycuda where both are, unless TSM_CUDA=bindings.

    Raises:
        BackendError: neither pycuda nor cuda.bindings is installed, or there is no such GPU.
    """
    wanted = os.environ.get("TSM_CUDA", "")
    if wanted not in ("", "pycuda", "bindings"):
        raise BackendError(f"TSM_CUDA={wanted}: expected pycuda or bindings")
    if wanted == "bindings" or (not wanted and find_spec("pycuda") is None and _has_bindings()):
        from tsm_runtime.backends.cuda.bindings_memory import BindingsMemory

        return BindingsMemory(index)
    from tsm_runtime.backends.cuda.pycuda_memory import PycudaMemory

    return PycudaMemory(index)


def _has_bindings() -> bool:
    try:
        return find_spec("cuda.bindings.driver") is not None
    except ModuleNotFoundError:
        return False
