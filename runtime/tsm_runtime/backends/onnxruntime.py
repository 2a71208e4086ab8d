"""ONNX files on the CPU through onnxruntime."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends import BlockingBackend, Scores
from tsm_runtime.bundle import Bundle, Manifest
from tsm_runtime.errors import BackendError, BundleError, RunError
from tsm_runtime.machine import num_cores

__all__ = ["OnnxruntimeBackend", "describe_session", "one_line", "open_session"]

_NO_FOLDER = f"{os.devnull}/"
"""Where weights outside the model file are looked for: a place that holds none, as no hash covers them."""


class OnnxruntimeBackend(BlockingBackend):
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
        self._session = open_session(bundle, name, num_threads=num_threads)
        _check_model(self._session, bundle.manifest, f"{bundle.path}: {name}")
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.name = describe_session(bundle, name)

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Score a (N, T, size, size, 3) uint8 batch.

        Raises:
            RunError: onnxruntime broke off, for want of memory for example.
        """
        try:
            outputs = self._session.run(None, {"frames": frames})
        except Exception as error:  # onnxruntime's exceptions share no base class below Exception
            raise RunError(f"{self.name} failed on a batch of {len(frames)}: {one_line(error)}") from error
        values = dict(zip(self._outputs, outputs, strict=True))
        return Scores(values["action_scores"], values.get("scene_scores"))


def open_session(bundle: Bundle, name: str, *, num_threads: int | None = None) -> Any:
    """Open an ONNX file of a bundle on the CPU; arguments and errors as of `OnnxruntimeBackend`."""
    ort = _onnxruntime()
    model = bundle.model_bytes(name)
    try:
        return ort.InferenceSession(
            model, _options(ort, num_threads or num_cores()), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # as above
        raise BundleError(
            f"{bundle.path}: {name} does not load in onnxruntime {ort.__version__}: {one_line(error)}"
        ) from error


def describe_session(bundle: Bundle, name: str) -> str:
    """Tell a person what runs a model file."""
    return f"onnxruntime {_onnxruntime().__version__} CPU, {bundle.manifest.files[name].precision}"


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


def one_line(error: Exception) -> str:
    """Return an error's message as one line of bearable length."""
    return " ".join(str(error).split())[:300]
