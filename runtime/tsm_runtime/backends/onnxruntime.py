"""ONNX files on the CPU through onnxruntime."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends import Scores
from tsm_runtime.bundle import Bundle, Manifest
from tsm_runtime.errors import BackendError, BundleError, RunError

__all__ = ["OnnxruntimeBackend"]

_NO_FOLDER = f"{os.devnull}/"
"""Where weights outside the model file are looked for: a place that holds none, as no hash covers them."""


class OnnxruntimeBackend:
    """A session over one ONNX model of a bundle.

    Args:
        bundle: where the model and its labels come from.
        name: which of the bundle's models, `model.fp32.onnx` for one.
        num_threads: threads of the convolutions; default: all cores that this process may use.

    Raises:
        BackendError: onnxruntime is not installed.
        BundleError: the model is missing, altered, not loadable, or does not fit the manifest.
    """

    def __init__(
        self, bundle: Bundle, name: str = "model.fp32.onnx", *, num_threads: int | None = None
    ) -> None:
        ort = _onnxruntime()
        model = bundle.model_bytes(name)
        what = f"{bundle.path}: {name}"
        try:
            self._session = ort.InferenceSession(
                model, _options(ort, num_threads or _num_cores()), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no base class below Exception
            raise BundleError(
                f"{what} does not load in onnxruntime {ort.__version__}: {_line(error)}"
            ) from error
        _check_model(self._session, bundle.manifest, what)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.name = f"onnxruntime {ort.__version__} CPU, {bundle.manifest.files[name].precision}"

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Score a (N, T, size, size, 3) uint8 batch.

        Raises:
            RunError: onnxruntime broke off, for want of memory for example.
        """
        try:
            outputs = self._session.run(None, {"frames": frames})
        except Exception as error:  # as above
            raise RunError(f"{self.name} failed on a batch of {len(frames)}: {_line(error)}") from error
        values = dict(zip(self._outputs, outputs, strict=True))
        return Scores(values["action_scores"], values.get("scene_scores"))


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            "no backend is installed: pip install 'tsm-tal[cpu]' (or 'tsm-tal[gpu]' on a CUDA machine)"
        ) from error
    return onnxruntime


def _options(ort: Any, num_threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_FOLDER)
    options.log_severity_level = 4  # its errors reach us as exceptions
    return options


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def _check_model(session: Any, manifest: Manifest, what: str) -> None:
    expected = {
        "frames": ("uint8", [manifest.num_frames, manifest.size, manifest.size, 3]),
        "action_scores": ("float", [len(manifest.action_labels)]),
    }
    if manifest.scene_labels:
        expected["scene_scores"] = ("float", [len(manifest.scene_labels)])
    nodes = [*session.get_inputs(), *session.get_outputs()]
    got = {node.name: (node.type.removeprefix("tensor(")[:-1], list(node.shape[1:])) for node in nodes}
    if got != expected:
        raise BundleError(f"{what} does not fit the manifest: expected {expected}, got {got}")
    if any(isinstance(node.shape[0], int) for node in nodes):
        raise BundleError(f"{what} takes one number of clips only; export it again with a free first axis")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
