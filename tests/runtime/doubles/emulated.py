"""The emulated driver that a process has loaded: see tests/emulated_gpu."""

from __future__ import annotations

import ctypes


class Emulated:
    """What the emulated libraries have noted."""

    def __init__(self) -> None:
        self.driver = ctypes.CDLL("libcuda.so.1")
        self.driver.emulated_violation.restype = ctypes.c_char_p
        self._seen = 0

    def new_violations(self) -> list[str]:
        """Return those since the last call."""
        first, self._seen = self._seen, self.driver.emulated_num_violations()
        return [self.driver.emulated_violation(i).decode() for i in range(first, self._seen)]

    def live(self) -> dict[str, int]:
        """Return how many things of each kind there are."""
        counts = (ctypes.c_long * 5)()
        self.driver.emulated_live(counts)
        return dict(zip(("memory", "pinned", "streams", "events", "contexts"), counts, strict=True))

    def decoders(self) -> dict[str, int]:
        """Return what NVDEC has counted: decoders created, living, most surfaces of one, refused."""
        counts = (ctypes.c_long * 4)()
        ctypes.CDLL("libnvcuvid.so.1").emulated_decoders(counts)
        return dict(zip(("created", "live", "most_surfaces", "refused"), counts, strict=True))
