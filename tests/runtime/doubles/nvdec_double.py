"""The CUDA driver's library, as decoding on the GPU calls it, over the host's memory."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

__all__ = ["CudaDouble"]


class CudaDouble:
    """libcuda.so.1 whose GPU is the host's memory; it takes ctypes' types only, as the real one needs."""

    def __init__(self, limit: int = 1 << 30, device: int = 0) -> None:
        self.memory: dict[int, Any] = {}
        self.pinned: dict[int | None, Any] = {}
        self._stacks = threading.local()
        self.retained = 0
        self.num_waits = 0
        self.limit, self.device = limit, device

    @property
    def stack(self) -> list[int]:
        """Contexts of the calling thread."""
        if not hasattr(self._stacks, "contexts"):
            self._stacks.contexts = []
        return self._stacks.contexts  # type: ignore[no-any-return]

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return 0

    def cuDeviceGet(self, handle: Any, ordinal: int) -> int:  # noqa: N802
        handle._obj.value = ordinal
        return 0 if ordinal == self.device else 101

    def cuDevicePrimaryCtxRetain(self, context: Any, handle: ctypes.c_int) -> int:  # noqa: N802
        context._obj.value = 77
        self.retained += 1
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, handle: ctypes.c_int) -> int:  # noqa: N802
        assert self.retained > 1 or not (self.memory or self.pinned), "memory was not freed"
        self.retained -= 1
        return 0

    def cuCtxPushCurrent_v2(self, context: ctypes.c_void_p) -> int:  # noqa: N802
        assert self.retained
        self.stack.append(context.value or 0)
        return 0

    def cuCtxPopCurrent_v2(self, context: Any) -> int:  # noqa: N802
        context._obj.value = self.stack.pop()
        return 0

    def cuMemAlloc_v2(self, address: Any, size: ctypes.c_size_t) -> int:  # noqa: N802
        assert self.stack == [77]
        if sum(map(len, list(self.memory.values()))) + size.value > self.limit:
            return 2
        block = (ctypes.c_uint8 * size.value)()
        address._obj.value = ctypes.addressof(block)
        self.memory[address._obj.value] = block
        return 0

    def cuMemHostAlloc(  # noqa: N802
        self, address: Any, size: ctypes.c_size_t, flags: int
    ) -> int:
        assert self.stack == [77]
        block = (ctypes.c_uint8 * size.value)()
        address._obj.value = ctypes.addressof(block)
        self.pinned[address._obj.value] = block
        return 0

    def cuMemFreeHost(self, address: ctypes.c_void_p) -> int:  # noqa: N802
        assert self.stack == [77]
        del self.pinned[address.value]
        return 0

    def cuMemFree_v2(self, address: ctypes.c_uint64) -> int:  # noqa: N802
        assert self.stack == [77]
        del self.memory[address.value]
        return 0

    def cuMemcpyHtoD_v2(  # noqa: N802
        self, address: ctypes.c_uint64, source: ctypes.c_void_p, size: ctypes.c_size_t
    ) -> int:
        assert self.stack == [77]
        starts = [
            start for start, block in list(self.memory.items()) if start <= address.value < start + len(block)
        ]
        assert address.value + size.value <= starts[0] + len(self.memory[starts[0]])
        ctypes.memmove(address.value, source, size.value)
        return 0

    def cuMemcpyDtoD_v2(  # noqa: N802
        self, target: ctypes.c_uint64, source: ctypes.c_uint64, size: ctypes.c_size_t
    ) -> int:
        assert self.stack == [77]
        assert any(  # the source may be a picture of the decoder
            start <= target.value and target.value + size.value <= start + len(block)
            for start, block in list(self.memory.items())
        )
        ctypes.memmove(target.value, source.value, size.value)
        return 0

    def cuStreamSynchronize(self, stream: ctypes.c_void_p) -> int:  # noqa: N802
        assert self.stack == [77]
        self.num_waits += 1
        return 0
