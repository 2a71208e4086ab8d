"""What a container and its video stream say of time, and what has to be assumed."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.stream import VideoStream

_ASSUMED_RATE = 25.0
"""Frames per second of what states none: FFmpeg's own assumption."""


_NO_TIMESTAMPS = 0x80
_CLOCK_MAY_RESTART = 0x200
"""FFmpeg's AVFMT_NOTIMESTAMPS and AVFMT_TS_DISCONT of a container's format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How the times of a stream's frames are read.

    Args:
        time_base: seconds of a tick.
        nominal_seconds: length of a frame by the stream's rate, a mean where the rate varies.
        by_dts: take the times of decoding, which are right where frames come out evenly.
        clock_may_restart: a step ahead of many seconds is a clock that begins anew.
        has_times: the container's format holds times; else FFmpeg counts the frames at some rate.
        rate: frames per second that the caller states for frames without times.
        rate_is_stated: the caller or the coding states a rate, so that `nominal_seconds` is no assumption.
    """

    time_base: Fraction
    nominal_seconds: float
    by_dts: bool = False
    clock_may_restart: bool = False
    has_times: bool = True
    rate: float | None = None
    rate_is_stated: bool = True


def timing_of(container: InputContainer, stream: VideoStream, rate: float | None = None) -> Timing:
    """Return how an open stream's times are read.

    Args:
        container: the open container.
        stream: its video stream.
        rate: frames per second of frames without times; others do not need it.
    """
    flags = container.format.flags
    has_times = not flags & _NO_TIMESTAMPS
    stated = stream.codec_context.framerate
    known = (stream.average_rate or stream.guessed_rate) if has_times else stated
    seconds = float(1 / known) if known else 1 / _ASSUMED_RATE
    nominal = 1 / rate if rate and not has_times else seconds
    return Timing(
        time_base=stream.time_base or Fraction(1, av.time_base),
        nominal_seconds=nominal,
        # AVI has no presentation times. FFmpeg derives them from the kind of picture, which is wrong with
        # B-frames, and more so where two pictures share a packet (XviD, DivX).
        by_dts=container.format.name == "avi",
        clock_may_restart=bool(flags & _CLOCK_MAY_RESTART),
        has_times=has_times,
        rate=rate,
        rate_is_stated=bool(rate or stated),
    )
