"""What the formats write and share: the result of a video, and helpers for numbers, text and lanes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tsm_runtime.errors import UsageError
from tsm_runtime.segments.merging import IntervalScores, Segment

__all__ = [
    "Result",
    "SceneScore",
    "check_ids",
    "hide",
    "lanes",
    "milliseconds",
    "one_result",
    "ranked_scenes",
    "reveal",
    "rounded",
    "segment_at",
]

_HIDDEN = re.compile(r"\\u([0-9a-f]{4})")


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneScore:
    """Probability of one scene label for a whole video."""

    label: str
    score: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.score):
            raise ValueError(f"scene {self.label!r}: score {self.score} is not finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was found in one video.

    Args:
        segments: actions in order of time.
        scenes: scene scores in any order; empty for a model without scene head.
        interval_seconds: t, the length of the classified intervals.
        num_intervals: intervals that were classified.
        duration_seconds: L, from the frames.
        complete: False when the video broke off and only its first part was analysed.
        gaps: [start, end) in seconds where the video has no frame for longer than t.
        corrupt_frames: frames that the decoder marked as damaged.
        warnings: one line each, for a person.
        stride_seconds: from the begin of one interval to that of the next, where they overlap; else 0.
        scores: what the segments were made from: smoothed if smoothing was asked for, and of intervals, or
            where these overlap of cells `cell_seconds` long, each the mean of the intervals that cover it.
            None where segments were read back from a file. Not written to files, and not part of what makes
            two results equal.
        members: of an ensemble, what each member found, before fusion; None for one without a result. Kept as
            `scores` are; empty for a single model.
    """

    video_id: str
    segments: tuple[Segment, ...]
    scenes: tuple[SceneScore, ...]
    interval_seconds: float
    num_intervals: int
    duration_seconds: float
    complete: bool
    gaps: tuple[tuple[float, float], ...]
    corrupt_frames: int
    warnings: tuple[str, ...]
    scores: IntervalScores | None = field(default=None, compare=False, repr=False)
    members: tuple[Result | None, ...] = field(default=(), compare=False, repr=False)
    stride_seconds: float = 0.0

    @property
    def cell_seconds(self) -> float:
        """How long a time each row of `scores` stands for."""
        return self.stride_seconds or self.interval_seconds


def ranked_scenes(scenes: Iterable[SceneScore]) -> list[SceneScore]:
    """Return scenes by falling score, equal ones by name."""
    return sorted(scenes, key=lambda scene: (-scene.score, scene.label))


def check_ids(results: Sequence[Result]) -> None:
    """Check that no two results are of the same video.

    Raises:
        ValueError: names the id.
    """
    seen: set[str] = set()
    for result in results:
        if result.video_id in seen:
            raise ValueError(f"two results have the video id {result.video_id!r}")
        seen.add(result.video_id)


def one_result(results: Sequence[Result], format_name: str) -> Result:
    """Return the only result, for a format whose file belongs to one video.

    Raises:
        UsageError: there is not exactly one.
    """
    if len(results) != 1:
        raise UsageError(
            f"a file of format {format_name} holds one video, but there are {len(results)};"
            " choose a folder: --output FOLDER/"
        )
    return results[0]


def rounded(value: float) -> float:
    """Return the number with six decimals, and 0.0 for -0.0."""
    return round(float(value), 6) + 0.0


def milliseconds(segment: Segment) -> tuple[int, int]:
    """Bounds in whole milliseconds; a segment shorter than one keeps the length of one."""
    start = round(segment.start_seconds * 1000)
    return start, max(round(segment.end_seconds * 1000), start + 1)


def segment_at(where: str, label: str, start: float, end: float, score: float = 1.0) -> Segment:
    """Return a segment that was read.

    Raises:
        UsageError: it is none; `where` begins the message.
    """
    if not label.strip():
        raise UsageError(f"{where}: empty label")
    try:
        return Segment(label=label, start_seconds=start, end_seconds=end, score=score)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error


def lanes(spans: Sequence[tuple[float, float]]) -> list[int]:
    """Spread spans over lanes so that those in one lane do not overlap, with as few lanes as there can be.

    Args:
        spans: (start, end) in any order.

    Returns:
        The lane of each span, from 0.

    >>> lanes([(0, 4), (1, 2), (2, 3), (4, 5)])
    [0, 1, 1, 0]
    """
    ends: list[float] = []
    chosen = [0] * len(spans)
    for i in sorted(range(len(spans)), key=lambda i: spans[i]):
        start, end = spans[i]
        lane = next((n for n, taken_until in enumerate(ends) if taken_until <= start), len(ends))
        ends[lane : lane + 1] = [end]
        chosen[i] = lane
    return chosen


def hide(text: str, forbidden: re.Pattern[str]) -> str:
    r"""Write characters that a format cannot hold as \uXXXX, so that `reveal` gives the same text again.

    Args:
        text: any.
        forbidden: matches one character below U+10000 at a time. Where the text itself says \uXXXX, its
            backslash is written so too; other backslashes stay.

    >>> print(hide("a\tb \\ c", re.compile("\t")))
    a\u0009b \ c
    """

    def escape(match: re.Match[str]) -> str:
        return f"\\u{ord(match[0]):04x}"

    return forbidden.sub(escape, re.sub(r"\\(?=u[0-9a-f]{4})", escape, text))


def reveal(text: str) -> str:
    """Undo `hide`."""
    return _HIDDEN.sub(lambda match: chr(int(match[1], 16)), text)
