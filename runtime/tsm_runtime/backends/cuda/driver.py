"""The few calls of the CUDA driver that decoding on the GPU needs; no package, only the driver's library.

No release ran this on a GPU: tests call it with a double of the library.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.cuda.gpu import driver_error, open_driver
from tsm_runtime.errors import BackendError, OutOfMemoryError

_OUT_OF_MEMORY = 2
"""CUDA_ERROR_OUT_OF_MEMORY of cuda.h."""


class PrimaryContext:
    """A GPU's primary context, which onnxruntime and FFmpeg use too, so that addresses are good in all.

    Args:
        device: number of the GPU, in CUDA's order.
        library: the driver, for tests.

    Raises:
        BackendError: there is no driver or no such GPU.
    """

    def __init__(self, device: int = 0, *, library: Any = None) -> None:
        self.device = device
        self._cuda = library or open_driver()
        self._handle, self._context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(self._handle), device)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._handle)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context that of the calling thread, within the block."""
        self._call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def allocate(self, num_bytes: int) -> int:
        """Return the address of new memory.

        Raises:
            OutOfMemoryError: there is not so much.
        """
        address = ctypes.c_uint64()
        with self.current():
            self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(num_bytes))
        return address.value

    def free(self, address: int) -> None:
        """Give memory back."""
        with self.current():
            self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def pin(self, num_bytes: int) -> int:
        """Return the address of new page-locked memory of the host.

        Raises:
            OutOfMemoryError: the system locks no more.
        """
        address = ctypes.c_void_p()
        with self.current():
            self._call("cuMemHostAlloc", ctypes.byref(address), ctypes.c_size_t(num_bytes), 0)
        return address.value or 0

    def unpin(self, address: int) -> None:
        """Give page-locked memory back."""
        with self.current():
            self._call("cuMemFreeHost", ctypes.c_void_p(address))

    def upload(self, address: int, data: npt.NDArray[np.uint8]) -> None:
        """Copy an array to the GPU, and wait until it is there, for whatever stream reads it.

        Of memory that is not page-locked the call alone may return when the last bytes are still on their way
        (the driver's documentation, "API synchronization behavior").
        """
        flat = np.ascontiguousarray(data)
        with self.current():
            pointer = ctypes.c_void_p(flat.ctypes.data)
            self._call("cuMemcpyHtoD_v2", ctypes.c_uint64(address), pointer, ctypes.c_size_t(flat.nbytes))
            self._call("cuStreamSynchronize", ctypes.c_void_p(None))

    def copy(self, copies: Iterable[tuple[int, int, int]]) -> None:
        """Copy from places on the GPU to others, after what FFmpeg gave out, and wait until all is done.

        Args:
            copies: target, source and number of bytes of each.
        """
        with self.current():
            for target, source, num_bytes in copies:
                addresses = ctypes.c_uint64(target), ctypes.c_uint64(source)
                self._call("cuMemcpyDtoD_v2", *addresses, ctypes.c_size_t(num_bytes))
            self._call("cuStreamSynchronize", ctypes.c_void_p(None))

    def wait_for_decoder(self) -> None:
        """Wait until pictures that FFmpeg gave out are there: it works on the default stream.

        The streams of onnxruntime and TensorRT do not take part in that stream's order, so nothing else waits
        for them.
        """
        with self.current():
            self._call("cuStreamSynchronize", ctypes.c_void_p(None))

    def close(self) -> None:
        """Let the context go; a second call does nothing. All memory was freed before."""
        if self._context:
            self._call("cuDevicePrimaryCtxRelease_v2", self._handle)
            self._context = ctypes.c_void_p()

    def _call(self, function: str, *arguments: object) -> None:
        code = getattr(self._cuda, function)(*arguments)
        if code == _OUT_OF_MEMORY:
            raise OutOfMemoryError(f"GPU {self.device}: out of memory")
        if code:
            raise BackendError(f"GPU {self.device}: {driver_error(function, code)}")
