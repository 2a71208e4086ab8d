"""Scores clips with one model, in batches of the requested sizes, and checks the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import Backend
from tsm_runtime.bundle.manifest import Manifest, ModelFile
from tsm_runtime.errors import CheckError
from tsm_runtime.verification.clip_sets import ClipSet

Heads = Mapping[str, npt.NDArray[np.float32]]
"""(N, C) probabilities of each output: `action_scores` and, if the model has it, `scene_scores`."""

Progress = Callable[[str, int, int], None]
"""Called with a model file, the number of scored clips and the number of all clips."""

_BATCH_SIZES = (1, 4)
"""Batch sizes for ONNX files: that of `tsm-run`, and one that reveals dependence on the rest of a batch."""


def batch_sizes(entry: ModelFile) -> tuple[int, ...]:
    """Return the two batch sizes at which a file is compared, or one if the file takes no other.

    >>> batch_sizes(ModelFile(sha256="", precision="fp32"))
    (1, 4)
    """
    if entry.engine is None:
        return _BATCH_SIZES
    least, best, most = entry.engine.batch
    # An engine is tuned for, and runs with, the best size; the other size reveals dependence on the size.
    return tuple(dict.fromkeys((least, best if best != least else most)))


def plan_batches(num_clips: int, sizes: Sequence[int]) -> Iterator[tuple[npt.NDArray[np.int64], int]]:
    """Yield the clips of each call, with alternating sizes, and how many of them are new.

    The last call is filled up with the last clip, as an engine may not take fewer clips.

    >>> [(clips.tolist(), new) for clips, new in plan_batches(6, (1, 4))]
    [([0], 1), ([1, 2, 3, 4], 4), ([5], 1)]
    >>> [(clips.tolist(), new) for clips, new in plan_batches(3, (2,))]
    [([0, 1], 2), ([2, 2], 1)]
    """
    start = 0
    for size in cycle(sizes):
        if start >= num_clips:
            return
        yield np.minimum(np.arange(start, start + size), num_clips - 1), min(size, num_clips - start)
        start += size


class Scorer:
    """Scores clip sets with one model.

    Args:
        backend: the model.
        file: its name in the bundle.
        manifest: defines the outputs of the model.
        num_clips: number of all clips to be scored, for `progress`.
        progress: called after each call of the model.
    """

    def __init__(
        self, backend: Backend, file: str, manifest: Manifest, num_clips: int, progress: Progress | None
    ) -> None:
        self.backend = backend
        self.file = file
        self._widths = {"action_scores": len(manifest.action_labels)}
        if manifest.scene_labels:
            self._widths["scene_scores"] = len(manifest.scene_labels)
        self._progress = progress
        self._num_done, self._num_clips = 0, num_clips

    def score(self, clips: ClipSet, sizes: Sequence[int]) -> Heads:
        """Return the (N, C) probabilities of N clips for each output.

        Args:
            clips: the clips to score.
            sizes: clips per call; several sizes alternate.

        Raises:
            CheckError: an output is missing, has another shape, or is not finite.
            RunError: the model failed.
        """
        parts = []
        for rows, num_new in plan_batches(len(clips.frames), sizes):
            heads = self._infer(clips.frames[rows], clips.name)
            parts.append({head: values[:num_new] for head, values in heads.items()})
            self._num_done += num_new
            if self._progress is not None:
                self._progress(self.file, self._num_done, self._num_clips)
        return {head: np.concatenate([part[head] for part in parts]) for head in self._widths}

    def _infer(self, frames: npt.NDArray[np.uint8], where: str) -> Heads:
        scores = self.backend.infer(frames)
        given = {"action_scores": scores.action, "scene_scores": scores.scene}
        heads = {head: values for head, values in given.items() if values is not None}
        shapes = {head: values.shape for head, values in heads.items()}
        expected = {head: (len(frames), width) for head, width in self._widths.items()}
        if shapes != expected:
            raise CheckError(
                f"{self.file} gives outputs of another shape on {where}: expected {expected}, got {shapes}"
            )
        for head, values in heads.items():
            if num_bad := int(np.count_nonzero(~np.isfinite(values))):
                raise CheckError(
                    f"{self.file} gives {num_bad} of {values.size} {head} that are not finite on {where}, in"
                    f" a call of {len(frames)}"
                )
        return heads
