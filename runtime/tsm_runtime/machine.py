"""Processor cores and memory of this machine."""

from __future__ import annotations

import ctypes
import os
import sys


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def give_back_freed_memory() -> None:
    """Return freed memory that glibc caches to the system; without glibc do nothing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
