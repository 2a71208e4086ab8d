"""Time per class: seconds, bouts and their mean length, in each video and in all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tsm_runtime.formats.csv_table import csv_cell
from tsm_runtime.formats.text import rounded
from tsm_runtime.results import Result, Segment

NO_ACTION = "(no action)"
ALL_VIDEOS = "(all videos)"
COLUMNS = ("video", "label", "seconds", "percent", "bouts", "mean_bout", "duration")

Span = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassTime:
    """Time of one class in one video, or in all videos.

    Args:
        seconds: length of the union of its segments.
        bouts: number of stretches of that union; segments that overlap or touch are one bout.
        duration_seconds: length of the video or videos.
    """

    video_id: str
    label: str
    seconds: float
    bouts: int
    duration_seconds: float

    @property
    def percent(self) -> float | None:
        """Share of the video's time, 0 to 100; None for a video of unknown length."""
        return 100 * self.seconds / self.duration_seconds if self.duration_seconds else None

    @property
    def mean_bout_seconds(self) -> float | None:
        """Mean length of a bout; None without one."""
        return self.seconds / self.bouts if self.bouts else None


def class_times(results: Sequence[Result], labels: Sequence[str]) -> list[ClassTime]:
    """Return the times of all classes and of no action, video by video, then of several videos together.

    Args:
        results: the videos.
        labels: classes of the models; those that were not found have 0 seconds.
    """
    found = (segment.label for result in results for segment in result.segments)
    names = list(dict.fromkeys((*labels, *found)))
    rows = [row for result in results for row in _of_video(result, names)]
    if len(results) < 2:
        return rows
    return rows + [_together(label, rows) for label in (*names, NO_ACTION)]


def _of_video(result: Result, labels: Sequence[str]) -> list[ClassTime]:
    spans = {label: _union([s for s in result.segments if s.label == label]) for label in labels}
    length = max([result.duration_seconds, *(end for bouts in spans.values() for _, end in bouts)])
    spans[NO_ACTION] = _between(_union(result.segments), length)
    return [
        ClassTime(
            video_id=result.video_id,
            label=label,
            seconds=sum(end - start for start, end in bouts),
            bouts=len(bouts),
            duration_seconds=length,
        )
        for label, bouts in spans.items()
    ]


def _together(label: str, rows: Sequence[ClassTime]) -> ClassTime:
    own = [row for row in rows if row.label == label]
    return ClassTime(
        video_id=ALL_VIDEOS,
        label=label,
        seconds=sum(row.seconds for row in own),
        bouts=sum(row.bouts for row in own),
        duration_seconds=sum(row.duration_seconds for row in own),
    )


def _union(segments: Sequence[Segment]) -> list[Span]:
    """Return the stretches of time that segments cover.

    >>> _union([Segment(label="a", start_seconds=s, end_seconds=e) for s, e in ((0, 2), (2, 3), (5, 6))])
    [(0, 3), (5, 6)]
    """
    covered: list[Span] = []
    for start, end in sorted((s.start_seconds, s.end_seconds) for s in segments):
        if covered and start <= covered[-1][1]:
            covered[-1] = (covered[-1][0], max(covered[-1][1], end))
        else:
            covered.append((start, end))
    return covered


def _between(covered: Sequence[Span], length: float) -> list[Span]:
    """Return the stretches of [0, length) that are not covered."""
    borders = [0.0, *(bound for span in covered for bound in span), length]
    return [(start, end) for start, end in zip(borders[::2], borders[1::2], strict=True) if end > start]


def times_to_csv(rows: Sequence[ClassTime]) -> str:
    """Return a table of the columns `COLUMNS`; times in seconds, empty where there is no number."""
    lines = [",".join(COLUMNS)]
    for row in rows:
        before = (_seconds(row.seconds), _seconds(row.percent), str(row.bouts))
        after = (_seconds(row.mean_bout_seconds), _seconds(row.duration_seconds))
        lines.append(",".join((csv_cell(row.video_id), csv_cell(row.label), *before, *after)))
    return "\n".join(lines) + "\n"


def _seconds(value: float | None) -> str:
    return "" if value is None else repr(rounded(float(value)))
