"""A backend that scores each clip twice, as it is and mirrored, and gives the mean (flips at test time)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import Backend, BlockingBackend, Scores
from tsm_runtime.clips.pool import FramePool
from tsm_runtime.errors import UsageError


class MirroredBackend(BlockingBackend):
    """Mean of the outputs for clips and their mirror images.

    Args:
        backend: scores both; closed with this one.
        columns: (A,) for each action the action that its mirror image shows.
    """

    def __init__(self, backend: Backend, columns: Sequence[int]) -> None:
        self._backend = backend
        self._columns = np.asarray(columns, np.int64)
        self.name = f"{backend.name}, with mirror images"
        self.device = backend.device
        self.best_batch = backend.best_batch
        self.parallel_calls = getattr(backend, "parallel_calls", 1)

    @property
    def frame_pool(self) -> FramePool:
        """Memory that the backend reads without a copy; mirror images are copied."""
        return self._backend.frame_pool

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Score a (N, T, size, size, 3) uint8 batch and its mirror image."""
        plain = self._backend.infer(frames)
        mirrored = self._backend.infer(np.ascontiguousarray(frames[:, :, :, ::-1]))
        frame_action = mirrored.frame_action
        mirrored = mirrored._replace(
            action=mirrored.action[:, self._columns],
            frame_action=None if frame_action is None else frame_action[:, :, self._columns],
        )
        pairs = zip(plain, mirrored, strict=True)
        means = [None if one is None or other is None else (one + other) / 2 for one, other in pairs]
        return Scores(*means)  # type: ignore[arg-type]  # action scores are never None

    def close(self) -> None:
        """Close the backend."""
        self._backend.close()


def mirrored_columns(
    labels: Sequence[str], flip_pairs: Sequence[tuple[str, str]], never_flip: Sequence[str]
) -> list[int]:
    """Return for each label the number of the label that its mirror image shows.

    Args:
        labels: of the action scores.
        flip_pairs: labels that a mirror image exchanges.
        never_flip: labels without a meaning in a mirror image.

    Raises:
        UsageError: there is such a label.

    >>> mirrored_columns(["left", "right", "up"], [("left", "right")], [])
    [1, 0, 2]
    """
    if never_flip:
        raise UsageError(
            f"--flip: a mirror image of {never_flip[0]!r} means nothing (never_flip of its training)"
        )
    other = {a: b for pair in flip_pairs for a, b in (pair, pair[::-1])}
    return [labels.index(other.get(label, label)) for label in labels]
