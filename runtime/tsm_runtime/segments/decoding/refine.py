"""Refinement of segment bounds by the distances that nearby frames predict."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tsm_runtime.segments.decoding.settings import Decoding

Rows = npt.NDArray[np.float32]

_REACH_WIDTHS = 4.0
"""Reach in widths; frames further from a bound have less than 2 % of the weight and are ignored."""


def reach_frames(refine_seconds: float, step_seconds: float) -> int:
    """Return the number of frames inside of a bound that contribute to its refinement."""
    return max(1, round(_REACH_WIDTHS * refine_seconds / step_seconds))


def run_bounds(
    run: tuple[int, int],
    scores: Rows,
    distances: Rows | None,
    first: int,
    *,
    step_seconds: float,
    decoding: Decoding,
) -> tuple[float, float]:
    """Return start and end in seconds of a run of frames, refined if the decoding enables it.

    Args:
        run: see `refined_bound`.
        scores: see there.
        distances: see there.
        first: see there.
        step_seconds: length of a frame.
        decoding: its settings of the refinement.
    """
    found = [
        refined_bound(side, run, scores, distances, first, step_seconds=step_seconds, decoding=decoding)
        for side in (0, 1)
    ]
    return ordered_bounds(found[0], found[1], run, step_seconds)


def ordered_bounds(
    start: float, end: float, run: tuple[int, int], step_seconds: float
) -> tuple[float, float]:
    """Return the refined bounds of a run, or those on the grid of frames if start is not before end."""
    start = max(0.0, start)
    return (start, end) if start < end else (run[0] * step_seconds, run[1] * step_seconds)


def refined_bound(
    side: int,
    run: tuple[int, int],
    scores: Rows,
    distances: Rows | None,
    first: int,
    *,
    step_seconds: float,
    decoding: Decoding,
) -> float:
    """Return the start (side 0) or the end (side 1) in seconds of a run of frames.

    A frame in the middle m predicts the start m - d0 and the end m + d1. A bound b on the grid moves to the
    mean of the predictions of the frames from one before the run to one after it, weighted by
    score * exp(-|m - b| / refine_seconds), and by `refine_limit_seconds` at most. Only frames within
    `reach_frames` of the bound take part.

    Args:
        side: 0 or 1.
        run: first and stop frame, counted from the start of the video.
        scores: (F,) score of the label in the frames from `first` on.
        distances: (F, 2) in seconds of the same frames; None: no refinement.
        first: number of the first of these frames.
        step_seconds: length of a frame.
        decoding: settings of the refinement.
    """
    bound = run[side] * step_seconds
    width, limit = decoding.refine_seconds, decoding.refine_limit_seconds
    if not width or distances is None:
        return bound
    reach = reach_frames(width, step_seconds)
    near = (run[0] - 1, min(run[0] + reach, run[1] + 1)), (max(run[1] - reach, run[0] - 1), run[1] + 1)
    low, high = max(near[side][0], first), min(near[side][1], first + len(scores))
    middles = (np.arange(low, high) + 0.5) * step_seconds
    rows = slice(low - first, high - first)
    weights = (scores[rows].astype(np.float64) + 1e-6) * np.exp(-abs(middles - bound) / width)
    predicted = middles + (-1, 1)[side] * distances[rows, side].astype(np.float64)
    moved = float((weights * predicted).sum() / weights.sum())
    return min(max(moved, bound - limit), bound + limit)
