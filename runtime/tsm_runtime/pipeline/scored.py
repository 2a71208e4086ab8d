"""Scores of one video by the members that see it, before they become segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import Scores
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.errors import RunError
from tsm_runtime.results import IntervalScores
from tsm_runtime.video.finding import VideoInput


@dataclass(frozen=True, slots=True)
class MemberScores:
    """Scores of one member for the intervals of one video, batch by batch, in order of time."""

    indices: list[npt.NDArray[np.int64]] = field(default_factory=list)
    scores: list[Scores] = field(default_factory=list)

    def add(self, indices: npt.NDArray[np.int64], scores: Scores, video: Path) -> None:
        """Append the scores of some intervals.

        Raises:
            RunError: they are not finite.
        """
        if not all(np.isfinite(part).all() for part in scores if part is not None):
            raise RunError(
                f"{video}: the model gave scores that are not numbers (nan); try another precision"
            )
        self.indices.append(indices)
        self.scores.append(scores)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredVideo:
    """A video that is read to its end and scored.

    Args:
        scores: by the number of the member, of the members that see the video's view.
        clips: the stream that the clips came from.
    """

    video: VideoInput
    scores: Mapping[int, MemberScores]
    clips: ClipStream
