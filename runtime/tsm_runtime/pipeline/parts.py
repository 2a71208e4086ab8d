"""Clips of videos on their way through the models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.clips.builder import ClipBatch
from tsm_runtime.clips.joined import JoinedClips
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.errors import VideoError
from tsm_runtime.pipeline.scored import MemberScores, ScoredVideo
from tsm_runtime.video.finding import VideoInput


@dataclass(eq=False, slots=True)
class RunningVideo:
    """A video that is being decoded and scored."""

    given: VideoInput
    scores: dict[int, MemberScores]
    """Scores by number of the member, for the members that see the video."""
    clips: ClipStream | JoinedClips | None = None
    """Created by the decoding thread."""
    is_read: bool = False
    num_missing: int = 0
    """Parts whose scores are pending, counted for each member."""
    reached_seconds: float = 0.0
    outcome: ScoredVideo | VideoError | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Clips of one video, in a batch or waiting for one."""

    video: RunningVideo
    clips: ClipBatch

    def __len__(self) -> int:
        return len(self.clips.indices)


@dataclass(eq=False, slots=True)
class SharedBatch:
    """Clips that the models of one spec score together, and the array that holds them."""

    parts: list[Part]
    frames: npt.NDArray[np.uint8]
    memory: npt.NDArray[np.uint8] | None
    num_missing: int = 0
    """Members whose scores are pending."""
