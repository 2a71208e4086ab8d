"""Plans on a GPU through TensorRT."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends import Scores
from tsm_runtime.bundle import Bundle
from tsm_runtime.errors import BackendError

__all__ = ["TensorrtBackend"]


class TensorrtBackend:
    """A plan of a bundle on one GPU."""

    def __init__(self, bundle: Bundle, name: str, *, device: int = 0) -> None:
        raise BackendError("plans cannot be run yet")

    name: str

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Score a (N, T, size, size, 3) uint8 batch."""
        raise NotImplementedError
