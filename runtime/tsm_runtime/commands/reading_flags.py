"""Options of commands that read annotations of other tools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tsm_runtime.commands.grouped_options import panel

if TYPE_CHECKING:
    from tsm_runtime.formats.options import ReadOptions

_read = panel("Files of other tools")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFlags:
    """How files of other tools are read; None: as they are."""

    tier: Annotated[
        list[str] | None,
        _read(help="ELAN: a tier to read, again for more [default: all main tiers]"),
    ] = None
    background: Annotated[
        bool,
        _read(
            "--empty-as-background",
            help="videos that a project lists without any entry are background, and not left out",
        ),
    ] = False
    columns: Annotated[
        str | None,
        _read(
            help="CSV of any shape: video=NAME,start=NAME,end=NAME,label=NAME[,score=NAME]"
            "[,unit=seconds|ms|frames]; duration= or last= in the place of end=",
        ),
    ] = None
    frame_rate: Annotated[
        float | None,
        _read(
            help="frames per second, where times are numbers of frames [default: the file's]",
        ),
    ] = None
    first_frame: Annotated[int, _read(help="number of a video's first frame in names and columns")] = 0
    point_seconds: Annotated[
        float | None,
        _read(
            help="length of a segment for an event at a point in time [default: left out]",
        ),
    ] = None
    attribute: Annotated[
        str | None,
        _read(help="CVAT, VIA 2, EPIC: the attribute or column that holds the label"),
    ] = None
    background_label: Annotated[
        list[str] | None,
        _read(
            help="frame labels: a name of the background, again for more [default: background]",
        ),
    ] = None

    def options(self) -> ReadOptions:
        """Return the options for the readers.

        Raises:
            UsageError: a number is out of range.
        """
        from tsm_runtime.formats.options import ReadOptions
        from tsm_runtime.results import BACKGROUND

        return ReadOptions(
            tiers=tuple(self.tier or ()),
            unannotated="background" if self.background else "leave_out",
            frame_rate=self.frame_rate,
            first_frame=self.first_frame,
            point_seconds=self.point_seconds,
            attribute=self.attribute or "",
            background_labels=tuple(self.background_label or (BACKGROUND,)),
            columns=self.columns or "",
        )
