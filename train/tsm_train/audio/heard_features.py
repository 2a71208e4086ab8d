"""Features of frames with what is heard behind them, as a temporal head with sound takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tsm_runtime.audio.patches import SoundTrack
from tsm_runtime.audio.whole_track import read_track
from tsm_runtime.backends.base import Backend
from tsm_train.audio.checkpoint import SoundCheckpoint
from tsm_train.audio.network import SoundBranchNet
from tsm_train.config import Config
from tsm_train.data.video import TrainingVideo
from tsm_train.head.checkpoint import weights_sha256
from tsm_train.head.features import FeatureCache, FrameSequence, Piece
from tsm_train.head.train import FEATURES
from tsm_train.samples.clips import Labels
from tsm_train.samples.frame_store import FrameStore
from tsm_train.samples.stored_video import StoredVideo

_INTERVALS_AT_ONCE = 64


def heard_identity(backbone: Mapping[str, Tensor], sound: SoundCheckpoint | None) -> str:
    """Return the SHA-256 of the weights whose outputs a head takes: backbone, and sound branch if any."""
    if sound is None:
        return weights_sha256(backbone)
    return weights_sha256({**backbone, **{f"sound branch {k}": v for k, v in sound.weights.items()}})


@dataclass(frozen=True, slots=True)
class Hearing:
    """A trained sound branch, as a temporal head uses it."""

    checkpoint: SoundCheckpoint

    def cache(self, backend: Backend, identity: str, labels: Labels, config: Config) -> FeatureCache:
        """Return a cache whose features hold the embedding of sound behind those of the pictures."""
        folder = FrameStore.of(config).folder / FEATURES
        return _HeardCache(backend, identity, labels, config, folder, self.checkpoint)

    def widened(self, frame_head: nn.Linear) -> nn.Linear:
        """Return the linear head of the pictures for wider features; sound has no weight in it."""
        wide = nn.Linear(
            frame_head.in_features + self.checkpoint.model().embedding_dim, frame_head.out_features
        )
        with torch.no_grad():
            wide.weight.zero_()
            wide.weight[:, : frame_head.in_features] = frame_head.weight
            wide.bias.copy_(frame_head.bias)
        return wide


class _HeardCache(FeatureCache):
    """Adds what is heard to the features of each piece; in training each pass also comes without sound."""

    def __init__(
        self,
        backend: Backend,
        identity: str,
        labels: Labels,
        config: Config,
        folder: Path | None,
        sound: SoundCheckpoint,
    ) -> None:
        super().__init__(backend, identity, labels, config, folder)
        self._sound: SoundBranchNet = sound.model()
        self._sound_spec = sound.config.spec
        self._tracks: dict[str, SoundTrack] = {}

    def sequences(
        self, video: TrainingVideo, stored: StoredVideo | None = None, number: int = 0
    ) -> list[FrameSequence]:
        """Return one pass over a video; one that has sound comes again without, see `FeatureCache`."""
        found = super().sequences(video, stored, number)
        muted = []
        for sequence in found:
            features = sequence.features.copy()
            features[:, -self._sound.embedding_dim :] = 0
            muted.append(replace(sequence, features=features))
        return found + muted if self._track(video).frames.shape[1] else found

    def deployed(self, video: TrainingVideo) -> list[Piece]:
        """Return the features of a video as deployment sees and hears it."""
        return [self._heard(video, piece) for piece in super().deployed(video)]

    def _changed(self, video: TrainingVideo, stored: StoredVideo | None, number: int) -> list[Piece]:
        return [self._heard(video, piece) for piece in super()._changed(video, stored, number)]

    def _heard(self, video: TrainingVideo, piece: Piece) -> Piece:
        per_clip, t = self._spec.num_frames, self._spec.interval_seconds
        count = len(piece.features) // per_clip
        middles = np.asarray(piece.start_seconds + (np.arange(count) + 0.5) * t, np.float64)
        patches = self._track(video).patches(middles)
        parts = []
        with torch.inference_mode():
            for begin in range(0, count, _INTERVALS_AT_ONCE):
                rows = slice(begin, begin + _INTERVALS_AT_ONCE)
                pooled = self._sound.pooled(torch.from_numpy(patches.log_mel[rows]))
                parts.append((torch.from_numpy(patches.is_heard[rows])[:, None] * pooled).numpy())
        embedding = np.repeat(np.concatenate(parts).astype(np.float16), per_clip, axis=0)
        return replace(piece, features=np.concatenate([piece.features, embedding], axis=1))

    def _track(self, video: TrainingVideo) -> SoundTrack:
        """Return the sound of a video; that of the last video is kept."""
        key = str(video.path)
        if key not in self._tracks:
            self._tracks = {key: read_track(video.path, self._sound_spec)[0]}
        return self._tracks[key]
