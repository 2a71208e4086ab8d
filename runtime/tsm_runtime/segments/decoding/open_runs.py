"""Runs of labelled frames that become segments while frames arrive, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.results import Segment
from tsm_runtime.segments.decoding.refine import ordered_bounds, reach_frames, refined_bound
from tsm_runtime.segments.decoding.runs import Mask, Rows, runs_of
from tsm_runtime.segments.decoding.settings import Decoding
from tsm_runtime.segments.merging import MergedSegment
from tsm_runtime.segments.temperature import segment_at_temperature


@dataclass(frozen=True, slots=True)
class FrameWindow:
    """Consecutive frames of a piece.

    Args:
        first: number of the first frame.
        action: (F, A) smoothed probabilities.
        distances: (F, 2) in seconds, or None.
        scenes: (F, S) probabilities, or None.
    """

    first: int
    action: Rows
    distances: Rows | None
    scenes: Rows | None


@dataclass(slots=True)
class _Run:
    start: int
    best: float = 0.0
    total: float = 0.0
    scene_sum: npt.NDArray[np.float64] | None = None
    start_seconds: float | None = None
    """The refined start; None: the frames that it depends on are not all there."""


class OpenRuns:
    """Joins the labels of frames, block by block, to segments.

    Args:
        labels: A action labels.
        step_seconds: length of a frame.
        decoding: score of a segment and refinement of its bounds.
    """

    def __init__(self, labels: Sequence[str], step_seconds: float, decoding: Decoding) -> None:
        self._labels, self._step, self._decoding = tuple(labels), step_seconds, decoding
        refines = decoding.refine_seconds > 0
        self._reach = reach_frames(decoding.refine_seconds, step_seconds) if refines else 0
        self._limit = decoding.refine_limit_seconds if refines else 0.0
        self._runs: dict[int, _Run] = {}

    @property
    def num_kept(self) -> int:
        """How many frames before the next block `add` and `close` need in their windows."""
        return self._reach + 1

    def add(self, start: int, present: Mask, window: FrameWindow) -> list[MergedSegment]:
        """Take the labels of the next frames.

        Args:
            start: number of the first of these frames, which follows the last block of the piece.
            present: (n, A), whether a frame has a label.
            window: these frames, and at least `num_kept` before them that are of the same piece.

        Returns:
            Segments that end before the last of these frames, in order of their ends.
        """
        stop = start + len(present)
        runs = [(start + low, start + high, label) for low, high, label in runs_of(present)]
        going_on = {label for low, _, label in runs if low == start}
        ended = [(start, label, self._runs.pop(label)) for label in [*self._runs] if label not in going_on]
        for low, high, label in runs:
            run = self._runs.pop(label, None) or _Run(low)
            self._extend(run, low, high, label, window)
            if high < stop:
                ended.append((high, label, run))
            else:
                self._runs[label] = run
        for label, run in self._runs.items():
            if run.start_seconds is None and stop >= run.start + self._reach:
                run.start_seconds = self._bound(0, (run.start, stop), label, window)
        return [
            self._segment(label, run, end, window)
            for end, label, run in sorted(ended, key=lambda each: (each[0], each[2].start, each[1]))
        ]

    def close(self, stop: int, window: FrameWindow) -> list[MergedSegment]:
        """End all runs at the end of the piece, frame `stop`."""
        found = self.open(stop, window)
        self._runs.clear()
        return found

    def open(self, stop: int, window: FrameWindow) -> list[MergedSegment]:
        """Return the segments that the runs make if they end at frame `stop`."""
        order = sorted(self._runs.items(), key=lambda item: (item[1].start, item[0]))
        return [self._segment(label, run, stop, window) for label, run in order]

    def earliest_start(self, label: str, next_frame: int) -> float:
        """Return the earliest start in seconds of a segment of a label that can still be returned.

        Args:
            label: which may be unknown here.
            next_frame: the first frame without a label so far.
        """
        column = self._labels.index(label) if label in self._labels else -1
        run = self._runs.get(column)
        start = next_frame if run is None else run.start
        return max(0.0, start * self._step - self._limit)

    @staticmethod
    def _extend(run: _Run, low: int, high: int, label: int, window: FrameWindow) -> None:
        rows = slice(low - window.first, high - window.first)
        scores = window.action[rows, label]
        run.best = max(run.best, float(scores.max()))
        run.total = float(np.add.accumulate(np.append(run.total, scores))[-1])  # one by one, as blocks vary
        if window.scenes is not None:
            added = window.scenes[rows].sum(axis=0, dtype=np.float64)
            run.scene_sum = added if run.scene_sum is None else run.scene_sum + added

    def _segment(self, label: int, run: _Run, stop: int, window: FrameWindow) -> MergedSegment:
        bounds, start = (run.start, stop), run.start_seconds
        if start is None:
            start = self._bound(0, bounds, label, window)
        start, end = ordered_bounds(start, self._bound(1, bounds, label, window), bounds, self._step)
        length = stop - run.start
        segment = Segment(
            label=self._labels[label],
            start_seconds=start,
            end_seconds=end,
            score=run.best if self._decoding.score == "max" else run.total / length,
        )
        confident = segment_at_temperature(segment, self._decoding.temperature)
        return MergedSegment(confident, run.scene_sum, length)

    def _bound(self, side: int, run: tuple[int, int], label: int, window: FrameWindow) -> float:
        return refined_bound(
            side,
            run,
            window.action[:, label],
            window.distances,
            window.first,
            step_seconds=self._step,
            decoding=self._decoding,
        )
