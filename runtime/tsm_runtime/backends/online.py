"""Online models: one frame a call, with the state of earlier frames as inputs and outputs.

Such an ONNX file takes `frame` uint8 (N, size, size, 3) and float32 states (N, ...), each of which comes back
as `next_<state>`; a clip begins with states of zeros. Its scores are those of the clip up to this frame, and
after T frames those of the clip-wise model. The N streams are independent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import BlockingBackend, Scores, one_line
from tsm_runtime.backends.onnxruntime import describe_session, open_session
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.bundle.manifest import Manifest
from tsm_runtime.errors import BundleError, RunError
from tsm_runtime.wording import counted

ONLINE_MODEL = "model.online.onnx"
"""Name of the online model in a bundle that has one."""

FRAME = "frame"
"""Name of the input that takes the pictures; all other inputs are states."""


def next_name(state: str) -> str:
    """Return the name of the output that holds a state's value for the next frame."""
    return f"next_{state}"


class OnlineModel:
    """An online model of a bundle on onnxruntime; its scorers hold the streams.

    Args:
        bundle: bundle of the model and its labels.
        name: which of the bundle's models.
        num_threads: threads of the convolutions; default: all cores that this process may use.

    Raises:
        BackendError: onnxruntime is not installed.
        BundleError: the model is missing, altered, not loadable, or does not fit the manifest.
    """

    def __init__(self, bundle: Bundle, name: str = ONLINE_MODEL, *, num_threads: int | None = None) -> None:
        self.session = open_session(bundle, name, num_threads=num_threads)
        self.name = f"{describe_session(bundle, name)}, online"
        self.size, self.num_frames = bundle.manifest.size, bundle.manifest.num_frames
        self.score_sizes = _score_sizes(bundle.manifest)
        self.state_shapes = _state_shapes(self.session)
        """Per state its shape for one stream, without N."""
        _check_model(self, f"{bundle.path}: {name}")

    def scorer(self, num_streams: int = 1) -> OnlineScorer:
        """Return a new scorer; scorers of one model share its weights and nothing else."""
        return OnlineScorer(self, num_streams)


class OnlineScorer:
    """Scores of the clips so far, of N streams that advance together, in constant memory.

    Args:
        model: what scores.
        num_streams: N, at least 1.
    """

    def __init__(self, model: OnlineModel, num_streams: int = 1) -> None:
        if num_streams < 1:
            raise ValueError(f"num_streams: expected 1 or more, got {num_streams}")
        self.model = model
        self.num_streams = num_streams
        self._frame = np.zeros((num_streams, model.size, model.size, 3), np.uint8)
        self._scores = {name: self._zeros((size,)) for name, size in model.score_sizes.items()}
        # Two sets that take turns as input and output: onnxruntime writes where the next call reads.
        self._states = [{k: self._zeros(shape) for k, shape in model.state_shapes.items()} for _ in range(2)]
        self._bindings = [self._bind(*self._states), self._bind(*reversed(self._states))]
        self.num_frames = 0
        """Frames since the last reset."""

    def push(self, frame: npt.NDArray[np.uint8]) -> Scores:
        """Take the next frame of every stream.

        Args:
            frame: (N, size, size, 3) uint8 RGB, or (size, size, 3) of a single stream.

        Returns:
            The scores of the frames since the last reset.

        Raises:
            ValueError: another shape or type.
            RunError: onnxruntime failed, for example without memory.
        """
        single = frame[None] if frame.ndim == 3 and self.num_streams == 1 else frame
        if single.shape != self._frame.shape or frame.dtype != np.uint8:
            raise ValueError(f"expected uint8 {self._frame.shape}, got {frame.dtype} {frame.shape}")
        self._frame[:] = single
        try:
            self.model.session.run_with_iobinding(self._bindings[self.num_frames % 2])
        except Exception as error:  # onnxruntime's exceptions share no base class below Exception
            raise RunError(
                f"{self.model.name} failed on {counted(self.num_streams, 'frame')}: {one_line(error)}"
            ) from error
        self.num_frames += 1
        scene = self._scores.get("scene_scores")
        return Scores(self._scores["action_scores"].copy(), None if scene is None else scene.copy())

    def reset(self) -> None:
        """Begin new clips: forget all frames."""
        for state in self._states[0].values():
            state.fill(0)
        self.num_frames = 0

    def _zeros(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        return np.zeros((self.num_streams, *shape), np.float32)

    def _bind(
        self, states: dict[str, npt.NDArray[np.float32]], following: dict[str, npt.NDArray[np.float32]]
    ) -> Any:
        """Bind this object's arrays, so that onnxruntime reads and writes them in place."""
        binding = self.model.session.io_binding()
        frame = self._frame
        binding.bind_input(FRAME, "cpu", 0, np.uint8, frame.shape, frame.ctypes.data)
        for name, array in states.items():
            binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        outputs = self._scores | {next_name(name): array for name, array in following.items()}
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        return binding


class OnlineBackend(BlockingBackend):
    """An online model as a backend for whole clips, frame by frame."""

    def __init__(self, model: OnlineModel) -> None:
        self.model = model
        self.name = model.name
        self._scorer = model.scorer()

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Score a (N, T, size, size, 3) uint8 batch by T calls of N streams.

        Raises:
            ValueError: another number of frames per clip than the bundle's.
            RunError: onnxruntime failed.
        """
        model = self.model
        if frames.shape[1] != model.num_frames:
            raise ValueError(f"expected {model.num_frames} frames per clip, got {frames.shape[1]}")
        if len(frames) != self._scorer.num_streams:
            self._scorer = model.scorer(len(frames))
        self._scorer.reset()
        for place in range(model.num_frames):
            scores = self._scorer.push(frames[:, place])
        return scores


def _score_sizes(manifest: Manifest) -> dict[str, int]:
    sizes = {"action_scores": len(manifest.action_labels), "scene_scores": len(manifest.scene_labels)}
    return {name: size for name, size in sizes.items() if size}


def _state_shapes(session: Any) -> dict[str, tuple[int, ...]]:
    return {node.name: tuple(node.shape[1:]) for node in session.get_inputs() if node.name != FRAME}


def _check_model(model: OnlineModel, what: str) -> None:
    states = {name: ("float", [*shape]) for name, shape in model.state_shapes.items()}
    expected = {
        FRAME: ("uint8", [model.size, model.size, 3]),
        **states,
        **{name: ("float", [size]) for name, size in model.score_sizes.items()},
        **{next_name(name): kind for name, kind in states.items()},
    }
    nodes = [*model.session.get_inputs(), *model.session.get_outputs()]
    got = {node.name: (node.type.removeprefix("tensor(")[:-1], list(node.shape[1:])) for node in nodes}
    if got != expected:
        raise BundleError(f"{what} is no online model that fits the manifest: expected {expected}, got {got}")
    if any(isinstance(node.shape[0], int) for node in nodes):
        raise BundleError(f"{what} takes one number of streams only; export it again with a free first axis")
    if not all(isinstance(size, int) for shape in model.state_shapes.values() for size in shape):
        raise BundleError(f"{what} has states of no fixed size; export it again")
