"""The joint model of views of a bundle: features of the views of moments to scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import Scores
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.errors import BundleError
from tsm_runtime.models.feature_session import check_sizes, open_call, run_call

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
        self._call, shapes = open_call(bundle, VIEWS_MODEL)
        expected = {
            "features": [manifest.feature_dim],
            "action_scores": [len(manifest.action_labels)],
            **({"scene_scores": [len(manifest.scene_labels)]} if manifest.scene_labels else {}),
        }
        sizes = {name: shape[-1:] for name, shape in shapes.items() if name != "present"}
        check_sizes(sizes, expected, f"{bundle.path}: {VIEWS_MODEL}", from_axis=0)

    def infer(self, features: npt.NDArray[np.float32], present: npt.NDArray[np.float32]) -> Scores:
        """Score moments.

        Args:
            features: (N, V, D) means over the frames of each view's interval; what is missing is not read.
            present: (N, V) 1 where a view is there, at least one of each moment, else 0.

        Raises:
            RunError: onnxruntime failed.
        """
        parts = []
        for begin in range(0, len(features), _MOMENTS_AT_ONCE):
            rows = slice(begin, begin + _MOMENTS_AT_ONCE)
            inputs = {"features": features[rows], "present": present[rows]}
            num = len(inputs["present"])
            parts.append(run_call(self._call, inputs, "joint model of views", num, "moment"))
        return Scores.of({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
