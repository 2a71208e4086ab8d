"""Features of all frames of the videos, computed once by the trained backbone and kept on disk."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from tsm_runtime.backends.base import Backend
from tsm_runtime.clips.spec import ClipSpec, count_intervals, frame_indices
from tsm_runtime.errors import RunError, UsageError
from tsm_runtime.files import write_whole
from tsm_train.config import AugmentConfig, Config
from tsm_train.data.video import TrainingVideo
from tsm_train.head.targets import FrameTargets, frame_targets
from tsm_train.samples.augment import augment_clip
from tsm_train.samples.clips import Labels
from tsm_train.samples.frame_store import StoredVideo

_BATCH_SIZE = 8

_FORMAT = "tsm-tal features 1"

_STILL = AugmentConfig(flip=0.0, crop_scale=1.0, color=0.0, time_jitter=0.0)


@dataclass(frozen=True, slots=True)
class FrameSequence:
    """Features of the consecutive frames of one video, as one pass saw it, and their targets.

    Args:
        video_id: its name.
        features: (L, D) float16.
        targets: of the L frames.
    """

    video_id: str
    features: npt.NDArray[np.float16]
    targets: FrameTargets


class FeatureCache:
    """Computes features of stored videos, or reads them where they were computed before.

    Pass 0 sees a video as deployment does. Every further pass begins at another place within the first
    interval and crops, mirrors and recolours all frames of the video alike, as `[augment]` says. A label that
    a mirror exchanges, or that has no meaning there, keeps the whole video from being mirrored.

    Args:
        backend: the trained backbone, which gives features.
        identity: of its weights.
        labels: names of its outputs.
        config: the run.
        folder: of the files; None: nothing is kept.
    """

    def __init__(
        self, backend: Backend, identity: str, labels: Labels, config: Config, folder: Path | None
    ) -> None:
        self._backend = backend
        self._labels = labels
        self._config = config
        self._spec = whole_intervals(config.clip_spec)
        key = msgspec.json.encode((_FORMAT, identity, config.clip, config.augment, config.train.seed))
        self._folder = None if folder is None else folder / hashlib.sha256(key).hexdigest()[:16]
        mirrored = [label for pair in config.augment.flip_pairs for label in pair]
        self._unflipped = frozenset([*mirrored, *config.augment.never_flip])

    def sequence(self, video: TrainingVideo, stored: StoredVideo, number: int = 0) -> FrameSequence:
        """Return the features of one pass over a video.

        Raises:
            UsageError: the video is shorter than an interval, or the backend gives no features.
            RunError: the backend failed, or stored frames are damaged.
        """
        seed = (self._config.train.seed, number, _number_of(video.video_id))
        rng = np.random.default_rng(seed)
        t = self._spec.interval_seconds
        offset = float(rng.uniform(0.0, min(t, max(0.0, stored.duration_seconds - t)))) if number else 0.0
        features = self._cached(video, stored, number, offset, seed)
        targets = frame_targets(
            video.segments, len(features), t / self._spec.num_frames, self._labels, offset_seconds=offset
        )
        return FrameSequence(video.video_id, features, targets)

    def _cached(
        self,
        video: TrainingVideo,
        stored: StoredVideo,
        number: int,
        offset: float,
        seed: Sequence[int],
    ) -> npt.NDArray[np.float16]:
        name = hashlib.sha256(f"{stored.path.name}/{video.crop}/{number}".encode()).hexdigest()[:24]
        path = None if self._folder is None else self._folder / f"{name}.npy"
        if path is not None and path.exists():
            kept: npt.NDArray[np.float16] = np.load(path, allow_pickle=False)
            return kept
        parts = [self._features(clips) for clips in self._clips(video, stored, number, offset, seed)]
        if not parts:
            t = self._spec.interval_seconds
            raise UsageError(f"{video.path}: shorter than one interval of {t:g} s; no features for the head")
        features = np.concatenate(parts)
        if path is not None:
            _save(path, features)
        return features

    def _features(self, clips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        scores = self._backend.infer(clips)
        if scores.features is None:
            raise UsageError(f"{self._backend.name}: gives no features of frames; export it again")
        return scores.features.reshape(-1, scores.features.shape[-1]).astype(np.float16)

    def _clips(
        self,
        video: TrainingVideo,
        stored: StoredVideo,
        number: int,
        offset: float,
        seed: Sequence[int],
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield batches of clips, all cropped and recoloured alike."""
        t, augment = self._spec.interval_seconds, self._config.augment if number else _STILL
        may_flip = self._unflipped.isdisjoint(segment.label for segment in video.segments)
        count = count_intervals(stored.duration_seconds - offset, t)
        for first in range(0, count, _BATCH_SIZE):
            batch = []
            for k in range(first, min(first + _BATCH_SIZE, count)):
                moments = self._spec.moments_from(offset + k * t)
                frames = torch.from_numpy(stored.read(frame_indices(stored.times, moments)))
                chance = np.random.default_rng([*seed, 1])  # the same for every clip
                clip, _ = augment_clip(frames, self._spec.size, augment, chance, may_flip=may_flip)
                batch.append(clip.numpy())
            yield np.stack(batch)


def whole_intervals(spec: ClipSpec) -> ClipSpec:
    """Return a model's clips without overlap, whose frames follow one another in equal steps."""
    return ClipSpec(
        interval_seconds=spec.interval_seconds, num_frames=spec.num_frames, size=spec.size, crop=spec.crop
    )


def _number_of(video_id: str) -> int:
    return int.from_bytes(hashlib.sha256(video_id.encode()).digest()[:8], "big")


def _save(path: Path, features: npt.NDArray[np.float16]) -> None:
    stream = io.BytesIO()
    np.save(stream, features)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path.parent}: cannot be made ({error.strerror or error})") from error
    write_whole(path, stream.getvalue())
