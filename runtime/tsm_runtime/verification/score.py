"""Clips through one model, in calls of the asked sizes, with a check of what comes out."""

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
"""(N, C) probabilities of each output, `action_scores` and, where the model has it, `scene_scores`."""

Progress = Callable[[str, int, int], None]
"""Called with a model file, the number of clips it has scored and of those it has to score."""

_BATCH_SIZES = (1, 4)
"""Of ONNX files: that of `tsm-run`, and one that shows what depends on its neighbours in a batch."""


def batch_sizes(entry: ModelFile) -> tuple[int, ...]:
    """Return the two numbers of clips per call at which a file is compared, or one where it takes no other.

    >>> batch_sizes(ModelFile(sha256="", precision="fp32"))
    (1, 4)
    """
    if entry.engine is None:
        return _BATCH_SIZES
    least, best, most = entry.engine.batch
    # The best is the one that the engine is tuned for and runs with; another shows what depends on the size.
    return tuple(dict.fromkeys((least, best if best != least else most)))


def plan_batches(num_clips: int, sizes: Sequence[int]) -> Iterator[tuple[npt.NDArray[np.int64], int]]:
    """Yield the clips of each call, the sizes taking turns, and how many of them are new.

    The last clip fills up the last call: an engine may take no fewer.

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
    """One model, scoring clip set after clip set.

    Args:
        backend: the model.
        file: its name in the bundle.
        manifest: tells which outputs it has.
        num_clips: of all that it will score, for `progress`.
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
            clips: what to score.
            sizes: clips per call; several take turns.

        Raises:
            CheckError: an output is missing, has another shape, or is not finite.
            RunError: the model broke off.
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
