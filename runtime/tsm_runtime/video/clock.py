"""Presentation times of frames, in seconds after the first presented frame."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from av.video.frame import VideoFrame

from tsm_runtime.video.timing import Timing

NEW_CLOCK_SECONDS = 10.0
"""A longer step ahead is a clock restart, in formats and sources whose clocks may restart."""

_LOOK_AHEAD = 4
"""Number of frames that a frame with a time jump waits for: they show whether its time is right."""

_RETURN_SLACK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class TimedFrame:
    """A decoded frame, `start_seconds` after the first presented frame, shown for `duration_seconds`.

    `discontinuity` describes a restart of the source's clock at this frame; else it is empty.
    """

    frame: VideoFrame
    start_seconds: float
    duration_seconds: float
    discontinuity: str = ""

    @property
    def end_seconds(self) -> float:
        """Second at which the frame leaves the screen if nothing follows it."""
        return self.start_seconds + self.duration_seconds


class Clock:
    """Computes presentation times from timestamps, or from the previous frame if there is no timestamp.

    Wrong times of up to four frames are replaced by even steps. If the source's clock restarts, the time line
    continues and the frame is marked. `num_misplaced` counts, since the last `restart`, the frames whose time
    was replaced and the frames dropped because their time is slightly before that of their predecessor.

    Args:
        timing: rules for reading timestamps.
        is_live: frames arrive in real time, so steps ahead are compared with the wall clock.
        arrival: returns the arrival time in seconds of the newest frame, used for frames without timestamp.
        look_ahead: maximum number of frames held to judge a jump.
        now: the wall clock, in seconds.
    """

    def __init__(
        self,
        timing: Timing,
        *,
        is_live: bool = False,
        arrival: Callable[[], float] | None = None,
        look_ahead: int = _LOOK_AHEAD,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.timing = timing
        self._is_live = is_live
        self._arrival = arrival
        self._zero_arrival: float | None = None
        self._look_ahead = look_ahead
        self._now = now
        jump = max(0.1, 2.5 * timing.nominal_seconds)
        self._back_seconds = 1.0 if is_live else jump
        self._ahead_seconds = NEW_CLOCK_SECONDS if is_live else jump
        self._zero_ticks: int | None = None
        self._old_zero_ticks: int | None = None  # before the clock restarted
        self._num_since_zero = 0
        self.restart()

    def restart(self) -> None:
        """Accept any time for the next frame, after a seek; the zero of the time line is kept."""
        self._previous: TimedFrame | None = None
        self._last_step = 0.0
        self._arrived = 0.0  # arrival of the previous frame, by the wall clock
        self.num_misplaced = 0
        self.misplaced_seconds = 0.0  # nominal length of the frames dropped since then

    def timed(self, frames: Iterable[VideoFrame]) -> Iterator[TimedFrame]:
        """Yield frames in order of presentation with their times."""
        waiting: deque[VideoFrame] = deque()
        for frame in frames:
            waiting.append(frame)
            yield from self._settled(waiting, is_end=False)
        yield from self._settled(waiting, is_end=True)

    @property
    def zero_seconds(self) -> float | None:
        """Time of the first presented frame on the container's clock; None: no frame had a timestamp."""
        return None if self._zero_ticks is None else float(self._zero_ticks * self.timing.time_base)

    def is_anchor(self, timed: TimedFrame, seconds: float) -> bool:
        """Return whether reading may start at this frame for `seconds`: its picture and time are exact."""
        own = timed.frame.key_frame and self._own_ticks(timed.frame) is not None
        return own and timed.start_seconds <= seconds

    def ticks(self, seconds: float) -> int:
        """Convert a time of the video to ticks of the stream's clock, for seeking."""
        return (self._zero_ticks or 0) + int(max(0.0, seconds) / self.timing.time_base)

    @property
    def is_new(self) -> bool:
        """Whether no frame has arrived since the last `restart`."""
        return self._previous is None

    @property
    def assumed_rate(self) -> float | None:
        """Assumed frames per second on which all times depend; None if a rate is stated."""
        if self.timing.rate_is_stated or self._zero_arrival is not None:
            return None
        rests = not self.timing.has_times or self._zero_ticks is None
        return 1 / self.timing.nominal_seconds if rests else None

    # --- jumps --------------------------------------------------------------------------------------

    def _settled(self, waiting: deque[VideoFrame], *, is_end: bool) -> Iterator[TimedFrame]:
        """Remove the frames with certain times from the queue and yield them."""
        while waiting:
            step = self._jump_of(waiting[0])
            if step is None:
                timed = self._stamp(waiting.popleft())
                if timed is not None:
                    yield timed
                continue
            starts = self._corrected_starts(waiting)
            if not starts and len(waiting) <= self._look_ahead and not is_end:
                return
            if not starts and len(waiting) == 1 and is_end and self._means_new_clock(step):
                starts = [self._previous.end_seconds if self._previous else 0.0]  # the last frame of all
            if not starts:
                yield self._after_jump(waiting.popleft(), step)
            for start in starts:
                self.num_misplaced += 1
                yield self._placed(waiting.popleft(), start)

    def _jump_of(self, frame: VideoFrame) -> float | None:
        """Return the step from the previous frame in seconds if it is suspicious, else None."""
        ticks = self._own_ticks(frame)
        if ticks is None or self._previous is None or self._zero_ticks is None:
            return None
        step = self._seconds(ticks) - self._previous.start_seconds
        ahead = self._ahead_seconds
        if self._is_live:
            ahead += self._now() - self._arrived
        return step if step < -self._back_seconds or step > ahead else None

    def _corrected_starts(self, waiting: Iterable[VideoFrame]) -> list[float]:
        """Return times for the frames before the first that continues the time line; [] if none does."""
        assert self._previous is not None
        earliest, nominal = self._previous.start_seconds, self.timing.nominal_seconds
        first: float | None = None
        for number, frame in enumerate(waiting):
            ticks = self._own_ticks(frame)
            if ticks is None:
                continue
            start = self._seconds(ticks)
            first = start if first is None else first
            latest = self._previous.end_seconds + (number + 1) * 2 * nominal
            if number and earliest <= start <= latest and (start < first or first < earliest):
                return [earliest + (start - earliest) * n / (number + 1) for n in range(1, number + 1)]
        return []

    def _means_new_clock(self, step_seconds: float) -> bool:
        if step_seconds < 0 or self._is_live:
            return True
        return self.timing.clock_may_restart and step_seconds > NEW_CLOCK_SECONDS

    def _after_jump(self, frame: VideoFrame, step_seconds: float) -> TimedFrame:
        """Place a frame confirmed by later frames: after a pause, or after a restart of the clock."""
        if not self._means_new_clock(step_seconds):
            return self._placed(frame, self._seconds(self._own_ticks(frame) or 0))
        assert self._previous is not None
        assert self._zero_ticks is not None
        start, is_first = self._previous.end_seconds, self._num_since_zero == 1
        old, self._old_zero_ticks = self._old_zero_ticks, self._zero_ticks
        ticks = self._own_ticks(frame) or 0
        if old is not None and self._continues(self._seconds(ticks, old)):
            start, self._zero_ticks = self._seconds(ticks, old), old
        else:
            self._zero_ticks = ticks - round(start / self.timing.time_base)
        self._num_since_zero = 0
        timed = self._placed(frame, start)
        if is_first:  # the first frame had the wrong time
            self.num_misplaced += 1
            return timed
        how = f"back by {-step_seconds:.2f} s" if step_seconds < 0 else f"ahead by {step_seconds:.2f} s"
        return replace(timed, discontinuity=f"its clock jumped {how}")

    def _continues(self, start_seconds: float) -> bool:
        """Return whether a time on the clock before the last restart continues the time line."""
        assert self._previous is not None
        slack = _RETURN_SLACK_SECONDS + self._num_since_zero * self.timing.nominal_seconds
        return self._previous.start_seconds < start_seconds <= self._previous.end_seconds + slack

    # --- times --------------------------------------------------------------------------------------

    def _stamp(self, frame: VideoFrame) -> TimedFrame | None:
        """Return the frame with its time, or None if its time is before that of its predecessor."""
        start = self._start_seconds(frame)
        if self._previous is not None and start < self._previous.start_seconds:
            self.num_misplaced += 1
            self.misplaced_seconds += self.timing.nominal_seconds
            return None
        return self._placed(frame, start)

    def _placed(self, frame: VideoFrame, start: float) -> TimedFrame:
        self._previous = TimedFrame(frame, start, self._duration_seconds(frame, start))
        self._num_since_zero += 1
        if self._is_live:
            self._arrived = self._now()
        return self._previous

    def _duration_seconds(self, frame: VideoFrame, start: float) -> float:
        """Return the seconds that a frame is shown if nothing follows it.

        Containers understate it: half for two fields that are coded separately, 0 for the last frame.
        """
        timing = self.timing
        step = start - self._previous.start_seconds if self._previous is not None else 0.0
        if self._takes_arrival(frame):
            return step or timing.nominal_seconds
        if timing.rate is not None and self._own_ticks(frame) is None:
            return 1 / timing.rate
        stated = float(frame.duration * timing.time_base)
        steps = [each for each in (step, self._last_step) if each > 0]
        self._last_step = step
        usual = min(steps, default=timing.nominal_seconds)
        if usual > 2.01 * timing.nominal_seconds:  # frames come unevenly: one says nothing of the next
            usual = 0.0 if stated > 0 else timing.nominal_seconds
        return max(stated, usual)

    def _start_seconds(self, frame: VideoFrame) -> float:
        if self._arrival is not None and self._takes_arrival(frame):
            return self._arrived_seconds(self._arrival())
        ticks = self._own_ticks(frame)
        expected = self._previous.end_seconds if self._previous is not None else 0.0
        if ticks is None:
            return expected
        if self._zero_ticks is None:
            self._zero_ticks = ticks - round(expected / self.timing.time_base)
        start = self._seconds(ticks)
        if frame.pts is None and self._previous is not None:
            return max(
                start, self._previous.start_seconds
            )  # from dts: near enough, but it may go back a little
        return start

    def _takes_arrival(self, frame: VideoFrame) -> bool:
        """Return whether a frame of a live source has no timestamp."""
        if self._arrival is None or self.timing.rate is not None:
            return False
        return not self.timing.has_times or (self._zero_ticks is None and self._own_ticks(frame) is None)

    def _arrived_seconds(self, arrival: float) -> float:
        if self._zero_arrival is None:
            self._zero_arrival = arrival
        earliest = self._previous.start_seconds if self._previous is not None else 0.0
        return max(earliest, arrival - self._zero_arrival)

    def _seconds(self, ticks: int, zero: int | None = None) -> float:
        zero = self._zero_ticks or 0 if zero is None else zero
        return float((ticks - zero) * self.timing.time_base)

    def _own_ticks(self, frame: VideoFrame) -> int | None:
        timing = self.timing
        if not timing.has_times and (timing.rate is not None or self._arrival is not None):
            return None  # FFmpeg counts them at its own rate
        return frame.dts if timing.by_dts or frame.pts is None else frame.pts
