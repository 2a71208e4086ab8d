"""A file of another tool, as its reader gets it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tsm_runtime.errors import UsageError
from tsm_runtime.files import Faults
from tsm_runtime.formats.options import ReadOptions
from tsm_runtime.formats.text import segment_at
from tsm_runtime.results import Segment
from tsm_runtime.wording import counted, first_of

_log = logging.getLogger("tsm_runtime")

_SHOWN = 3

Segments = dict[str, list[Segment]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFile:
    """A file of another tool.

    Args:
        path: path for messages; the stem is the video's id in formats that do not name it.
        text: the whole text.
        content: the value of a JSON file.
        options: how to read it.
        faults: collects the faults of entries, which are then left out; None: the first one is raised.
        unannotated: collects videos that the file lists without any entry.
        as_drafts: drafts of a model are read in the place of missing annotations.
    """

    path: Path
    text: str
    content: object = None
    options: ReadOptions = field(default_factory=ReadOptions)
    faults: Faults = None
    unannotated: list[str] = field(default_factory=list)
    as_drafts: bool = False

    def frame_rate(self, stated: float | None = None) -> float:
        """Return frames per second: the requested rate, else the stated one.

        Raises:
            UsageError: there is neither.
        """
        rate = self.options.frame_rate or stated
        if rate is None or not rate > 0:
            raise UsageError(
                f"{self.path}: times are numbers of frames, and the file states no frame rate;"
                " give --frame-rate (of tsm-train: data.frame_rate)"
            )
        return rate

    def point(self, where: str, label: str, at: float, score: float = 1.0) -> list[Segment]:
        """Return the segment of an event at a point in time, or nothing if points are left out."""
        length = self.options.point_seconds
        return [] if length is None else [segment_at(where, label, at, at + length, score)]

    def is_background(self, label: str) -> bool:
        """Return whether a label stands for no action."""
        return not label.strip() or label in self.options.background_labels

    def note_points(self, count: int) -> None:
        """Report points in time that were left out."""
        if count and self.options.point_seconds is None:
            _log.warning(
                f"{self.path}: {counted(count, 'event')} at a point in time left out;"
                " --point-seconds N makes segments of N seconds of them"
            )

    def note(self, noun: str, what: str, names: Sequence[str]) -> None:
        """Report entries that were left out, by name; `noun` is one of them, `what` happened to them."""
        if names:
            shown = first_of(list(map(repr, names)), _SHOWN)
            _log.warning(f"{self.path}: {counted(len(names), noun)} {what}: {shown}")


def video_id_of(name: str) -> str:
    r"""Return the id of a video by its path on any system, or by its address: the stem of the file.

    >>> video_id_of(r"C:\videos\day 1.mp4")
    'day 1'
    """
    file = PurePosixPath(name.replace("\\", "/").rsplit("/", 1)[-1].split("?", 1)[0])
    return file.stem or name
