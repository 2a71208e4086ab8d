"""Drawing in stage coordinates: pixels of the enlarged picture, before the camera tilts and moves it."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Colour: TypeAlias = tuple[int, int, int] | tuple[int, int, int, int]
Point: TypeAlias = Sequence[float] | npt.NDArray[np.float64]


def shade(colour: Colour, factor: float) -> Colour:
    """Return a colour made darker (`factor` < 1) or lighter, alpha dropped."""
    red, green, blue = (min(255, int(channel * factor)) for channel in colour[:3])
    return red, green, blue


def random_colour(
    rng: np.random.Generator,
    hue: tuple[float, float] = (0.0, 1.0),
    saturation: tuple[float, float] = (0.1, 0.8),
    value: tuple[float, float] = (0.25, 0.95),
) -> Colour:
    """Draw a colour from ranges of hue, saturation and value, each in [0, 1]."""
    red, green, blue = colorsys.hsv_to_rgb(
        rng.uniform(*hue) % 1.0, rng.uniform(*saturation), rng.uniform(*value)
    )
    return int(red * 255), int(green * 255), int(blue * 255)


class Pen:
    """Draws shapes on a picture, turned by the camera's tilt around `centre` and then moved by `shift`."""

    def __init__(
        self,
        image: Image.Image,
        *,
        centre: tuple[float, float] = (0.0, 0.0),
        tilt_radians: float = 0.0,
        shift: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self._draw = ImageDraw.Draw(image, "RGBA")
        self._centre = centre
        self._cos, self._sin = math.cos(tilt_radians), math.sin(tilt_radians)
        self._shift = shift

    def _place(self, point: Point) -> tuple[float, float]:
        x, y = point[0] - self._centre[0], point[1] - self._centre[1]
        return (
            self._centre[0] + x * self._cos + y * self._sin + self._shift[0],
            self._centre[1] - x * self._sin + y * self._cos + self._shift[1],
        )

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon([self._place(point) for point in points], fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fill a rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def oval(self, centre: Point, radius_x: float, radius_y: float, colour: Colour) -> None:
        """Fill an ellipse; its axes stay upright, since a tilt of a few degrees is not seen in it."""
        x, y = self._place(centre)
        self._draw.ellipse((x - radius_x, y - radius_y, x + radius_x, y + radius_y), fill=colour)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """Fill a circle."""
        self.oval(centre, radius, radius, colour)

    def limb(self, start: Point, end: Point, start_radius: float, end_radius: float, colour: Colour) -> None:
        """Fill a rounded, tapering bar between two points."""
        along = (end[0] - start[0], end[1] - start[1])
        length = math.hypot(*along)
        self.disc(start, start_radius, colour)
        self.disc(end, end_radius, colour)
        if length > 1e-6:
            across = (-along[1] / length, along[0] / length)
            corners = [
                (point[0] + sign * radius * across[0], point[1] + sign * radius * across[1])
                for point, radius, sign in (
                    (start, start_radius, 1),
                    (end, end_radius, 1),
                    (end, end_radius, -1),
                    (start, start_radius, -1),
                )
            ]
            self.polygon(corners, colour)
