"""Scores of one video by the members that see it, before they become segments."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import Scores
from tsm_runtime.clips.joined import JoinedClips
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.errors import RunError
from tsm_runtime.models.frame_stream import FrameStream
from tsm_runtime.models.sound_branch import SoundStream
from tsm_runtime.models.temporal_head import joined_frames
from tsm_runtime.results import FrameFeatures, FrameScores, IntervalScores
from tsm_runtime.video.finding import VideoInput


@dataclass(frozen=True, slots=True)
class MemberScores:
    """Scores of one member for the intervals of one video, batch by batch, in order of time.

    Args:
        frame_stream: scores the frames; None: only the intervals are scored.
        sound: scores the intervals by their sound too; None: only by pictures.
        keep_features: also keep the features of the frames, or their means over intervals, for
            `joined_features`.
    """

    frame_stream: FrameStream | None = None
    sound: SoundStream | None = None
    keep_features: Literal["frames", "intervals"] | None = None
    indices: list[npt.NDArray[np.int64]] = field(default_factory=list, init=False)
    scores: list[Scores] = field(default_factory=list, init=False)
    frames: list[FrameScores] = field(default_factory=list, init=False)

    def add(
        self, indices: npt.NDArray[np.int64], scores: Scores, video: Path, breaks: Collection[int] = ()
    ) -> None:
        """Append the scores of some intervals.

        Args:
            indices: their numbers.
            scores: scores of the model for them.
            video: video for messages.
            breaks: numbers of the intervals that follow a gap of the video, as far as it is read.

        Raises:
            RunError: they are not finite, or the temporal head failed.
        """
        if self.sound is not None:
            scores = self.sound.joined(indices, scores)
        if not all(np.isfinite(part).all() for part in scores if part is not None):
            raise RunError(
                f"{video}: the model gave scores that are not numbers (nan); try another precision"
            )
        self.indices.append(indices)
        kept = scores.features if self.keep_features else None  # they are large
        if kept is not None and self.keep_features == "intervals":
            kept = kept.mean(axis=1, keepdims=True)
        self.scores.append(Scores(scores.action, scores.scene, features=kept))
        if self.frame_stream is not None:
            self.frames.extend(self.frame_stream.push(indices, scores, breaks))

    def joined(self, breaks: frozenset[int]) -> IntervalScores:
        """Return all scores as one array each; there must be some.

        Args:
            breaks: numbers of the intervals that follow a gap of the video.
        """
        scenes = [batch.scene for batch in self.scores if batch.scene is not None]
        return IntervalScores(
            indices=np.concatenate(self.indices),
            action=np.concatenate([batch.action for batch in self.scores]),
            scene=np.concatenate(scenes) if scenes else None,
            breaks=breaks,
        )

    def joined_frames(self, breaks: frozenset[int]) -> FrameScores:
        """Return the scores of all frames; there must be some, and no more come.

        Args:
            breaks: numbers of the intervals that follow a gap of the video.
        """
        if self.frame_stream is None:
            raise ValueError("the frames of this video were not scored")
        self.frames.extend(self.frame_stream.close())
        per_clip = self.frame_stream.spec.num_frames
        return joined_frames(self.frames, frozenset(k * per_clip for k in breaks))

    def joined_features(self, spec: ClipSpec) -> FrameFeatures:
        """Return the features that were kept, of frames or of whole intervals.

        Args:
            spec: clips that do not overlap.

        Raises:
            RunError: the model gives none.
        """
        values = [batch.features for batch in self.scores if batch.features is not None]
        if len(values) < len(self.scores):
            raise RunError("this model gives no features of frames; export it again with --frame-scores")
        per_interval = values[0].shape[1]
        first = np.concatenate(self.indices)[:, None] * per_interval
        return FrameFeatures(
            indices=(first + np.arange(per_interval)).ravel(),
            step_seconds=spec.interval_seconds / per_interval,
            values=np.concatenate([part.reshape(-1, part.shape[-1]) for part in values]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredVideo:
    """A completely read and scored video.

    Args:
        scores: scores by number of the member, for the members that see the video's view.
        clips: stream of the clips, or streams of several inputs.
    """

    video: VideoInput
    scores: Mapping[int, MemberScores]
    clips: ClipStream | JoinedClips
