"""Backends: a batch of clips in, action and scene probabilities out."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tsm_runtime.bundle import Bundle

__all__ = ["Backend", "Scores", "open_backend", "open_model"]


class Scores(NamedTuple):
    """Probabilities of a batch: action (N, A) and scene (N, S) or None, both float32."""

    action: npt.NDArray[np.float32]
    scene: npt.NDArray[np.float32] | None


class Backend(Protocol):
    """What the pipeline needs of an engine."""

    name: str

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Score a (N, T, size, size, 3) uint8 batch; N may differ from call to call.

        The batch is to be left as it is: the members of an ensemble share it.
        """
        ...


def open_backend(bundle: Bundle, precision: str = "fp32", *, num_threads: int | None = None) -> Backend:
    """Open the bundle's model of a precision on this machine's CPU with onnxruntime.

    Raises:
        BundleError: the model is missing or altered.
        BackendError: onnxruntime is not installed.
    """
    return open_model(bundle, f"model.{precision}.onnx", num_threads=num_threads)


def open_model(bundle: Bundle, name: str, *, num_threads: int | None = None) -> Backend:
    """Open one model file of a bundle with what runs files of its kind: onnxruntime, or TensorRT for a plan.

    An online model is driven frame by frame and gives the scores of whole clips, as the others do.

    Raises:
        BundleError: the model is missing or altered, or a plan is for another machine or version.
        BackendError: what runs it is not installed or finds no GPU.
    """
    if name.endswith(".plan"):
        from tsm_runtime.backends.tensorrt import TensorrtBackend

        return TensorrtBackend(bundle, name)
    entry = bundle.manifest.files.get(name)
    if entry is not None and entry.kind == "online":
        from tsm_runtime.backends.online import OnlineBackend, OnlineModel

        return OnlineBackend(OnlineModel(bundle, name, num_threads=num_threads))
    from tsm_runtime.backends.onnxruntime import OnnxruntimeBackend

    return OnnxruntimeBackend(bundle, name, num_threads=num_threads)
