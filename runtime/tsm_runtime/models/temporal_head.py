"""The temporal head of a bundle: features of a video's frames, in order of time, to scores of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np

from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.errors import BundleError
from tsm_runtime.models.feature_session import Call, Floats, Shapes, check_sizes, open_call, run_call
from tsm_runtime.results import FrameScores

HEAD_MODELS = ("head.fp32.onnx", "head.fp16.onnx")
"""File names of a head in a bundle; the first existing file is used."""

_CHUNK_FRAMES = 1024
"""Frames per call, without context; bounds the memory for long videos."""


class TemporalHead:
    """A session over the temporal head of a bundle, on the CPU.

    Args:
        bundle: bundle with a temporal head.
        name: name of the file; None: the first existing file of `HEAD_MODELS`.

    Raises:
        BackendError: neither onnxruntime nor openvino is installed.
        BundleError: the file is missing or altered, does not fit the manifest, or was trained on the features
            of another backbone.
    """

    def __init__(self, bundle: Bundle, name: str | None = None) -> None:
        manifest = bundle.manifest
        info = manifest.temporal_head
        names = [each for each in HEAD_MODELS if each in manifest.files]
        if info is None or not names:
            raise BundleError(f"{bundle.path}: has no temporal head; train one with a [head] section")
        self.context = info.context
        self.with_sound = info.with_sound
        self._sound_dim = manifest.sound.embedding_dim if info.with_sound and manifest.sound else 0
        self._picture_dim = manifest.feature_dim
        self._call, shapes = _open(bundle, name or names[0])
        expected = {
            "features": [self._picture_dim + self._sound_dim],
            "frame_scores": [len(manifest.action_labels)],
            "actionness": [],
            "distances": [2],
        }
        hint = "; it is a head for other features or labels"
        check_sizes(shapes, expected, f"{bundle.path}: {name or names[0]}", from_axis=2, hint=hint)

    def infer(self, features: Floats) -> tuple[Floats, Floats, Floats]:
        """Score consecutive frames.

        Args:
            features: (L, D) float32, of a head with sound (L, D + E), or (L, D) where nothing is heard.

        Returns:
            Action scores (L, A), actionness (L,) and distances (L, 2) in seconds.

        Raises:
            RunError: onnxruntime failed.
        """
        if features.shape[1] == self._picture_dim and self._sound_dim:
            features = np.pad(features, ((0, 0), (0, self._sound_dim)))
        outputs = run_call(self._call, {"features": features[None]}, "temporal head", len(features), "frame")
        scores, actionness, distances = (outputs[name][0] for name in _OUTPUTS)
        return scores, actionness, distances


_OUTPUTS = ("frame_scores", "actionness", "distances")


def _open(bundle: Bundle, name: str) -> tuple[Call, Shapes]:
    """Open the file on onnxruntime, or on OpenVINO if only that is installed."""
    if find_spec("onnxruntime") is None and find_spec("openvino") is not None:
        from tsm_runtime.backends.openvino import open_graph

        return open_graph(bundle, name, num_threads=1)
    return open_call(bundle, name)


@dataclass(slots=True)
class HeadStream:
    """Runs a head over one video, chunk by chunk with the context that it needs on both sides.

    The scores of a frame do not depend on where the chunks end. Memory holds one chunk and its context.

    Args:
        head: the model.
        step_seconds: t/T, from one frame to the next.
        chunk_frames: frames of a call; 1: every frame as soon as its context is there, for a stream.
    """

    head: TemporalHead
    step_seconds: float
    chunk_frames: int = _CHUNK_FRAMES
    _features: list[Floats] = field(default_factory=list, init=False)
    _num_held: int = field(default=0, init=False)
    _num_scored: int = field(default=0, init=False)
    """Held frames that are kept as context alone."""
    _next: int = field(default=0, init=False)
    """Number of the frame after the last one held."""

    def push(self, first: int, features: Floats, *, begins: bool = False) -> list[FrameScores]:
        """Take the features of consecutive frames.

        Args:
            first: number of the first frame; where it does not follow the last one, a new piece begins.
            features: (n, D).
            begins: a gap in the video lies before the first frame.

        Returns:
            Scores of frames that are now known, in order; a piece's frames follow one another.
        """
        found = self.close() if self._num_held and (begins or first != self._next) else []
        self._features.append(features)
        self._num_held += len(features)
        self._next = first + len(features)
        ready = self._num_held - self._num_scored - self.head.context[1]
        return [*found, self._score(ready)] if ready >= self.chunk_frames else found

    def close(self) -> list[FrameScores]:
        """End the piece and return the scores of its last frames."""
        ready = self._num_held - self._num_scored
        found = [self._score(ready)] if ready else []
        self._features, self._num_held, self._num_scored = [], 0, 0
        return found

    def _score(self, count: int) -> FrameScores:
        """Score the next frames, and forget what is no longer needed as context."""
        held = np.concatenate(self._features)
        start, stop = self._num_scored, self._num_scored + count
        scores, actionness, distances = (part[start:stop] for part in self.head.infer(held))
        begin = self._next - self._num_held + start
        kept = held[max(0, stop - self.head.context[0]) :].copy()
        self._num_scored = stop - (len(held) - len(kept))
        self._features, self._num_held = [kept], len(kept)
        return FrameScores(
            indices=np.arange(begin, begin + count, dtype=np.int64),
            step_seconds=self.step_seconds,
            action=scores,
            actionness=actionness,
            distances=distances,
        )


def joined_frames(parts: Sequence[FrameScores], breaks: frozenset[int] = frozenset()) -> FrameScores:
    """Return the scores of all parts of a video as one.

    Args:
        parts: in order of time, one at least.
        breaks: numbers of the frames that follow a gap of the video.
    """

    def column(name: str) -> Floats | None:
        values = [getattr(part, name) for part in parts]
        return None if any(each is None for each in values) else np.concatenate(values)

    return FrameScores(
        indices=np.concatenate([part.indices for part in parts]),
        step_seconds=parts[0].step_seconds,
        action=np.concatenate([part.action for part in parts]),
        actionness=column("actionness"),
        distances=column("distances"),
        breaks=breaks,
    )
