"""Options for reading a file of annotations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tsm_runtime.errors import UsageError
from tsm_runtime.results import BACKGROUND


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Options for reading a file of annotations.

    Args:
        tiers: ELAN: only annotations of these tiers; (): of all independent tiers.
        unannotated: meaning of a video that a project lists without any entry: it is left out as not yet
            annotated, or it is background from first to last frame.
        frame_rate: frames per second of the videos, for times that are numbers of frames; None: stated by
            the file, or an error.
        first_frame: number of a video's first frame in names and columns.
        point_seconds: length of a segment that stands for an event at a point in time; None: points are
            left out.
        attribute: name of the attribute, or column, that holds the label; "": the format's own.
        background_labels: labels of frames without an action.
        columns: columns of a CSV of any shape, see `columns.ColumnNames.parse`; "": one of the known tables.

    Raises:
        UsageError: a number is out of range.
    """

    tiers: tuple[str, ...] = ()
    unannotated: Literal["leave_out", "background"] = "leave_out"
    frame_rate: float | None = None
    first_frame: int = 0
    point_seconds: float | None = None
    attribute: str = ""
    background_labels: tuple[str, ...] = (BACKGROUND,)
    columns: str = ""

    def __post_init__(self) -> None:
        for name, value in (("frame rate", self.frame_rate), ("length of a point", self.point_seconds)):
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} is {value:g}; expected a number above 0")
