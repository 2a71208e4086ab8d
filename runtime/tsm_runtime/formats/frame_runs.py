"""Labels of single frames to segments: each run of frames with a label is one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median_low

from tsm_runtime.formats.text import segment_at
from tsm_runtime.results import Segment


def runs_of_frames(
    where: str, frames: Mapping[int, Iterable[str]], frame_rate: float, *, first_frame: int = 0
) -> list[Segment]:
    """Return a segment for each run of listed frames that share a label, in order of time.

    Frame n covers [n, n + step) / rate seconds, where step is the usual distance of listed frames: sampled
    frames stand for those that follow. A label that an intermediate frame lacks ends there.

    Args:
        where: place for messages.
        frames: labels by number of the frame; a frame without labels ends all runs.
        frame_rate: frames per second.
        first_frame: number of the video's first frame.
    """
    numbers = sorted(frames)
    step = median_low([b - a for a, b in pairwise(numbers)] or [1])
    begun: dict[str, int] = {}
    spans: list[tuple[int, int, str]] = []
    for number in numbers:
        labels = set(frames[number])
        for label in [label for label in begun if label not in labels]:
            spans.append((begun.pop(label), number, label))
        for label in labels:
            begun.setdefault(label, number)
    spans += [(start, numbers[-1] + step, label) for label, start in begun.items()]
    return [
        segment_at(where, label, (start - first_frame) / frame_rate, (stop - first_frame) / frame_rate)
        for start, stop, label in sorted(spans)
    ]


def runs_of_rows(rows: Sequence[str]) -> list[tuple[int, int, str]]:
    """Return [start, stop) and label of each run of equal neighbours.

    >>> runs_of_rows(["a", "a", "b"])
    [(0, 2, 'a'), (2, 3, 'b')]
    """
    found: list[tuple[int, int, str]] = []
    for number, label in enumerate(rows):
        if found and found[-1][2] == label:
            found[-1] = (found[-1][0], number + 1, label)
        else:
            found.append((number, number + 1, label))
    return found
