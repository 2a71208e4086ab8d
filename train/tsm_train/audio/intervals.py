"""Intervals of videos as the sound branch learns them: picture features, sound around them, targets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tsm_runtime.audio.patches import SoundTrack
from tsm_runtime.audio.spec import SoundSpec
from tsm_runtime.audio.whole_track import read_track
from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.wording import counted
from tsm_train.data.video import TrainingVideo
from tsm_train.head.features import FeatureCache, interval_means
from tsm_train.samples.clips import NO_SCENE, Labels, interval_targets

_log = logging.getLogger("tsm_runtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoIntervals:
    """The intervals of one video.

    Args:
        video: that they are of.
        indices: (N,) their numbers.
        features: (N, D) float32, means over the frames of each.
        track: its sound.
        middles: (N,) seconds.
    """

    video: TrainingVideo
    indices: npt.NDArray[np.int64]
    features: npt.NDArray[np.float32]
    track: SoundTrack
    middles: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Intervals:
    """All intervals of the training videos; log-mel frames are cut when a batch needs them.

    Args:
        videos: in order.
        owner: (K,) the video of each interval, and (K,) its place there.
        actions: (K,) indices or (K, A) zeros and ones, see `losses.action_loss`.
        scenes: (K,) indices, `NO_SCENE` where unknown.
    """

    videos: Sequence[VideoIntervals]
    owner: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    actions: Tensor
    scenes: Tensor

    @classmethod
    def of(cls, videos: Sequence[VideoIntervals], labels: Labels, interval_seconds: float) -> Intervals:
        """Label all intervals.

        Raises:
            UsageError: there is none.
        """
        if not videos:
            raise UsageError("the sound branch has no training video as long as one interval")
        targets = [
            interval_targets(each.video.segments, each.middles, interval_seconds, labels) for each in videos
        ]
        scene_index = {label: number for number, label in enumerate(labels.scenes)}
        counts = [len(each.indices) for each in videos]
        scenes = [scene_index.get(each.video.scene or "", NO_SCENE) for each in videos]
        return cls(
            videos,
            (np.repeat(np.arange(len(videos)), counts), np.concatenate([np.arange(n) for n in counts])),
            torch.cat(targets),
            torch.tensor(np.repeat(scenes, counts)),
        )

    def __len__(self) -> int:
        return len(self.scenes)

    def inputs(
        self, rows: npt.NDArray[np.int64], shifts: npt.NDArray[np.float64] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return features (n, D), log-mel frames (n, C, F, M) and is_heard (n,) of some intervals.

        Args:
            rows: (n,) numbers of the intervals.
            shifts: (n,) seconds by which the sound is taken later; None: not at all.
        """
        features, log_mels, heard = [], [], []
        for place, row in enumerate(rows.tolist()):
            each, number = self.videos[self.owner[0][row]], self.owner[1][row]
            middle = each.middles[number : number + 1] + (0.0 if shifts is None else shifts[place])
            patches = each.track.patches(middle)
            features.append(each.features[number])
            log_mels.append(patches.log_mel[0])
            heard.append(patches.is_heard[0])
        return (
            torch.from_numpy(np.stack(features)),
            torch.from_numpy(np.stack(log_mels)),
            torch.tensor(np.array(heard, np.float32)),
        )


def read_intervals(
    videos: Sequence[TrainingVideo], cache: FeatureCache, spec: SoundSpec, num_frames: int
) -> list[VideoIntervals]:
    """Return the intervals of all videos that can be read and are as long as one.

    Args:
        videos: files and annotations.
        cache: computes picture features.
        spec: of the sound.
        num_frames: T of a clip.
    """
    found, num_mute = [], 0
    t = cache.frame_seconds * num_frames
    for video in videos:
        try:
            pieces = cache.deployed(video)
            track, _ = read_track(video.path, spec)
        except VideoError as error:
            _log.warning(f"the sound branch does without this video: {error}")
            continue
        if not pieces:
            continue
        num_mute += not track.frames.shape[1]
        numbers, means = interval_means(pieces, num_frames, t)
        found.append(
            VideoIntervals(
                video=video,
                indices=numbers,
                features=means,
                track=track,
                middles=np.asarray((numbers + 0.5) * t, np.float64),
            )
        )
    if num_mute:
        _log.warning(f"no sound in {num_mute} of {counted(len(found), 'video')}")
    return found
