"""Backends: a batch of clips in, action and scene probabilities out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tsm_runtime.bundle.manifest import Manifest
from tsm_runtime.clips.pool import FramePool
from tsm_runtime.closing import Closing
from tsm_runtime.errors import OutOfMemoryError, RunError

Device = Literal["cpu", "gpu"]


class Scores(NamedTuple):
    """Outputs of a model for a batch of N clips, all float32.

    Args:
        action: (N, A) probabilities.
        scene: (N, S) probabilities; None without a scene head.
        frame_action: (N, T, A) probabilities of the single frames; None where the model does not give them.
        features: (N, T, D) pooled features of the frames; None where the model does not give them.
    """

    action: npt.NDArray[np.float32]
    scene: npt.NDArray[np.float32] | None
    frame_action: npt.NDArray[np.float32] | None = None
    features: npt.NDArray[np.float32] | None = None

    @classmethod
    def of(cls, outputs: Mapping[str, npt.NDArray[np.float32]]) -> Scores:
        """Return the scores of a model's outputs by name; other outputs are left out."""
        return cls(outputs["action_scores"], *(outputs.get(name) for name in _OPTIONAL_OUTPUTS))

    def clips(self, rows: slice) -> Scores:
        """Return the scores of some clips of the batch, as views."""
        return Scores(self.action[rows], *(None if part is None else part[rows] for part in self[1:]))


_OPTIONAL_OUTPUTS = ("scene_scores", "frame_action_scores", "features")


def output_shapes(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """Return name and shape of one clip of each output that a bundle's models of clips have."""
    num_actions, num_scenes = len(manifest.action_labels), len(manifest.scene_labels)
    shapes: dict[str, tuple[int, ...]] = {"action_scores": (num_actions,)}
    if num_scenes:
        shapes["scene_scores"] = (num_scenes,)
    if manifest.feature_dim:
        shapes["frame_action_scores"] = (manifest.num_frames, num_actions)
        shapes["features"] = (manifest.num_frames, manifest.feature_dim)
    return shapes


def joined_scores(parts: Sequence[Scores]) -> Scores:
    """Return the scores of several batches of one model as those of one batch."""
    if len(parts) == 1:
        return parts[0]
    columns = [[values for values in column if values is not None] for column in zip(*parts, strict=True)]
    action, *optional = [np.concatenate(column) if column else None for column in columns]
    if action is None:
        raise ValueError("no scores to join")
    return Scores(action, *optional)


class Backend(Protocol):
    """Interface of a backend to the pipeline. Used by one thread at a time, except for `frame_pool`."""

    name: str
    """Library, device and precision, for messages."""

    device: Device
    """Processor of the computation: the cores that also decode, or another device."""

    in_flight: int
    """Number of batches to submit before waiting for the first result."""

    best_batch: int
    """Default number of clips per batch."""

    @property
    def frame_pool(self) -> FramePool:
        """Memory for clips that `submit` reads without a copy; valid until `close`.

        `submit` also accepts other memory, which may be copied.
        """
        ...

    def submit(self, frames: npt.NDArray[np.uint8]) -> Any:
        """Begin to score a (N, T, size, size, 3) uint8 batch; N may differ from call to call.

        The batch must not be changed until `result` returns: the members of an ensemble share it.

        Raises:
            OutOfMemoryError: a smaller batch may fit; batches in flight must be submitted again.
            RunError: the engine failed.
        """
        ...

    def result(self, batch: Any) -> Scores:
        """Wait for the scores of what `submit` returned, in the order of submission.

        Raises:
            OutOfMemoryError, RunError: as `submit`.
        """
        ...

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Submit a batch and wait for its scores."""
        ...

    def close(self) -> None:
        """Release all resources; further calls do nothing."""
        ...


class SubmittingBackend(Closing):
    """Base of backends with batches in flight."""

    @abstractmethod
    def submit(self, frames: npt.NDArray[np.uint8]) -> Any:
        """Begin to score a batch, see `Backend`."""

    @abstractmethod
    def result(self, batch: Any) -> Scores:
        """Wait for the scores of a batch, see `Backend`."""

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Score a (N, T, size, size, 3) uint8 batch, and wait for it.

        Raises:
            OutOfMemoryError: a smaller batch may fit.
            RunError: the engine failed.
        """
        return self.result(self.submit(frames))


class BlockingBackend(Closing):
    """Base of backends that score within the call: they have `name` and `infer`, and get the rest here."""

    name: str
    device: Device = "cpu"
    in_flight: int = 1
    best_batch: int = 1
    parallel_calls: int = 1
    """Calls of `infer` at a time, from threads of the caller's, that the processor is shared out among."""

    @abstractmethod
    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Score a (N, T, size, size, 3) uint8 batch."""

    @cached_property
    def frame_pool(self) -> FramePool:
        """Plain memory."""
        return FramePool()

    def submit(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Score a batch at once."""
        return self.infer(frames)

    def result(self, batch: Scores) -> Scores:
        """Return what `submit` found."""
        return batch

    def close(self) -> None:  # most backends hold nothing
        """Do nothing."""


_NO_MEMORY = (
    "out of memory",
    "allocation_failed",
    "alloc_failed",
    "out_of_memory",
    "failed to allocate memory",
    "bad allocation",
    "bad_alloc",
    "alloc_failed",
    "not enough memory",
)
"""In lower case: CUDA and cuBLAS, onnxruntime's arena, C++ libraries, cuDNN, oneDNN."""


def run_failure(name: str, num_clips: int, error: Exception) -> RunError:
    """Return the error to raise when an engine did not run a batch; no library has a class for this.

    Args:
        name: of the backend.
        num_clips: of the batch.
        error: as the engine raised it.
    """
    kind = OutOfMemoryError if is_out_of_memory(error) else RunError
    return kind(f"{name} failed on a batch of {num_clips}: {one_line(error)}")


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an engine's error means out of memory."""
    words = one_line(error).lower()
    return isinstance(error, MemoryError) or any(said in words for said in _NO_MEMORY)


def one_line(error: Exception) -> str:
    """Return an error's message as one line, shortened."""
    return " ".join(str(error).split())[:300]
