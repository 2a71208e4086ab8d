"""The sound branch of a bundle: features of pictures and log-mel frames of sound to scores of intervals."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tsm_runtime.audio.patches import Patches, SoundTrack
from tsm_runtime.audio.whole_track import read_track
from tsm_runtime.backends.base import Scores
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import BundleError, RunError
from tsm_runtime.models.feature_session import check_sizes, open_call, run_call

SOUND_MODEL = "audio.fp32.onnx"
"""Name of the branch's file in a bundle."""


class SoundBranch:
    """A session over the sound branch of a bundle, on the CPU.

    Args:
        bundle: bundle with a sound branch.

    Raises:
        BackendError: onnxruntime is not installed.
        BundleError: the file is missing or altered, or does not fit the manifest.
    """

    def __init__(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        if manifest.sound is None or SOUND_MODEL not in manifest.files:
            raise BundleError(f"{bundle.path}: has no {SOUND_MODEL}; train one with an [audio] section")
        self.spec = manifest.sound.spec
        self._call, shapes = open_call(bundle, SOUND_MODEL)
        embedding_dim = manifest.sound.embedding_dim
        expected = {
            "features": [manifest.feature_dim],
            "log_mel": list(self.spec.patch_shape),
            "is_heard": [],
            "action_scores": [len(manifest.action_labels)],
            **({"scene_scores": [len(manifest.scene_labels)]} if manifest.scene_labels else {}),
            **({"embedding": [embedding_dim]} if embedding_dim else {}),
        }
        check_sizes(shapes, expected, f"{bundle.path}: {SOUND_MODEL}")

    def infer(self, features: npt.NDArray[np.float32], patches: Patches) -> Scores:
        """Score intervals; where the branch has an embedding, it is returned as `features` (N, 1, E).

        Args:
            features: (N, D) means over the frames of each interval.
            patches: sound of the intervals.

        Raises:
            RunError: onnxruntime failed.
        """
        inputs = {"features": features, "log_mel": patches.log_mel, "is_heard": patches.is_heard}
        found = run_call(self._call, inputs, "sound branch", len(features), "interval")
        embedding = found.pop("embedding", None)
        scores = Scores.of(found)
        return scores if embedding is None else scores._replace(features=embedding[:, None])

    def joined(self, scores: Scores, patches: Patches, *, for_head: bool, name: str) -> Scores:
        """Return the scores of intervals with their sound.

        Args:
            scores: of the picture model, with its features.
            patches: sound of the intervals.
            for_head: give the embedding to a temporal head, behind the features of each frame.
            name: of the video, for the message.

        Raises:
            RunError: the model gave no features, or onnxruntime failed.
        """
        if scores.features is None:
            raise RunError(f"{name}: the model gives no features for its sound branch; export it again")
        heard = self.infer(scores.features.mean(axis=1), patches)
        features = scores.features
        if for_head and heard.features is not None:
            repeated = np.repeat(heard.features, features.shape[1], axis=1)
            features = np.concatenate([features, repeated], axis=2)
        return scores._replace(action=heard.action, scene=heard.scene, features=features)


@dataclass(slots=True)
class SoundStream:
    """Scores the intervals of one video from pictures and sound.

    Args:
        branch: the model.
        clips: clip specification of the member.
        path: path of the video; its sound is read when the first scores arrive.
        for_head: give the embedding to a temporal head, behind the features of each frame.
    """

    branch: SoundBranch
    clips: ClipSpec
    path: Path
    for_head: bool = False
    warnings: tuple[str, ...] = ()
    _track: SoundTrack | None = field(default=None, init=False)

    def joined(self, indices: npt.NDArray[np.int64], scores: Scores) -> Scores:
        """Return the scores of intervals with their sound.

        Args:
            indices: numbers of the intervals.
            scores: of the picture model, with its features.

        Raises:
            RunError: the model gave no features, or onnxruntime failed.
            VideoError, UsageError: the sound cannot be read, see `read_track`.
        """
        if self._track is None:
            self._track, self.warnings = read_track(self.path, self.branch.spec)
        begins = indices.astype(np.float64) * self.clips.stride_seconds
        middles = np.asarray(begins + self.clips.interval_seconds / 2, np.float64)
        patches = self._track.patches(middles)
        return self.branch.joined(scores, patches, for_head=self.for_head, name=str(self.path))
