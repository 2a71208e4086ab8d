"""Segments of one model in a live run, made of the scores of frames by the decoding of its bundle."""

from __future__ import annotations

import numpy as np

from tsm_runtime.backends.base import Scores
from tsm_runtime.backends.online import OnlineBackend
from tsm_runtime.models.member import Member
from tsm_runtime.results import FrameScores
from tsm_runtime.segments.decoding.lookahead import FrameDecoder, Lag
from tsm_runtime.segments.decoding.runs import Rows
from tsm_runtime.segments.merging import MergedSegment


def merges_frames(member: Member) -> bool:
    """Whether segments are made of the scores of frames, which online models do not give."""
    return member.decoding is not None and not isinstance(member.backend, OnlineBackend)


def frame_lag(member: Member, lookahead_seconds: float) -> Lag | None:
    """Return how many frames the decoding waits for; None where segments are made of the scores of clips."""
    if member.decoding is None or not merges_frames(member):
        return None
    return Lag(member.decoding, member.spec.interval_seconds / member.spec.num_frames, lookahead_seconds)


def delay_seconds(member: Member, lag: Lag) -> float:
    """Return how long after its end a segment is known at the latest, in the time of the stream.

    The sum of an interval, which is scored as a whole, the sound around it that lies behind its end, the
    later frames that the temporal head sees, and the frames that the decoding waits for.
    """
    context = 0 if member.head is None else member.head.context[1]
    interval = member.spec.interval_seconds
    sound = 0.0 if member.sound is None else max(0.0, (member.sound.spec.window_seconds - interval) / 2)
    return interval + sound + (context + lag.frames) * lag.step_seconds


class FrameMerger:
    """Decodes the frames of one model in a live run, in memory that does not grow. As `IntervalMerger`.

    The segments are those of a `FrameDecoder` that gets all frames at once.

    Args:
        member: for which `merges_frames` holds.
        lookahead_seconds: of the decoding.
    """

    def __init__(self, member: Member, lookahead_seconds: float) -> None:
        stream, lag = member.frame_stream(at_once=True), frame_lag(member, lookahead_seconds)
        if stream is None or lag is None:
            raise ValueError("segments of this model are not made of the scores of frames")
        self._per_interval = member.spec.num_frames
        self._rules = member.rules
        self._stream = stream
        self._decoder = FrameDecoder(
            member.action_labels, lag.step_seconds, lag.decoding, lookahead_seconds, member.rules.thresholds
        )
        self._scenes: dict[int, Rows] = {}
        """(S,) scene scores by interval, of intervals with frames that are not in the decoder."""
        self._next_interval = 0
        self.num_intervals = 0
        """Intervals so far."""

    def push(self, index: int, scores: Scores, *, after_gap: bool = False) -> list[MergedSegment]:
        """Take the next interval.

        Args:
            index: its number, higher than the last one; a missing number ends all open segments.
            scores: of the interval, a batch of one.
            after_gap: a gap in the video lies before the interval and ends all open segments.

        Returns:
            Segments that have ended.

        Raises:
            ValueError: the index is not higher, or the scores do not fit the labels or the decoding.
            RunError: the model gives no outputs of frames, or its temporal head failed.
        """
        if index < self._next_interval:
            raise ValueError(f"interval {index} after interval {self._next_interval - 1}")
        ended = self.close() if after_gap or index != self._next_interval else []
        self.num_intervals += 1
        self._next_interval = index + 1
        if scores.scene is not None:
            self._scenes[index] = scores.scene[0]
        for frames in self._stream.push(np.array([index], np.int64), scores, ()):
            ended += self._decoder.push(frames, self._scenes_of(frames))
        return self._long_enough(ended)

    def skip_to(self, index: int) -> list[MergedSegment]:
        """Note that no interval before `index` follows; return the segments that this ends."""
        if index <= self._next_interval:
            return []
        ended = self.close()
        self._next_interval = index
        self._decoder.skip_to(index * self._per_interval)
        return ended

    def close(self) -> list[MergedSegment]:
        """End all open segments, as the end of the stream or a break does."""
        ended: list[MergedSegment] = []
        for frames in self._stream.close():
            ended += self._decoder.push(frames, self._scenes_of(frames))
        ended += self._decoder.close()
        self._scenes.clear()
        return self._long_enough(ended)

    @property
    def open(self) -> list[MergedSegment]:
        """Segments up to the last frame whose label is fixed, which the next frames may prolong."""
        return self._long_enough(self._decoder.open)

    def earliest_start(self, label: str) -> float:
        """Return the earliest start in seconds of a segment of this label that can still be returned."""
        return self._decoder.earliest_start(label)

    def _long_enough(self, merged: list[MergedSegment]) -> list[MergedSegment]:
        return [each for each in merged if self._rules.keeps(each.segment)]

    def _scenes_of(self, frames: FrameScores) -> Rows | None:
        """Return the scene scores of the intervals that the frames lie in, and forget earlier ones."""
        intervals = frames.indices // self._per_interval
        if not self._scenes:
            return None
        rows = np.stack([self._scenes[int(number)] for number in intervals])
        for number in [each for each in self._scenes if each < intervals[-1]]:
            del self._scenes[number]
        return rows
