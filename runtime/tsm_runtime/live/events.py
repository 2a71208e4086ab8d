"""The lines of a live run: one JSON object each, whose kind is the value of "event".

A run begins with a `start` line and ends with an `end` line; between them are lines of closed segments and
of events of the stream. A file that several runs appended to holds them one after another. Stream time is in
seconds after the first frame of the run, `wall` is the time at which the line was written (ISO 8601, UTC).

Stream time never decreases. Within a connection it follows the times of the frames. After a break (a
reconnection, or a jump of the clock) it continues by the clock of this machine for sources in real time
(network, camera), and without a pause for others; segments end at a break.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeAlias

import msgspec

from tsm_runtime.errors import UsageError

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
    stream: str = ""
    """Name of the stream, where the lines of several streams go to one place."""


class SourceModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model of the run. Settings that are off are omitted."""

    interval_seconds: float
    """t: bounds are multiples of it, or of the stride."""
    stride_seconds: float | None = None
    window_seconds: float | None = None
    smoothing_seconds: float | None = None
    min_duration_seconds: float | None = None
    decoding: str | None = None
    """How the scores of frames become segments; None: segments are made of the scores of clips."""
    lookahead_seconds: float | None = None
    """Of the decoding: frames so much later may change the label of a frame."""
    delay_seconds: float | None = None
    """Of the decoding: a segment is known at most so long after its end, plus the time of computing."""
    backend: str
    bundle_sha256: str = ""
    """Of the bundle's manifest; empty for a model without a bundle."""
    name: str = ""
    weight: float = 1.0


class Start(_Line, frozen=True, kw_only=True, tag="start"):
    """The first line."""

    format: str
    video: str
    """Name of the stream, used when its segments are read from the file."""
    source: str
    """Address without user, password and query."""
    models: tuple[SourceModel, ...]
    drop: str
    """Which intervals are dropped when the machine is too slow: `oldest` or `none`."""
    version: str
    """Version of tsm-tal."""


class _Timed(_Line, frozen=True, kw_only=True):
    time: float
    """Stream time reached."""


class _SegmentLine(_Timed, frozen=True, kw_only=True):
    label: str
    start: float
    end: float
    score: float
    scene: str | None = None
    """The most probable scene over the segment's intervals; None: the model has no scene head."""
    scene_score: float | None = None
    start_wall: datetime | None = None
    """By the clock of this machine; None for sources that are not in real time."""
    end_wall: datetime | None = None
    delay_seconds: float
    """From the arrival of the frame that completed the segment to this line."""


class LiveSegment(_SegmentLine, frozen=True, kw_only=True, tag="segment"):
    """A segment that is over."""


class OpenSegment(_SegmentLine, frozen=True, kw_only=True, tag="open"):
    """A segment up to now: it may grow, and in an ensemble change or vanish."""


class LiveGap(_Timed, frozen=True, kw_only=True, tag="gap"):
    """A stretch longer than an interval without a frame; nothing is detected there."""

    start: float
    end: float


class Drop(_Timed, frozen=True, kw_only=True, tag="drop"):
    """Whole intervals that were not scored because the machine was too slow; segments end there.

    With overlapping intervals other intervals may cover a part of it.
    """

    start: float
    end: float
    intervals: int
    model: str = ""
    """Which models, if several run; models with the same clips drop the same intervals."""


class Discontinuity(_Timed, frozen=True, kw_only=True, tag="discontinuity"):
    """The stream was lost at `time`, or its clock jumped."""

    reason: str


class Resumption(_Timed, frozen=True, kw_only=True, tag="resumed"):
    """The first frame after a discontinuity; `time` is its stream time."""

    attempts: int
    """Attempts to connect; 0: the old connection continued."""


class End(_Timed, frozen=True, kw_only=True, tag="end"):
    """The last line."""

    reason: str
    complete: bool
    """False if the stream neither reached its own end nor was stopped."""
    frames: int
    """Decoded frames."""
    intervals: int
    """Scored intervals; of several models the highest number."""
    segments: int
    dropped: int
    """Dropped intervals."""
    corrupt: int
    """Damaged packets and frames."""
    gaps: int
    reconnects: int


Event: TypeAlias = Start | LiveSegment | OpenSegment | LiveGap | Drop | Discontinuity | Resumption | End


def encode_event(event: Event) -> bytes:
    """Return the line as JSON, with its line end."""
    return msgspec.json.encode(event) + b"\n"


def decode_event(line: bytes | str) -> Event:
    """Read a line.

    Raises:
        UsageError: the line is no event, or of another format.
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
