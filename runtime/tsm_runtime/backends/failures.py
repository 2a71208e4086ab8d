"""What engines say when they break off, as the runtime's errors."""

from __future__ import annotations

from tsm_runtime.errors import OutOfMemoryError, RunError

__all__ = ["one_line", "run_failure"]

_NO_MEMORY = (
    "out of memory",
    "out_of_memory",
    "failed to allocate memory",
    "bad allocation",
    "bad_alloc",
    "alloc_failed",
    "not enough memory",
)
"""In lower case: CUDA and cuBLAS, onnxruntime's arena, C++ libraries, cuDNN, oneDNN."""


def run_failure(name: str, num_clips: int, error: Exception) -> RunError:
    """Return the error to raise when an engine did not run a batch; no library has a class for this.

    Args:
        name: of the backend.
        num_clips: of the batch.
        error: as the engine raised it.
    """
    words = one_line(error)
    short = isinstance(error, MemoryError) or any(said in words.lower() for said in _NO_MEMORY)
    kind = OutOfMemoryError if short else RunError
    return kind(f"{name} failed on a batch of {num_clips}: {words}")


def one_line(error: Exception) -> str:
    """Return an error's message as one line of bearable length."""
    return " ".join(str(error).split())[:300]
