"""Scores of the frames of one video, from the outputs of its clips, in order of time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import Scores
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import RunError
from tsm_runtime.models.temporal_head import HeadStream, TemporalHead
from tsm_runtime.results import FrameScores


@dataclass(slots=True)
class FrameStream:
    """Turns the outputs of clips into scores of frames: those of a temporal head, or else the model's own.

    Args:
        spec: clips that do not overlap.
        head: scores the frames by their features; None: the model's action scores of frames are taken.
    """

    spec: ClipSpec
    head: HeadStream | None

    @classmethod
    def of(cls, spec: ClipSpec, head: TemporalHead | None, *, at_once: bool = False) -> FrameStream:
        """Return a stream for one video.

        Args:
            spec: clips that do not overlap.
            head: as in `FrameStream`.
            at_once: score every frame as soon as its context is there, as live runs do; otherwise frames are
                gathered, which takes less time.
        """
        step = spec.interval_seconds / spec.num_frames
        if head is None:
            return cls(spec, None)
        return cls(spec, HeadStream(head, step, 1) if at_once else HeadStream(head, step))

    def push(
        self, indices: npt.NDArray[np.int64], scores: Scores, breaks: Collection[int]
    ) -> list[FrameScores]:
        """Take the outputs of some clips.

        Args:
            indices: (N,) numbers of their intervals, increasing.
            scores: of the N clips.
            breaks: numbers of the intervals that follow a gap of the video.

        Returns:
            Scores of frames that are now known; joined with those of later calls they are all frames.

        Raises:
            RunError: the model does not give the outputs of frames, or the head failed.
        """
        values = scores.frame_action if self.head is None else scores.features
        if values is None:
            raise RunError("this model gives no outputs of frames; export it again with --frame-scores")
        per_clip = self.spec.num_frames
        found: list[FrameScores] = []
        for start, stop in _runs(indices, breaks):
            first = int(indices[start])
            rows = values[start:stop].reshape((stop - start) * per_clip, -1)
            if self.head is None:
                numbers = first * per_clip + np.arange(len(rows), dtype=np.int64)
                step = self.spec.interval_seconds / per_clip
                found.append(FrameScores(indices=numbers, step_seconds=step, action=rows))
            else:
                found += self.head.push(first * per_clip, rows, begins=first in breaks)
        return found

    def close(self) -> list[FrameScores]:
        """Return the scores of the last frames."""
        return [] if self.head is None else self.head.close()


def _runs(indices: npt.NDArray[np.int64], breaks: Collection[int]) -> Iterator[tuple[int, int]]:
    """Yield first and stop row of each run of consecutive intervals without a gap."""
    begins = [
        row
        for row in range(1, len(indices))
        if indices[row] != indices[row - 1] + 1 or int(indices[row]) in breaks
    ]
    return pairwise([0, *begins, len(indices)])
