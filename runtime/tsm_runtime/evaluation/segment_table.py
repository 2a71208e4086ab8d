"""Segments as columns: their temporal IoU, and the orders in which evaluators visit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.modes import CutGrid, MatchRules
from tsm_runtime.results import Segment

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SegmentTable:
    """Segments as columns, each (N,): numbers of label and video, seconds, score."""

    label: Ints
    video: Ints
    start: Floats
    end: Floats
    score: Floats

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: Ints | slice) -> SegmentTable:
        """Return the selected rows."""
        return SegmentTable(
            self.label[rows], self.video[rows], self.start[rows], self.end[rows], self.score[rows]
        )

    def rows_of(self, label: int) -> slice:
        """Return the rows of one label, which are adjacent."""
        start, stop = np.searchsorted(self.label, [label, label + 1])
        return slice(int(start), int(stop))


def pairwise_tiou(first_start: Floats, first_end: Floats, second_start: Floats, second_end: Floats) -> Floats:
    """Return the temporal intersection over union, elementwise; arrays broadcast; 0 if the union is empty."""
    overlap = np.minimum(first_end, second_end) - np.maximum(first_start, second_start)
    intersection = np.maximum(overlap, 0.0)
    union = (first_end - first_start) + (second_end - second_start) - intersection
    none = union <= 0  # both have length 0, or one has its bounds in the wrong order
    return np.asarray(np.where(none, 0.0, intersection / np.where(none, 1.0, union)), dtype=np.float64)


def to_table(
    segments: Mapping[str, Sequence[Segment]], labels: Mapping[str, int], videos: Mapping[str, int]
) -> SegmentTable:
    """Return the segments whose label and video are known as columns, in the order of listing.

    Args:
        segments: per video id.
        labels: number of each label.
        videos: number of each video id.
    """
    known = [
        (labels[s.label], videos[video_id], s.start_seconds, s.end_seconds, s.score)
        for video_id, listed in segments.items()
        if video_id in videos
        for s in listed
        if s.label in labels
    ]
    columns = np.array(known, dtype=np.float64).reshape(-1, 5).T
    return SegmentTable(
        columns[0].astype(np.int64), columns[1].astype(np.int64), columns[2], columns[3], columns[4]
    )


def listing_order(table: SegmentTable, rules: MatchRules) -> tuple[npt.NDArray[np.generic], ...]:
    """Return keys for `numpy.lexsort`, least important first, that order equal scores."""
    listed = np.arange(len(table))
    if rules.ties == "time":
        return table.end, table.start, table.video
    return (listed if rules.ties == "first_listed" else -listed,)


def truth_order(table: SegmentTable, rules: MatchRules) -> SegmentTable:
    """Sort by label and video; within these, the instance preferred on equal tIoU comes first."""
    keys = (table.end, table.start) if rules.ties == "time" else (-np.arange(len(table)),)
    return table.take(np.lexsort((*keys, table.video, table.label)))


def visiting_order(table: SegmentTable, rules: MatchRules) -> SegmentTable:
    """Sort by label and falling score; equal scores by `listing_order`."""
    return table.take(visiting_rows(table, rules))


def visiting_rows(table: SegmentTable, rules: MatchRules) -> Ints:
    """Return the rows in the order of `visiting_order`."""
    return np.lexsort((*listing_order(table, rules), -table.score, table.label))


def cut_truth(table: SegmentTable, cut: CutGrid, videos: Sequence[str]) -> SegmentTable:
    """Return instances with their bounds inside the cut.

    Raises:
        UsageError: nothing of an instance is inside.
    """
    start = np.clip(np.round(table.start, cut.decimals), 0.0, cut.seconds)
    end = np.clip(np.round(table.end, cut.decimals), 0.0, cut.seconds)
    empty = np.flatnonzero(end <= start)
    if empty.size:
        row = empty[0]
        bounds = f"[{table.start[row]:g}, {table.end[row]:g}]"
        raise UsageError(
            f"video {videos[table.video[row]]!r}: nothing of instance {bounds} is in [0, {cut.seconds:g}] s\n"
            f"this mode is for videos cut to {cut.seconds:g} s; cut them, or use another mode"
        )
    return SegmentTable(table.label, table.video, start, end, table.score)


def cut_predictions(table: SegmentTable, cut: CutGrid) -> SegmentTable:
    """Return predictions with their bounds inside the cut; bounds near its ends are put there."""
    start = np.clip(np.round(table.start, cut.decimals), 0.0, cut.seconds)
    end = np.clip(np.round(table.end, cut.decimals), 0.0, cut.seconds)
    start = np.where(start < cut.snap_seconds, 0.0, start)
    end = np.where(end > cut.seconds - cut.snap_seconds, cut.seconds, end)
    return SegmentTable(table.label, table.video, start, end, table.score)
