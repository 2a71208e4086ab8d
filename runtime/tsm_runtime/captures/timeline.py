"""Results on a capture's time line: moved by the begin of their video, and the clips of one view joined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tsm_runtime.fusion.fuse import fuse_scenes, union_gaps
from tsm_runtime.results import Result, SceneScore, Segment, all_complete


def moved_spans(
    spans: Iterable[tuple[float, float]], offset_seconds: float
) -> list[tuple[float, float] | None]:
    """Return [start, end) of a video in seconds of the time line on which it begins at `offset_seconds`.

    What lies before second 0 is cut off; None: all of it does. What is moved are bounds as files hold them,
    with six decimals, so that results in memory and their files become the same.

    >>> moved_spans([(0.0, 1.0), (0.5, 2.0), (3.0, 4.0)], -1.0)
    [None, (0.0, 1.0), (2.0, 3.0)]
    """
    if offset_seconds == 0:
        return list(spans)
    moved = [
        (
            max(round(round(start, 6) + offset_seconds, 6), 0.0),
            max(round(round(end, 6) + offset_seconds, 6), 0.0),
        )
        for start, end in spans
    ]
    return [(start, end) if start < end else None for start, end in moved]


def join_segments(parts: Iterable[tuple[Sequence[Segment], float]]) -> list[Segment]:
    """Put segments of one or several videos on the time line, each with its video's offset.

    Returns:
        Segments in order of (start, end, label).
    """
    joined = []
    for segments, offset in parts:
        spans = moved_spans([(s.start_seconds, s.end_seconds) for s in segments], offset)
        joined += [
            replace(segment, start_seconds=span[0], end_seconds=span[1])
            for segment, span in zip(segments, spans, strict=True)
            if span is not None
        ]
    return sorted(joined, key=lambda s: (s.start_seconds, s.end_seconds, s.label, -s.score))


def join_scenes(parts: Sequence[tuple[Sequence[SceneScore], int]]) -> tuple[SceneScore, ...]:
    """Return the mean over all intervals of videos: of each its scenes and its number of intervals."""
    if len(parts) == 1:
        return tuple(parts[0][0])
    return fuse_scenes([scenes for scenes, _ in parts], [max(count, 1) for _, count in parts])


def join_results(capture_id: str, parts: Sequence[tuple[Result, float]]) -> Result:
    """Join the results of a member for the videos of its view.

    Args:
        capture_id: name of the result.
        parts: for each video the result and the second of the time line where the video begins.

    Returns:
        Segments and gaps on the time line; the duration is the end of the last video on it. A single video
        that begins at second 0 keeps its result.
    """
    results = [result for result, _ in parts]
    if len(parts) == 1 and parts[0][1] == 0:
        return replace(results[0], video_id=capture_id)
    return replace(
        results[0],
        video_id=capture_id,
        segments=tuple(join_segments([(result.segments, offset) for result, offset in parts])),
        scenes=join_scenes([(result.scenes, result.num_intervals) for result in results]),
        num_intervals=sum(result.num_intervals for result in results),
        duration_seconds=max(
            (end_on_time_line(r.duration_seconds, offset) for r, offset in parts if r.duration_seconds),
            default=0.0,
        ),
        complete=all_complete(results),
        gaps=union_gaps(filter(None, moved_spans(r.gaps, offset)) for r, offset in parts),
        corrupt_frames=sum(result.corrupt_frames for result in results),
        warnings=(),
        discontinuities=tuple(sorted(at + offset for r, offset in parts for at in r.discontinuities)),
        scores=None,  # their grid is that of one video
        members=(),
    )


def end_on_time_line(duration_seconds: float, offset_seconds: float) -> float:
    """Return where a video ends that begins at `offset_seconds`."""
    if not offset_seconds:
        return duration_seconds
    return max(round(round(duration_seconds, 6) + offset_seconds, 6), 0.0)
