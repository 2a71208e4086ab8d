"""Backends: a batch of clips in, action and scene probabilities out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt

from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.clips.pool import FramePool

__all__ = ["Backend", "BlockingBackend", "Device", "Engine", "Scores", "open_backend", "open_model"]

Device = Literal["cpu", "gpu"]

Engine = Literal["onnxruntime", "onnxruntime-cuda", "openvino"]
"""What runs ONNX files; a plan has its own."""


class Scores(NamedTuple):
    """Probabilities of a batch: action (N, A) and scene (N, S) or None, both float32."""

    action: npt.NDArray[np.float32]
    scene: npt.NDArray[np.float32] | None


class Backend(Protocol):
    """What the pipeline needs of an engine. Used by one thread at a time, but for `frame_pool`."""

    name: str
    """Tells a person what runs, where, and in which precision."""

    device: Device
    """Where it computes: on the cores that decoding needs too, or beside them."""

    in_flight: int
    """Batches that are worth submitting before the result of the first is asked for."""

    best_batch: int
    """Clips per batch where nobody asked for a number."""

    @property
    def frame_pool(self) -> FramePool:
        """Memory for clips that `submit` reads without copying it first; good until `close`.

        Other memory is taken as well, but may cost a copy.
        """
        ...

    def submit(self, frames: npt.NDArray[np.uint8]) -> Any:
        """Begin to score a (N, T, size, size, 3) uint8 batch; N may differ from call to call.

        The batch is to be left as it is, by all, until `result` returns: the members of an ensemble share it.

        Raises:
            OutOfMemoryError: a smaller batch may fit; what is in flight has to be submitted again.
            RunError: the engine broke off.
        """
        ...

    def result(self, batch: Any) -> Scores:
        """Wait for the scores of what `submit` returned, in the order of submission.

        Raises:
            OutOfMemoryError, RunError: as `submit`.
        """
        ...

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Submit a batch and wait for its scores."""
        ...

    def close(self) -> None:
        """Give everything back; a second call does nothing."""
        ...


class BlockingBackend(ABC):
    """Base of backends that score within the call: they have `name` and `infer`, and get the rest here."""

    name: str
    device: Device = "cpu"
    in_flight: int = 1
    best_batch: int = 1
    parallel_calls: int = 1
    """Calls of `infer` at a time, from threads of the caller's, that the processor is shared out among."""

    @abstractmethod
    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Score a (N, T, size, size, 3) uint8 batch."""

    @cached_property
    def frame_pool(self) -> FramePool:
        """Plain memory."""
        return FramePool()

    def submit(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Score a batch at once."""
        return self.infer(frames)

    def result(self, batch: Scores) -> Scores:
        """Return what `submit` found."""
        return batch

    def close(self) -> None:  # noqa: B027  most backends hold nothing
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def open_backend(bundle: Bundle, precision: str = "fp32", *, num_threads: int | None = None) -> Backend:
    """Open the bundle's model of a precision on this machine's CPU with onnxruntime.

    Raises:
        BundleError: the model is missing or altered.
        BackendError: onnxruntime is not installed.
    """
    return open_model(bundle, f"model.{precision}.onnx", num_threads=num_threads)


def open_model(
    bundle: Bundle,
    name: str,
    *,
    engine: Engine = "onnxruntime",
    bf16: bool = False,
    num_threads: int | None = None,
    parallel_calls: int = 1,
) -> Backend:
    """Open one model file of a bundle: a plan with TensorRT, an ONNX file with the engine that is named.

    An online model is driven frame by frame and gives the scores of whole clips, as the others do.

    Args:
        bundle: where it is from.
        name: of the file.
        engine: runs ONNX files; an online model always runs on onnxruntime on the CPU.
        bf16: of openvino: compute fp32 in bfloat16.
        num_threads: on the CPU; default: all cores that this process may use.
        parallel_calls: as of `OnnxruntimeBackend`; others have their own way to keep busy.

    Raises:
        BundleError: the model is missing or altered, or a plan is for another machine or version.
        BackendError: what runs it is not installed or finds no GPU.
    """
    if name.endswith(".plan"):
        from tsm_runtime.backends.tensorrt.backend import TensorrtBackend

        return TensorrtBackend(bundle, name)
    entry = bundle.manifest.files.get(name)
    if entry is not None and entry.kind == "online":
        from tsm_runtime.backends.online import OnlineBackend, OnlineModel

        return OnlineBackend(OnlineModel(bundle, name, num_threads=num_threads))
    if engine == "onnxruntime-cuda":
        from tsm_runtime.backends.onnxruntime_cuda import OnnxruntimeCudaBackend

        return OnnxruntimeCudaBackend(bundle, name)
    if engine == "openvino":
        from tsm_runtime.backends.openvino import OpenvinoBackend

        return OpenvinoBackend(bundle, name, bf16=bf16, num_threads=num_threads)
    from tsm_runtime.backends.onnxruntime import OnnxruntimeBackend

    return OnnxruntimeBackend(bundle, name, num_threads=num_threads, parallel_calls=parallel_calls)
