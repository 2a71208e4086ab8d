"""Segments of a complete video from the scores of its frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from tsm_runtime.results import BACKGROUND, FrameScores, Segment
from tsm_runtime.segments.decoding.proposals import frame_proposals, soft_suppressed
from tsm_runtime.segments.decoding.refine import run_bounds
from tsm_runtime.segments.decoding.runs import FrameLabeller, runs_of
from tsm_runtime.segments.decoding.settings import Decoding
from tsm_runtime.segments.smoothing import moving_average, smoothing_weights
from tsm_runtime.segments.temperature import segment_at_temperature


def decode_frames(
    frames: FrameScores, labels: Sequence[str], decoding: Decoding, thresholds: Sequence[float] = ()
) -> list[Segment]:
    """Return the segments of a video, in order of time; none crosses a gap.

    Args:
        frames: scores of all frames.
        labels: A action labels; the background gives no segment.
        decoding: method and settings.
        thresholds: one per label of a sigmoid head; empty for a softmax head.

    Raises:
        ValueError: the numbers of labels, scores and thresholds differ, or the decoding needs distances or
            actionness that the frames do not have.
    """
    check_decoding(frames, labels, decoding, thresholds)
    labeller = FrameLabeller(tuple(labels), frames.step_seconds, decoding, tuple(thresholds))
    found: list[Segment] = []
    for piece in frames.pieces:
        part = smoothed_frames(frames, piece, decoding.smoothing_seconds)
        if decoding.method == "proposals":
            found += _proposed(part, labels, decoding)
        else:
            found += _decoded(part, labeller)
    found = [segment_at_temperature(segment, decoding.temperature) for segment in found]
    order = {label: number for number, label in enumerate(labels)}
    return sorted(found, key=lambda s: (s.start_seconds, s.end_seconds, order[s.label]))


def check_decoding(
    frames: FrameScores, labels: Sequence[str], decoding: Decoding, thresholds: Sequence[float] = ()
) -> None:
    """Check that the frames have the outputs that the decoding needs.

    Raises:
        ValueError: see `decode_frames`.
    """
    if frames.action.shape[1] != len(labels):
        raise ValueError(f"{frames.action.shape[1]} action scores of frames for {len(labels)} labels")
    if len(thresholds) not in (0, len(labels)):
        raise ValueError(f"{len(thresholds)} thresholds for {len(labels)} labels")
    if frames.distances is None and (decoding.method == "proposals" or decoding.refine_seconds):
        what = "method proposals" if decoding.method == "proposals" else "refine_seconds"
        raise ValueError(f"decoding: {what} needs the distances of a temporal head, which this model has not")
    if frames.actionness is None and decoding.actionness_weight:
        raise ValueError(
            "decoding: actionness_weight needs the actionness of a temporal head, which this model has not"
        )


def smoothed_frames(frames: FrameScores, rows: slice, smoothing_seconds: float) -> FrameScores:
    """Return the rows of one piece, with the moving average of their action scores."""
    part = frames.rows(rows)
    weights = smoothing_weights(min(smoothing_seconds / frames.step_seconds, 2 * len(part) + 1))
    return part if len(weights) == 1 else replace(part, action=moving_average(part.action, weights))


def _decoded(part: FrameScores, labeller: FrameLabeller) -> Iterator[Segment]:
    decoding, first = labeller.decoding, int(part.indices[0])
    for start, stop, label in runs_of(labeller(part.action, part.actionness)):
        scores = part.action[:, label]
        best = scores[start:stop].max() if decoding.score == "max" else scores[start:stop].mean()
        run = first + start, first + stop
        bounds = run_bounds(
            run, scores, part.distances, first, step_seconds=part.step_seconds, decoding=decoding
        )
        yield Segment(
            label=labeller.labels[label], start_seconds=bounds[0], end_seconds=bounds[1], score=float(best)
        )


def _proposed(part: FrameScores, labels: Sequence[str], decoding: Decoding) -> Iterator[Segment]:
    assert part.distances is not None
    step = part.step_seconds
    middles = (part.indices.astype(np.float64) + 0.5) * step
    bounds = float(part.indices[0] * step), float((part.indices[-1] + 1) * step)
    least = decoding.min_proposal
    names = [label for label in labels if label != BACKGROUND]
    columns = [part.action[:, column] for column, label in enumerate(labels) if label != BACKGROUND]
    proposals = [frame_proposals(column, part.distances, middles, least, bounds) for column in columns]
    for number, start, end, score in soft_suppressed(proposals, decoding.suppression_sigma, least):
        yield Segment(label=names[number], start_seconds=start, end_seconds=end, score=score)
