"""When each frame is on screen, in seconds after the first presented frame."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

__all__ = ["Clock", "TimedFrame"]

_DEFAULT_FRAME_SECONDS = 1 / 25


@dataclass(frozen=True, slots=True)
class TimedFrame:
    """A decoded frame, `start_seconds` after the first presented frame, shown for `duration_seconds`."""

    frame: VideoFrame
    start_seconds: float
    duration_seconds: float

    @property
    def end_seconds(self) -> float:
        """When the frame leaves the screen if nothing follows it."""
        return self.start_seconds + self.duration_seconds


class Clock:
    """Presentation times from pts; where a frame has none, from its predecessor.

    Args:
        stream: gives the unit of time and the nominal length of a frame.
        by_dts: take the decoding order's times instead, which are right when frames come out evenly.
    """

    def __init__(self, stream: VideoStream, *, by_dts: bool) -> None:
        self._time_base = stream.time_base or Fraction(1, av.time_base)
        rate = stream.average_rate or stream.guessed_rate
        self._nominal_seconds = float(1 / rate) if rate else _DEFAULT_FRAME_SECONDS
        self._by_dts = by_dts
        self._zero_ticks: int | None = None
        self.restart()

    def restart(self) -> None:
        """Accept any time for the next frame, after a seek; zero stays where it is."""
        self._previous: TimedFrame | None = None
        self.misplaced_seconds = 0.0  # nominal length of the frames refused since then

    def stamp(self, frame: VideoFrame) -> TimedFrame | None:
        """Return the frame with its time, or None where its time lies before its predecessor's."""
        start = self._start_seconds(frame)
        if self._previous is not None and start < self._previous.start_seconds:
            self.misplaced_seconds += self._nominal_seconds
            return None
        duration = float(frame.duration * self._time_base) if frame.duration > 0 else self._nominal_seconds
        self._previous = TimedFrame(frame, start, duration)
        return self._previous

    @property
    def zero_seconds(self) -> float | None:
        """Time of the first presented frame on the container's clock; None: no frame had a time."""
        return None if self._zero_ticks is None else float(self._zero_ticks * self._time_base)

    def is_anchor(self, timed: TimedFrame, seconds: float) -> bool:
        """Whether reading from this frame on is right at `seconds`: its picture and its time are its own."""
        own = timed.frame.key_frame and self._own_ticks(timed.frame) is not None
        return own and timed.start_seconds <= seconds

    def ticks(self, seconds: float) -> int:
        """Time of the video to the stream's clock, for seeking."""
        return (self._zero_ticks or 0) + int(max(0.0, seconds) / self._time_base)

    def _start_seconds(self, frame: VideoFrame) -> float:
        ticks = self._own_ticks(frame)
        expected = self._previous.end_seconds if self._previous is not None else 0.0
        if ticks is None:
            return expected
        if self._zero_ticks is None:
            self._zero_ticks = ticks - round(expected / self._time_base)
        start = float((ticks - self._zero_ticks) * self._time_base)
        if frame.pts is None and self._previous is not None:
            return max(
                start, self._previous.start_seconds
            )  # from dts: near enough, but it may go back a little
        return start

    def _own_ticks(self, frame: VideoFrame) -> int | None:
        return frame.dts if self._by_dts or frame.pts is None else frame.pts
