"""The segments that a stream gives for scores of all frames."""

from __future__ import annotations

from collections.abc import Sequence

from tsm_runtime.results import FrameScores, Segment
from tsm_runtime.segments.decoding.lookahead import FrameDecoder
from tsm_runtime.segments.decoding.settings import Decoding


def decode_with_lookahead(
    frames: FrameScores,
    labels: Sequence[str],
    decoding: Decoding,
    lookahead_seconds: float,
    thresholds: Sequence[float] = (),
) -> list[Segment]:
    """Return the segments of `FrameDecoder`, in order of time."""
    decoder = FrameDecoder(labels, frames.step_seconds, decoding, lookahead_seconds, thresholds)
    found = []
    for piece in frames.pieces:
        found += [*decoder.push(frames.rows(piece)), *decoder.close()]
    order = {label: number for number, label in enumerate(labels)}
    return sorted(
        (each.segment for each in found), key=lambda s: (s.start_seconds, s.end_seconds, order[s.label])
    )
