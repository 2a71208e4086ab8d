"""Features of all frames of the videos, computed once by the trained backbone and kept on disk."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from tsm_runtime.backends.base import Backend
from tsm_runtime.clips.joined import clips_of, open_reader
from tsm_runtime.clips.options import ClipOptions
from tsm_runtime.clips.spec import ClipSpec, count_intervals, frame_indices
from tsm_runtime.errors import RunError, UsageError
from tsm_runtime.files import write_whole
from tsm_train.config import Config
from tsm_train.data.video import TrainingVideo
from tsm_train.head.targets import FrameTargets, frame_targets
from tsm_train.samples.augment import augment_clip
from tsm_train.samples.clips import Labels
from tsm_train.samples.stored_video import StoredVideo

_BATCH_SIZE = 8

_FORMAT = "tsm-tal features 1"


@dataclass(frozen=True, slots=True)
class Piece:
    """Features of consecutive frames of a video, without a gap between them.

    Args:
        start_seconds: where the first frame's slice begins.
        features: (L, D) float16.
    """

    start_seconds: float
    features: npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class FrameSequence:
    """A piece of a video and what a head learns of it."""

    video_id: str
    features: npt.NDArray[np.float16]
    targets: FrameTargets


class FeatureCache:
    """Computes features of videos, or reads them where they were computed before.

    Pass 0 decodes a video as deployment does. Every further pass takes the stored frames, begins at another
    place within the first interval, and crops, mirrors and recolours all frames of the video alike, as
    `[augment]` says. A video with a label that a mirror exchanges, or that has no meaning there, is never
    mirrored.

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
        settings: list[object] = [_FORMAT, identity, config.clip, config.augment, config.train.seed]
        if config.sound_alone is not None:
            settings.append(config.sound_alone)
        key = msgspec.json.encode(settings)
        self._folder = None if folder is None else folder / hashlib.sha256(key).hexdigest()[:16]
        exchanged = [label for pair in config.augment.flip_pairs for label in pair]
        self._unflipped = frozenset([*exchanged, *config.augment.never_flip])

    @property
    def frame_seconds(self) -> float:
        """Time from one frame to the next."""
        return self._spec.interval_seconds / self._spec.num_frames

    def sequences(
        self, video: TrainingVideo, stored: StoredVideo | None = None, number: int = 0
    ) -> list[FrameSequence]:
        """Return one pass over a video, a sequence for each piece between gaps.

        Args:
            video: file and annotations.
            stored: its frames; needed by all passes but the first.
            number: of the pass.

        Raises:
            UsageError: the backend gives no features.
            VideoError: the video cannot be read.
            RunError: the backend failed, or stored frames are damaged.
        """
        pieces = self.deployed(video) if number == 0 else self._changed(video, stored, number)
        found = []
        for piece in pieces:
            targets = frame_targets(
                video.segments,
                len(piece.features),
                self.frame_seconds,
                self._labels,
                offset_seconds=piece.start_seconds,
            )
            found.append(FrameSequence(video.video_id, piece.features, targets))
        return found

    def deployed(self, video: TrainingVideo) -> list[Piece]:
        """Return the features of a video as deployment sees it; errors as of `sequences`."""
        stat = video.path.stat()
        key = f"{video.path.resolve()}/{stat.st_size}/{stat.st_mtime_ns}/{video.crop}"
        return self._kept(key, lambda: self._decoded(video))

    def _changed(self, video: TrainingVideo, stored: StoredVideo | None, number: int) -> list[Piece]:
        if stored is None:
            raise ValueError(f"pass {number} over {video.video_id!r} needs its stored frames")
        t = self._spec.interval_seconds
        seed = (self._config.train.seed, number, _number_of(video.video_id))
        room = max(0.0, stored.duration_seconds - t)
        offset = float(np.random.default_rng(seed).uniform(0.0, min(t, room)))

        def compute() -> list[Piece]:
            parts = [self._features(clips) for clips in self._clips(video, stored, offset, seed)]
            return [Piece(offset, np.concatenate(parts))] if parts else []

        return self._kept(f"{stored.path.name}/{stored.path.stat().st_size}/{number}", compute)

    def _decoded(self, video: TrainingVideo) -> list[Piece]:
        spec = whole_intervals(self._config.clip_spec, video)
        indices: list[npt.NDArray[np.int64]] = []
        rows: list[npt.NDArray[np.float16]] = []
        with open_reader(video.path, spec.sound, rate=video.rate) as reader:
            stream = clips_of(reader, spec, options=ClipOptions(batch_size=_BATCH_SIZE))
            for batch in stream:
                indices.append(batch.indices.copy())
                rows.append(self._features(batch.frames))
            breaks = sorted(stream.builders[spec].breaks)
        if not rows:
            return []
        numbers, features = np.concatenate(indices), np.concatenate(rows)
        broken = (np.diff(numbers) != 1) | np.isin(numbers[1:], breaks)
        borders = [0, *(np.flatnonzero(broken) + 1).tolist(), len(numbers)]
        t, per_clip = spec.interval_seconds, spec.num_frames
        return [
            Piece(float(numbers[start] * t), features[start * per_clip : stop * per_clip])
            for start, stop in pairwise(borders)
        ]

    def _features(self, clips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        scores = self._backend.infer(clips)
        if scores.features is None:
            raise UsageError(f"{self._backend.name}: gives no features of frames; export the model again")
        return scores.features.reshape(-1, scores.features.shape[-1]).astype(np.float16)

    def _clips(
        self, video: TrainingVideo, stored: StoredVideo, offset: float, seed: Sequence[int]
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield batches of clips, all cropped and recoloured alike."""
        t, augment = self._spec.interval_seconds, self._config.augment
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

    def _kept(self, key: str, compute: Callable[[], list[Piece]]) -> list[Piece]:
        """Return what an earlier run computed, or compute and keep it."""
        if self._folder is None:
            return compute()
        path = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
        if path.exists():
            with np.load(path, allow_pickle=False) as kept:
                return [Piece(float(s), kept[f"piece{i}"]) for i, s in enumerate(kept["starts"])]
        pieces = compute()
        stream = io.BytesIO()
        arrays = {f"piece{i}": piece.features for i, piece in enumerate(pieces)}
        np.savez(stream, starts=np.array([piece.start_seconds for piece in pieces]), **arrays)  # type: ignore[arg-type]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path.parent}: cannot be made ({error.strerror or error})") from error
        write_whole(path, stream.getvalue())
        return pieces


def interval_means(
    pieces: Sequence[Piece], num_frames: int, interval_seconds: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return the numbers (N,) of a video's intervals, and the means (N, D) over the frames of each.

    Args:
        pieces: of the video, as `FeatureCache.deployed` returns them.
        num_frames: T of a clip.
        interval_seconds: t.
    """
    if not pieces:
        return np.zeros(0, np.int64), np.zeros((0, 0), np.float32)
    features = [piece.features.astype(np.float32) for piece in pieces]
    means = [part.reshape(-1, num_frames, part.shape[1]).mean(axis=1) for part in features]
    firsts = [round(piece.start_seconds / interval_seconds) for piece in pieces]
    indices = [np.arange(first, first + len(part)) for first, part in zip(firsts, means, strict=True)]
    return np.concatenate(indices), np.concatenate(means)


def whole_intervals(spec: ClipSpec, video: TrainingVideo | None = None) -> ClipSpec:
    """Return a model's clips without overlap, whose frames follow one another in equal steps."""
    return ClipSpec(
        interval_seconds=spec.interval_seconds,
        num_frames=spec.num_frames,
        size=spec.size,
        crop=spec.crop if video is None or spec.sound is not None else video.crop,
        sound=spec.sound,
    )


def _number_of(video_id: str) -> int:
    return int.from_bytes(hashlib.sha256(video_id.encode()).digest()[:8], "big")
