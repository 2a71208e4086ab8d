"""The lines of a live run: one JSON object each, told apart by "event".

A run begins with a `start` line and ends with an `end` line; between them come segments when they close, and
what happened to the stream. A file that several runs appended to holds them one after another. Stream time is
in seconds after the first frame of the run, `wall` when the line was written (ISO 8601, UTC).

Stream time never goes back. Within a connection it follows the frames' own times. After a break (the stream
was lost and is back, or its clock jumped) it goes on by this machine's clock where frames come when they are
taken (network, camera), else without a pause; segments end at a break.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeAlias

import msgspec

from tsm_runtime.errors import UsageError

__all__ = [
    "FORMAT",
    "Discontinuity",
    "Drop",
    "End",
    "Event",
    "LiveGap",
    "LiveSegment",
    "OpenSegment",
    "Resumption",
    "SourceModel",
    "Start",
    "decode_event",
    "encode_event",
    "utc",
]

FORMAT = "tsm-tal live 1"


class _Line(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="event",
):
    wall: datetime
    """When the line was written."""


class SourceModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model of the run. Settings that are off are left out."""

    interval_seconds: float
    """t: bounds are multiples of it, or of the stride."""
    stride_seconds: float | None = None
    window_seconds: float | None = None
    smoothing_seconds: float | None = None
    min_duration_seconds: float | None = None
    backend: str
    bundle_sha256: str = ""
    """Of the bundle's manifest; empty for a model that is of no bundle."""
    name: str = ""
    weight: float = 1.0


class Start(_Line, frozen=True, kw_only=True, tag="start"):
    """The first line."""

    format: str
    video: str
    """Name of the stream, under which its segments are read back."""
    source: str
    """Without user, password and query."""
    models: tuple[SourceModel, ...]
    drop: str
    """What happens to intervals when the machine is too slow: `oldest` or `none`."""
    version: str
    """Of tsm-tal."""


class _Timed(_Line, frozen=True, kw_only=True):
    time: float
    """Stream time that was reached."""


class _SegmentLine(_Timed, frozen=True, kw_only=True):
    label: str
    start: float
    end: float
    score: float
    scene: str | None = None
    """The most probable scene over the segment's intervals; None: the model has no scene head."""
    scene_score: float | None = None
    start_wall: datetime | None = None
    """When it was, by this machine's clock; None where frames do not come when they are taken."""
    end_wall: datetime | None = None
    delay_seconds: float
    """From the arrival of the frame that made it known to this line."""


class LiveSegment(_SegmentLine, frozen=True, kw_only=True, tag="segment"):
    """A segment that is over."""


class OpenSegment(_SegmentLine, frozen=True, kw_only=True, tag="open"):
    """A segment as it is by now: it may grow, and in an ensemble change or vanish."""


class LiveGap(_Timed, frozen=True, kw_only=True, tag="gap"):
    """A stretch longer than an interval without a frame: nothing was looked for there."""

    start: float
    end: float


class Drop(_Timed, frozen=True, kw_only=True, tag="drop"):
    """Whole intervals that nobody scored, because the machine was too slow; segments end there.

    Of intervals that overlap, others may have scored a part of it.
    """

    start: float
    end: float
    intervals: int
    model: str = ""
    """Which one, where several run; those with the same clips drop the same."""


class Discontinuity(_Timed, frozen=True, kw_only=True, tag="discontinuity"):
    """The stream broke off at `time`, or its clock jumped."""

    reason: str


class Resumption(_Timed, frozen=True, kw_only=True, tag="resumed"):
    """After a discontinuity the first frame came; `time` is its stream time."""

    attempts: int
    """Connections that were tried; 0: the old one went on."""


class End(_Timed, frozen=True, kw_only=True, tag="end"):
    """The last line."""

    reason: str
    complete: bool
    """False where the stream did not come to its own end and nobody stopped it."""
    frames: int
    """Decoded."""
    intervals: int
    """Scored; of several models the most of one."""
    segments: int
    dropped: int
    """Intervals."""
    corrupt: int
    """Packets and frames."""
    gaps: int
    reconnects: int


Event: TypeAlias = Start | LiveSegment | OpenSegment | LiveGap | Drop | Discontinuity | Resumption | End


def encode_event(event: Event) -> bytes:
    """Return the line, with its line end."""
    return msgspec.json.encode(event) + b"\n"


def decode_event(line: bytes | str) -> Event:
    """Read a line.

    Raises:
        UsageError: it is none, or of a newer format.
    """
    try:
        event: Event = msgspec.json.decode(line, type=Event)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"not a line of a live run: {error}") from error
    if isinstance(event, Start) and event.format != FORMAT:
        raise UsageError(f"a live run in the format {event.format!r}; this program reads {FORMAT!r}")
    return event


def utc(posix_seconds: float) -> datetime | None:
    """Return a time as UTC to the millisecond; None for nan."""
    if posix_seconds != posix_seconds:
        return None
    return datetime.fromtimestamp(round(posix_seconds, 3), UTC)
