"""Windows of an equirectangular panorama: four views of one video, with wrap-around at its seam.

An equirectangular picture shows 360 degrees in its width and 180 in its height. A window of the projection
`equirectangular` shows 120 degrees around a yaw, from 60 degrees below the horizon to 60 above, without
distortion of its own: a part of the columns, taken around the seam where needed, and the middle two thirds of
the rows. Neighbours overlap by 30 degrees, so that a person up to that wide is whole in one of them. A window
of the projection `perspective` shows what a usual camera would see, 110 degrees wide and high: lines are
straight, and people near the top and the bottom are not bent; neighbours overlap by 20 degrees.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, TypeGuard, get_args

from av import VideoFrame

from tsm_runtime.errors import VideoError
from tsm_runtime.video.filter_graph import FrameFilter

Projection = Literal["", "equirectangular", "perspective"]
"""How windows of panoramas are cut out; empty: pictures are those of usual cameras, and seen whole."""

Window = Literal[
    "window_front",
    "window_right",
    "window_back",
    "window_left",
    "perspective_front",
    "perspective_right",
    "perspective_back",
    "perspective_left",
]
ALL_WINDOWS: tuple[Window, ...] = get_args(Window)
WINDOWS: tuple[Window, ...] = ALL_WINDOWS[:4]
"""Windows around yaw 0 (the middle column), 90, 180 and -90 degrees."""
PERSPECTIVES: tuple[Window, ...] = ALL_WINDOWS[4:]
"""The same as a usual camera would see them."""

_WIDTH, _HEIGHT = Fraction(1, 3), Fraction(2, 3)
_ASPECT = (1.8, 2.2)
"""Width by height of what is taken for a panorama; it is 2."""


_FIELD_DEGREES = 110
"""Of view of a perspective window, in width and height."""


def is_window(crop: str) -> TypeGuard[Window]:
    """Return whether a crop is a window of a panorama."""
    return crop in ALL_WINDOWS


def windows_of(projection: Projection) -> tuple[Window, ...]:
    """Return the windows that a model of panoramas sees; none for the pictures of usual cameras."""
    return {"": (), "equirectangular": WINDOWS, "perspective": PERSPECTIVES}[projection]


class WindowCropper:
    """Cuts a window out of panoramas. Not thread-safe: one per thread.

    Windows of `equirectangular` are not resampled. Those of `perspective` are drawn by FFmpeg's v360 at up to
    twice the size of the model's picture.

    Args:
        window: the window of the upright picture.
        size: edge of the model's picture in pixels.
    """

    def __init__(self, window: Window, size: int) -> None:
        self._window = window
        self._size = size
        self._filter = FrameFilter()

    def __call__(self, frame: VideoFrame, matrix: tuple[float, float, float, float]) -> VideoFrame:
        """Return the window of the stored frame; times and colours are kept.

        Args:
            frame: a panorama.
            matrix: a, b, c, d of its display matrix, see `tsm_runtime.video.convert.upright`.

        Raises:
            VideoError: the picture is no panorama, is stored on its side, or has an unsupported pixel format.
        """
        kind = f"{frame.width} x {frame.height} {frame.format.name}"
        if not _ASPECT[0] <= frame.width / max(1, frame.height) <= _ASPECT[1] or frame.width < 12:
            raise VideoError(
                f"pictures of {kind} are no panorama: an equirectangular one is twice as wide as high"
            )
        a, b, *_ = matrix
        if abs(b) > abs(a):
            raise VideoError("panoramas that are stored on their side are not supported; turn the video")
        quarters = ALL_WINDOWS.index(self._window) % len(WINDOWS) * (-1 if a < 0 else 1)
        trouble = f"of pictures of {kind} no window can be cut out"
        if self._window in PERSPECTIVES:
            return self._filter(frame, (self._drawn(frame.width, quarters),), trouble)
        width, height = _even(frame.width * _WIDTH), _even(frame.height * _HEIGHT)
        x, y = _even((frame.width - width) / 2), _even((frame.height - height) / 2)
        turned = ("scroll", f"hpos={-quarters % 4 / 4}")  # by quarters of the width; then the middle
        crop = ("crop", f"{width}:{height}:{x}:{y}:exact=1")
        return self._filter(frame, (turned, crop), trouble)

    def _drawn(self, width: int, quarters: int) -> tuple[str, str]:
        edge = _even(min(width * _FIELD_DEGREES / 360, 2 * self._size))
        yaw = (quarters * 90 + 180) % 360 - 180
        field = f"h_fov={_FIELD_DEGREES}:v_fov={_FIELD_DEGREES}"
        return "v360", f"input=e:output=flat:yaw={yaw}:{field}:w={edge}:h={edge}:interp=linear"


def _even(length: float | Fraction) -> int:
    """Return the next even number: samples of colour lie two columns and rows apart."""
    return 2 * round(length / 2)
