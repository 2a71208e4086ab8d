"""The joint model of views of a bundle: features of the views of moments to scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import Scores, one_line
from tsm_runtime.backends.onnxruntime import open_session
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.errors import BundleError, RunError
from tsm_runtime.wording import counted

VIEWS_MODEL = "views.fp32.onnx"
"""Name of the file in a bundle."""

_MOMENTS_AT_ONCE = 1024
"""Bounds the memory of a call."""


class ViewJoin:
    """A session over the joint model of a bundle, on the CPU.

    Args:
        bundle: bundle with a joint model.

    Raises:
        BackendError: onnxruntime is not installed.
        BundleError: the file is missing or altered, or does not fit the manifest.
    """

    def __init__(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        if manifest.views is None or VIEWS_MODEL not in manifest.files:
            raise BundleError(f"{bundle.path}: has no {VIEWS_MODEL}; train one with a [views] section")
        self._session = open_session(bundle, VIEWS_MODEL, num_threads=1)
        self._outputs = ["action_scores", *(["scene_scores"] if manifest.scene_labels else [])]
        expected = {
            "features": manifest.feature_dim,
            "action_scores": len(manifest.action_labels),
            **({"scene_scores": len(manifest.scene_labels)} if manifest.scene_labels else {}),
        }
        nodes = [*self._session.get_inputs(), *self._session.get_outputs()]
        got = {node.name: node.shape[-1] for node in nodes if node.name != "present"}
        if got != expected:
            raise BundleError(
                f"{bundle.path}: {VIEWS_MODEL} does not fit the manifest: expected sizes {expected}, got"
                f" {got}"
            )

    def infer(self, features: npt.NDArray[np.float32], present: npt.NDArray[np.float32]) -> Scores:
        """Score moments.

        Args:
            features: (N, V, D) means over the frames of each view's interval; what is missing is not read.
            present: (N, V) 1 where a view is there, at least one of each moment, else 0.

        Raises:
            RunError: onnxruntime failed.
        """
        parts = [
            self._infer(features[begin : begin + _MOMENTS_AT_ONCE], present[begin : begin + _MOMENTS_AT_ONCE])
            for begin in range(0, len(features), _MOMENTS_AT_ONCE)
        ]
        columns = map(np.concatenate, zip(*parts, strict=True))
        return Scores.of(dict(zip(self._outputs, columns, strict=True)))

    def _infer(
        self, features: npt.NDArray[np.float32], present: npt.NDArray[np.float32]
    ) -> list[npt.NDArray[np.float32]]:
        try:
            found: list[npt.NDArray[np.float32]] = self._session.run(
                self._outputs, {"features": features, "present": present}
            )
        except Exception as error:  # onnxruntime's exceptions share no base class below Exception
            raise RunError(
                f"joint model of views: failed on {counted(len(features), 'moment')}: {one_line(error)}"
            ) from error
        return found
