"""Grid of intervals, and the frames that each interval gets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.audio.spec import STEP_SECONDS, SoundSpec
from tsm_runtime.video.crop import CROPS, Crop

TIME_TOLERANCE_SECONDS = 1e-6


_MOST_OPEN_CLIPS = 64
"""Maximum number of windows that cover one moment, and so of clips filled at a time."""


_STRIDE_TOLERANCE = 1e-5  # relative to t/s: a third of a second may be given as 0.333333


def count_intervals(duration_seconds: float, interval_seconds: float) -> int:
    """Return floor(L / t + 1e-6): the number of whole intervals (paper, 3.2)."""
    return math.floor(duration_seconds / interval_seconds + TIME_TOLERANCE_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSpec:
    """Input of a model: T = `num_frames` pictures of `size` x `size` for every interval.

    Args:
        interval_seconds: t, the length of an interval.
        num_frames: T.
        size: edge of a picture in pixels.
        window_seconds: w, time from which the frames are taken, t or more; 0: t.
        stride_seconds: s, distance between the starts of intervals: t, t/2, t/3 and so on; 0: t.
        crop: half of the picture, such as one eye of a binocular recording, or a window of a panorama; empty:
            the whole picture.
        sound: of a model of sound alone: how its pictures are made, see `audio.pictures`; then `size` and
            `crop` are not used. None: pictures of the video.

    Raises:
        ValueError: a value is not positive or out of range, the window is shorter than t, the stride is not
            an integer fraction of t, more than 64 windows cover one moment, or the crop is unknown.
    """

    interval_seconds: float
    num_frames: int = 8
    size: int = 256
    window_seconds: float = 0.0
    stride_seconds: float = 0.0
    crop: Crop = ""
    sound: SoundSpec | None = None

    def __post_init__(self) -> None:
        t = self.interval_seconds
        if not (t > 0 and self.num_frames > 0 and (self.size > 0 or self.sound is not None)):
            raise ValueError(f"interval_seconds, num_frames and size must be positive, got {self}")
        _check_range("interval_seconds", t, 0.001 if self.sound is None else STEP_SECONDS, 1e6)
        _check_range("num_frames", self.num_frames, 1, 4096)
        _check_range("size", self.size, 0 if self.sound is not None else 1, 8192)
        if self.crop not in CROPS:
            raise ValueError(f"crop {self.crop!r}; expected one of {', '.join(CROPS[1:])}, or nothing")
        object.__setattr__(self, "window_seconds", _window(self.window_seconds, t))
        object.__setattr__(self, "stride_seconds", _stride(self.stride_seconds, t))
        if self.window_seconds / self.stride_seconds > _MOST_OPEN_CLIPS:
            raise ValueError(
                f"window {self.window_seconds:g} s with stride {self.stride_seconds:g} s: expected a window"
                f" of {_MOST_OPEN_CLIPS} strides or less"
            )

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """Rows, columns and channels of a picture."""
        return (self.size, self.size, 3) if self.sound is None else self.sound.picture_shape

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """T, and the shape of a picture."""
        return (self.num_frames, *self.picture_shape)

    @property
    def num_overlapping(self) -> int:
        """t/s: number of intervals that cover a moment, except at the ends of the video."""
        return round(self.interval_seconds / self.stride_seconds)

    @property
    def margin_seconds(self) -> float:
        """Length in seconds of a window beyond its interval, on either side."""
        return (self.window_seconds - self.interval_seconds) / 2

    @property
    def num_open(self) -> int:
        """Maximum number of windows that cover one moment; above 1 a frame can be in several clips."""
        return math.ceil(self.window_seconds / self.stride_seconds - _STRIDE_TOLERANCE)

    def num_intervals(self, duration_seconds: float) -> int:
        """Return the number of whole intervals in a video of this length."""
        return max(0, count_intervals(duration_seconds, self.stride_seconds) - self.num_overlapping + 1)

    def first_intervals(self, start_seconds: float) -> npt.NDArray[np.float64]:
        """Return (T,): for each place, the first interval whose time is not before the start of a frame."""
        strides = (start_seconds - TIME_TOLERANCE_SECONDS - self.moments_from(0.0)) / self.stride_seconds
        return np.maximum(np.ceil(strides), 0.0)

    def moments(self, interval: int) -> npt.NDArray[np.float64]:
        """Return the (T,) times in seconds at which the frames of an interval are taken."""
        return self.moments_from(interval * self.stride_seconds)

    def moments_from(self, start_seconds: float) -> npt.NDArray[np.float64]:
        """Return the (T,) times of the frames of an interval that starts anywhere, as in training."""
        places = np.arange(self.num_frames, dtype=np.float64) + 0.5
        return start_seconds + (places * self.window_seconds / self.num_frames - self.margin_seconds)


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} {value:g}: expected {least:g} to {most:g}")


def _window(seconds: float, t: float) -> float:
    if not math.isfinite(seconds) or (seconds and seconds < t * (1 - _STRIDE_TOLERANCE)):
        raise ValueError(f"window {seconds:g} s: expected the interval of {t:g} s or more")
    return max(seconds, t)


def _stride(seconds: float, t: float) -> float:
    parts = t / seconds if seconds > 0 else 1.0
    if not (math.isfinite(parts) and seconds >= 0) or abs(parts - round(parts)) > _STRIDE_TOLERANCE * parts:
        raise ValueError(
            f"stride {seconds:g} s: expected the interval of {t:g} s or a whole part of it"
            f" ({t / 2:g}, {t / 3:g}, {t / 4:g}, ...)"
        )
    return t / round(parts)


def frame_indices(times: npt.NDArray[np.float64], moments: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the frame on screen at each moment: the last with time <= moment + 1e-6.

    Args:
        times: (F,) presentation times in seconds, not decreasing, F >= 1.
        moments: times in seconds; before the first frame the first one is taken.
    """
    found = np.searchsorted(times, moments + TIME_TOLERANCE_SECONDS, side="right") - 1
    return np.maximum(found, 0).astype(np.int64)
