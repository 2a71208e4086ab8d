"""The tests of the TensorRT runner on a GPU, on the emulated driver: a kernel is a function in a stream."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import kernel_double
import numpy as np
from fakes import ACTION_CENTRES, SCENE_CENTRES, SHARPNESS
from kernel_double import KernelDouble

_DRIVER = ctypes.CDLL("libcuda.so.1")
_TESTS = Path(__file__).parents[2] / "runtime" / "backends" / "test_tensorrt_gpu.py"


class HostKernelDouble(KernelDouble):
    """A double of TensorRT whose engines run on the emulated driver."""

    def load_kernel(self) -> None:
        """Nothing is to be compiled."""

    def launch(self, stream_handle: int, shape: Sequence[int], addresses: Mapping[str, int]) -> None:
        """Submit the kernel; a GPU's clock counts 2000 cycles a microsecond."""
        centres = [(ctypes.c_double * len(each))(*each) for each in (ACTION_CENTRES, SCENE_CENTRES)]
        code = _DRIVER.emulated_brightness(
            ctypes.c_void_p(stream_handle),
            ctypes.c_void_p(addresses["frames"]),
            ctypes.c_size_t(shape[0]),
            ctypes.c_size_t(int(np.prod(shape[1:]))),
            ctypes.c_void_p(addresses["action_scores"]),
            centres[0],
            ctypes.c_size_t(len(ACTION_CENTRES)),
            ctypes.c_void_p(addresses["scene_scores"]),
            centres[1],
            ctypes.c_size_t(len(SCENE_CENTRES)),
            ctypes.c_double(SHARPNESS),
            ctypes.c_uint(self.cycles // 2000),
        )
        assert code == 0


kernel_double.KernelDouble = HostKernelDouble
os.environ["TSM_REQUIRE_GPU"] = "1"
_spec = importlib.util.spec_from_file_location("tensorrt_gpu_tests", _TESTS)
assert _spec is not None
assert _spec.loader is not None
_tests = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_tests)

# Its kernel waits for a flag of the host's, which a host function cannot be given.
_NOT_HERE = "test_two_batches_are_submitted_while_the_gpu_works"

globals().update(
    {
        name: value
        for name, value in vars(_tests).items()
        if (name.startswith("test_") and name != _NOT_HERE) or name in ("gpu", "memory", "open_kernel")
    }
)
