"""Labels and a time line painted on a video's pictures, for the overlay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tsm_runtime.errors import BackendError
from tsm_runtime.formats.text import lanes
from tsm_runtime.outputs.class_colors import DARK, color_slots
from tsm_runtime.results import Segment
from tsm_runtime.terminal import printable

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

Picture = npt.NDArray[np.uint8]

_TOLERANCE_SECONDS = 1e-6

_BACKGROUND = (0, 0, 0, 170)
_SMALLEST_FONT = 6


class Painter:
    """Paints on the pictures of one video. Not thread-safe.

    Args:
        width, height: size of the pictures, in pixels.
        segments: segments in any order.
        duration_seconds: length of the time line.
        slots: number of the colour of each label; default: chosen for these segments.

    Raises:
        BackendError: Pillow is not installed.
    """

    def __init__(
        self,
        width: int,
        height: int,
        segments: Sequence[Segment],
        duration_seconds: float,
        slots: Mapping[str, int] | None = None,
    ) -> None:
        self.width, self.height = width, height
        self._segments = sorted(segments, key=lambda s: (s.start_seconds, s.end_seconds, s.label))
        self._duration = max([duration_seconds, *(s.end_seconds for s in segments)])
        slots = slots or color_slots(segment.label for segment in segments)
        self._colors = {segment.label: DARK[slots[segment.label]] for segment in segments}
        self._font = load_font(max(_SMALLEST_FONT, round(min(height / 18, width / 20))))
        self.strip_height = max(1, min(max(4, round(height / 24)), height // 4))
        self._strip = self._paint_strip()
        self._shown: tuple[Segment, ...] = ()
        self._panel: Picture | None = None

    def active(self, seconds: float) -> tuple[Segment, ...]:
        """Return the segments with start <= seconds < end, as for the frames of a clip."""
        moment = seconds + _TOLERANCE_SECONDS
        return tuple(s for s in self._segments if s.start_seconds <= moment < s.end_seconds)

    def paint(self, picture: Picture, seconds: float) -> None:
        """Paint on a (height, width, 3) uint8 RGB picture that is on screen at this second."""
        active = self.active(seconds)
        if active != self._shown:  # a text is drawn once, not for every frame
            self._shown, self._panel = active, self._paint_panel(active) if active else None
        strip_top = self.height - self.strip_height
        if self._panel is not None:
            _blend(picture[:strip_top], self._panel)
        _blend(picture, self._strip)
        position = int(min(seconds / self._duration, 1.0) * self.width) if self._duration else 0
        thickness = max(1, self.width // 320)
        picture[strip_top:, max(0, position - thickness) : position + 2 * thickness] = 0
        picture[strip_top:, position : position + thickness] = 255

    def _paint_strip(self) -> Picture:
        """Return the time line, (strip_height, width, 4), with stacked overlapping segments."""
        from PIL import Image, ImageDraw

        image = Image.new("RGBA", (self.width, self.strip_height), _BACKGROUND)
        draw = ImageDraw.Draw(image)
        chosen = lanes([(s.start_seconds, s.end_seconds) for s in self._segments])
        num_lanes = min(max(chosen, default=0) + 1, max(1, self.strip_height // 2))
        for segment, lane in zip(self._segments, chosen, strict=True):
            left = int(segment.start_seconds / self._duration * self.width)
            right = max(left, int(segment.end_seconds / self._duration * self.width) - 1)
            row = min(lane, num_lanes - 1)
            top = row * self.strip_height // num_lanes
            bottom = max(top, (row + 1) * self.strip_height // num_lanes - 1)
            draw.rectangle((left, top, right, bottom), fill=self._colors[segment.label])
        return np.asarray(image)

    def _paint_panel(self, active: Sequence[Segment]) -> Picture:
        """Return the active labels, one per row, (rows, columns, 4)."""
        from PIL import Image, ImageDraw

        ascent, descent = self._font.getmetrics()
        padding = max(1, (ascent + descent) // 4)
        row_height = ascent + descent + 2 * padding
        num_rows = max(1, int(self.height / 2 / row_height))
        rows = [(printable(s.label), f"  {s.score:.2f}", self._colors[s.label]) for s in active[:num_rows]]
        if len(active) > num_rows:
            rows[-1] = (f"+ {len(active) - num_rows + 1} more", "", "#ffffff")
        mark = ascent // 2  # width of the colour beside the text
        room = self.width - mark - 3 * padding
        texts = [_fitting(label, score, self._font, room) for label, score, _ in rows]
        width = math.ceil(max(self._font.getlength(text) for text in texts)) + mark + 3 * padding
        image = Image.new("RGBA", (max(1, min(width, self.width)), row_height * len(rows)), _BACKGROUND)
        draw = ImageDraw.Draw(image)
        for number, (text, (_, _, color)) in enumerate(zip(texts, rows, strict=True)):
            top = number * row_height
            draw.rectangle((0, top, mark, top + row_height - 1), fill=color)
            draw.text((mark + 2 * padding, top + padding), text, fill="#ffffff", font=self._font)
        return np.asarray(image)


def require_font() -> None:
    """Check that labels can be drawn.

    Raises:
        BackendError: Pillow is not installed.
    """
    load_font(_SMALLEST_FONT)


def load_font(size: int) -> FreeTypeFont:
    """Return Pillow's own font, which needs no file of the system."""
    try:
        from PIL import ImageFont

        return ImageFont.load_default(size)  # type: ignore[return-value]  # with a size it is never the old one
    except (ImportError, OSError, TypeError) as error:  # the last: a Pillow before 10.1
        raise BackendError("drawing needs Pillow: pip install 'tsm-tal[report]'") from error


def _fitting(label: str, score: str, font: FreeTypeFont, room: float) -> str:
    """Return label and score, with the label cut to the room."""
    shown = max(0, min(len(label), int(room) + 1))  # hardly a character is narrower than a pixel
    text = label + score if shown == len(label) else f"{label[:shown]}...{score}"
    while shown and font.getlength(text) > room:
        shown -= 1
        text = f"{label[:shown]}...{score}"
    return text


def _blend(picture: Picture, patch: Picture) -> None:
    """Blend an RGBA patch onto the lower left corner; it is cropped above and on the right."""
    height, width = min(len(picture), len(patch)), min(picture.shape[1], patch.shape[1])
    if not height:
        return
    under = picture[-height:, :width]
    color, alpha = (
        patch[-height:, :width, :3].astype(np.uint16),
        patch[-height:, :width, 3:].astype(np.uint16),
    )
    under[...] = ((under * (255 - alpha) + color * alpha + 127) // 255).astype(np.uint8)
