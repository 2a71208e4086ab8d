"""ONNX files on the CPU through onnxruntime."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from tsm_runtime.bundle import Bundle
from tsm_runtime.errors import BackendError, BundleError
from tsm_runtime.backends import Scores

__all__ = ["OnnxruntimeBackend"]


class OnnxruntimeBackend:
    """A session over one ONNX model of a bundle.

    Args:
        bundle: where the model and its labels come from.
        precision: which of the bundle's models.
        num_threads: threads of the convolutions; default: all cores that this process may use.

    Raises:
        BackendError: onnxruntime is not installed.
        BundleError: the model is missing, altered, not loadable, or does not fit the manifest.
    """

    def __init__(self, bundle: Bundle, precision: str = "fp32", *, num_threads: int | None = None) -> None:
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise BackendError(
                "no backend is installed: pip install 'tsm-tal[cpu]' (or 'tsm-tal[gpu]' on a CUDA machine)"
            ) from error
        options = ort.SessionOptions()
        options.intra_op_num_threads = num_threads or len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        # Spinning threads would take the core that decodes the next clips.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        model = bundle.model_bytes(precision)
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class below Exception
            raise BundleError(
                f"{bundle.path}: onnxruntime {ort.__version__} cannot load model.{precision}.onnx:"
                f" {str(error).splitlines()[0]}"
            ) from error
        self._outputs = [output.name for output in self._session.get_outputs()]
        _check_model(self._session, bundle, precision)
        self.name = f"onnxruntime {ort.__version__} CPU, {precision}"

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Score a (N, T, size, size, 3) uint8 batch."""
        values = dict(zip(self._outputs, self._session.run(None, {"frames": frames}), strict=True))
        return Scores(values["action_scores"], values.get("scene_scores"))


def _check_model(session: object, bundle: Bundle, precision: str) -> None:
    manifest = bundle.manifest
    expected: dict[str, list[int]] = {
        "frames": [manifest.num_frames, manifest.size, manifest.size, 3],
        "action_scores": [len(manifest.action_labels)],
    }
    if manifest.scene_labels:
        expected["scene_scores"] = [len(manifest.scene_labels)]
    nodes = [*session.get_inputs(), *session.get_outputs()]  # type: ignore[attr-defined]
    got = {node.name: list(node.shape[1:]) for node in nodes}
    if got != expected:
        raise BundleError(
            f"{bundle.path}: model.{precision}.onnx does not fit the manifest: expected {expected}, got {got}"
        )
