"""Decoding with a bounded look-ahead: the label of a frame depends on so many later frames and no more.

At fixed frames of the video (every multiple of an eighth of the look-ahead) the frames known so far are
decoded, and the labels of those older than the look-ahead are fixed. A decoding also sees `_HISTORY_SECONDS`
of frames with fixed labels. So viterbi becomes a fixed-lag form of itself, and durations likewise. `merge`
labels each frame by itself and needs no look-ahead: its segments are those of `decode_frames`. `proposals`
chooses among all segments of a piece, which a stream does not have: its frames are merged. Scores are
smoothed and bounds refined as in `decode_frames`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tsm_runtime.results import FrameScores
from tsm_runtime.segments.decoding.decode import check_decoding
from tsm_runtime.segments.decoding.open_runs import FrameWindow, OpenRuns
from tsm_runtime.segments.decoding.runs import FrameLabeller, Rows
from tsm_runtime.segments.decoding.settings import Decoding
from tsm_runtime.segments.merging import MergedSegment
from tsm_runtime.segments.smoothing import moving_average, smoothing_weights

_HISTORY_SECONDS = 10.0
"""How much of the frames with fixed labels a decoding sees; the look-ahead, where that is longer."""

_BLOCKS = 8
"""Decodings for each look-ahead: more cost time, fewer add delay."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How many frames a decoding waits for, by the look-ahead in seconds.

    Args:
        decoding: method and smoothing.
        step_seconds: length of a frame.
        lookahead_seconds: 0 or more.

    Raises:
        ValueError: the look-ahead is negative or not finite.
    """

    decoding: Decoding
    step_seconds: float
    lookahead_seconds: float

    def __post_init__(self) -> None:
        if not 0 <= self.lookahead_seconds < math.inf:
            raise ValueError(f"lookahead {self.lookahead_seconds:g}: expected seconds, 0 or more")

    @property
    def by_frame(self) -> bool:
        """Whether the label of a frame depends on no other frame."""
        return self.decoding.method not in ("viterbi", "durations")

    @property
    def lookahead(self) -> int:
        """Later frames that the label of a frame depends on, once scores are smoothed."""
        if self.by_frame:
            return 0
        return math.ceil(self.lookahead_seconds / self.step_seconds - 1e-6)

    @property
    def block(self) -> int:
        """Frames from one decoding to the next."""
        return max(1, self.lookahead // _BLOCKS)

    @property
    def history(self) -> int:
        """Frames with fixed labels that a decoding sees."""
        return 0 if self.by_frame else max(self.lookahead, round(_HISTORY_SECONDS / self.step_seconds))

    @property
    def smoothing(self) -> list[float]:
        """The weights of the moving average."""
        return smoothing_weights(self.decoding.smoothing_seconds / self.step_seconds)

    @property
    def frames(self) -> int:
        """How many frames after the end of a segment its end is known at the latest."""
        return len(self.smoothing) - 1 + self.lookahead + self.block


class FrameDecoder:
    """Makes segments of frames as these arrive, in memory that does not grow.

    The segments do not depend on how many frames arrive at once.

    Args:
        labels: A action labels; the background gives no segment.
        step_seconds: length of a frame.
        decoding: method and settings.
        lookahead_seconds: see `Lag`.
        thresholds: of a sigmoid head, one for each label; empty: a softmax head.

    Raises:
        ValueError: as `Lag`.
    """

    def __init__(
        self,
        labels: Sequence[str],
        step_seconds: float,
        decoding: Decoding,
        lookahead_seconds: float,
        thresholds: Sequence[float] = (),
    ) -> None:
        self._lag = Lag(decoding, step_seconds, lookahead_seconds)
        self._labels, self._thresholds = tuple(labels), tuple(thresholds)
        self._labeller = FrameLabeller(self._labels, step_seconds, decoding, self._thresholds)
        self._runs = OpenRuns(labels, step_seconds, decoding)
        self._weights = self._lag.smoothing
        self._kept = max(self._lag.history, self._runs.num_kept)
        self._raw: FrameScores | None = None
        """Frames of the piece from the earliest that is still needed on; None between pieces."""
        self._scenes: Rows | None = None
        self._smoothed: Rows = np.empty((0, len(labels)), np.float32)
        """Of the first frames of `_raw`, as far as their neighbours are known."""
        self.next_frame = 0
        """The first frame whose label is not fixed."""

    def push(self, frames: FrameScores, scenes: Rows | None = None) -> list[MergedSegment]:
        """Take consecutive frames that follow the last ones of the piece, or begin one.

        Args:
            frames: without a gap among them.
            scenes: (F, S) scene scores of the frames, or None.

        Returns:
            Segments that are over, in order of their ends.

        Raises:
            ValueError: as `decode_frames`, or the frames do not follow.
        """
        check_decoding(frames, self._labels, self._lag.decoding, self._thresholds)
        if self._raw is None:
            self.next_frame = int(frames.indices[0])
            self._raw, self._scenes = frames, scenes
        else:
            self._append(self._raw, frames, scenes)
        return list(self._decode(len(self._raw) - (len(self._weights) - 1)))

    def close(self) -> list[MergedSegment]:
        """End the piece, as a gap or the end of the video does, and return its last segments."""
        if self._raw is None:
            return []
        stop = int(self._raw.indices[-1]) + 1
        found = [*self._decode(len(self._raw)), *self._fix(stop, stop)]
        found += self._runs.close(stop, self._window())
        self._raw, self._scenes, self._smoothed = None, None, self._smoothed[:0]
        self.next_frame = stop
        return found

    @property
    def is_open(self) -> bool:
        """Whether the next frames can continue the piece."""
        return self._raw is not None

    @property
    def open(self) -> list[MergedSegment]:
        """Segments up to the last frame with a label, which the next frames may prolong."""
        return [] if self._raw is None else self._runs.open(self.next_frame, self._window())

    def skip_to(self, frame: int) -> None:
        """Note, between pieces, that no frame before this one follows."""
        self.next_frame = max(self.next_frame, frame)

    def earliest_start(self, label: str) -> float:
        """Return the earliest start in seconds of a segment of this label that can still be returned."""
        return self._runs.earliest_start(label, self.next_frame)

    def _append(self, held: FrameScores, frames: FrameScores, scenes: Rows | None) -> None:
        if int(frames.indices[0]) != int(held.indices[-1]) + 1:
            raise ValueError(f"frame {frames.indices[0]} after frame {held.indices[-1]} of the same piece")
        self._raw = FrameScores(
            indices=np.concatenate([held.indices, frames.indices]),
            step_seconds=held.step_seconds,
            action=np.concatenate([held.action, frames.action]),
            actionness=_joined(held.actionness, frames.actionness),
            distances=_joined(held.distances, frames.distances),
        )
        self._scenes = _joined(self._scenes, scenes)

    def _decode(self, num_known: int) -> Iterator[MergedSegment]:
        """Smooth up to `num_known` of the held frames, and fix the labels that are due."""
        assert self._raw is not None
        done = len(self._smoothed)
        if num_known <= done:
            return
        action, first = self._raw.action, int(self._raw.indices[0])
        if len(self._weights) > 1:
            action = moving_average(action, self._weights, done, num_known)
        else:
            action = action[done:num_known]
        self._smoothed = np.concatenate([self._smoothed, action])
        before, known, block = first + done, first + num_known, self._lag.block
        if self._lag.by_frame:  # where a decoding happens makes no difference
            yield from self._fix(known, known)
            return
        for boundary in range((before // block + 1) * block, known + 1, block):
            yield from self._fix(boundary, boundary - self._lag.lookahead)

    def _fix(self, known: int, stop: int) -> list[MergedSegment]:
        """Fix the labels of the frames before `stop` by the frames before `known`."""
        if stop <= self.next_frame or self._raw is None:
            return []
        window, start = self._window(), self.next_frame
        low = max(window.first, start - self._lag.history)
        rows = slice(low - window.first, known - window.first)
        actionness = None if self._raw.actionness is None else self._raw.actionness[rows]
        present = self._labeller(window.action[rows], actionness)[start - low : stop - low]
        found = self._runs.add(start, present, window)
        self.next_frame = stop
        self._forget(stop - self._kept - (len(self._weights) - 1) - window.first)
        return found

    def _window(self) -> FrameWindow:
        assert self._raw is not None
        num, distances, scenes = len(self._smoothed), self._raw.distances, self._scenes
        return FrameWindow(
            int(self._raw.indices[0]),
            self._smoothed,
            None if distances is None else distances[:num],
            None if scenes is None else scenes[:num],
        )

    def _forget(self, num: int) -> None:
        if num <= 0 or self._raw is None:
            return
        self._raw = self._raw.rows(slice(num, None))
        self._scenes = None if self._scenes is None else self._scenes[num:]
        self._smoothed = self._smoothed[num:]


def _joined(before: Rows | None, after: Rows | None) -> Rows | None:
    return None if before is None or after is None else np.concatenate([before, after])
