"""Timestamps and frame rates of a container and its video stream, stated or assumed."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.stream import VideoStream

_ASSUMED_RATE = 25.0
"""Frames per second if none is stated: FFmpeg's own assumption."""


_NO_TIMESTAMPS = 0x80
_CLOCK_MAY_RESTART = 0x200
"""FFmpeg's AVFMT_NOTIMESTAMPS and AVFMT_TS_DISCONT of a container's format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Rules for reading the times of a stream's frames.

    Args:
        time_base: seconds per tick.
        nominal_seconds: length of a frame by the stream's rate, a mean if the rate varies.
        by_dts: use decoding times, which are right if frames are evenly spaced.
        clock_may_restart: a step ahead of many seconds is a restart of the clock.
        has_times: the container format holds timestamps; else FFmpeg counts the frames at some rate.
        rate: frames per second stated by the caller for frames without timestamps.
        rate_is_stated: the caller or the codec states a rate, so `nominal_seconds` is not an assumption.
    """

    time_base: Fraction
    nominal_seconds: float
    by_dts: bool = False
    clock_may_restart: bool = False
    has_times: bool = True
    rate: float | None = None
    rate_is_stated: bool = True


def timing_of(container: InputContainer, stream: VideoStream, rate: float | None = None) -> Timing:
    """Return the rules for reading the times of an open stream.

    Args:
        container: the open container.
        stream: its video stream.
        rate: frames per second of frames without timestamps; ignored for others.
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
        # AVI has no presentation times. FFmpeg derives them from the picture type, which is wrong with
        # B-frames, and more so if two pictures share a packet (XviD, DivX).
        by_dts=container.format.name == "avi",
        clock_may_restart=bool(flags & _CLOCK_MAY_RESTART),
        has_times=has_times,
        rate=rate,
        rate_is_stated=bool(rate or stated),
    )
