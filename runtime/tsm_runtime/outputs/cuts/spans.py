"""Which stretches of a video become files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tsm_runtime.results import Segment, by_time


@dataclass(frozen=True, slots=True, kw_only=True)
class CutRequest:
    """How the segments of a run are cut.

    Args:
        folder: gets the files.
        exact: encode again, from the first to the last frame of a segment; else copy the stream from the key
            frame at or before it.
        padding_seconds: that are added before and after a segment.
        reel: one file a video with all its segments, else a file a segment.
    """

    folder: Path
    exact: bool = False
    padding_seconds: float = 0.0
    reel: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """[start, end) in seconds of the video, and the segments in it."""

    start: float
    end: float
    segments: tuple[Segment, ...]


def spans_of(segments: Sequence[Segment], request: CutRequest, duration: float) -> list[Span]:
    """Return the stretches to cut in order of time: one a segment, or for a reel their union.

    Args:
        segments: of one video, in any order.
        request: padding, and whether a reel is made.
        duration: length of the video in seconds; 0: unknown.
    """
    end = duration or float("inf")
    pad = request.padding_seconds
    spans = [
        Span(max(s.start_seconds - pad, 0.0), max(min(s.end_seconds + pad, end), s.end_seconds), (s,))
        for s in by_time(segments)
    ]
    return _union(spans) if request.reel else spans


def _union(spans: Sequence[Span]) -> list[Span]:
    joined: list[Span] = []
    for span in spans:
        if joined and span.start <= joined[-1].end:
            last = joined[-1]
            joined[-1] = Span(last.start, max(last.end, span.end), (*last.segments, *span.segments))
        else:
            joined.append(span)
    return joined
