"""The places: drawn once per video, with random layout and colours, so that a scene is not just a colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tsm_train.synthetic.figure import Array, View
from tsm_train.synthetic.pen import Colour, Pen, random_colour, shade
from tsm_train.synthetic.poses import thing_place
from tsm_train.synthetic.settings import BodySetting


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Measures of the stage in its pixels: the picture is [0, width) x [0, height), with a margin around.

    Args:
        horizon: where the floor meets what stands behind it.
        margin: how far the drawing goes beyond the visible picture.
    """

    width: float
    height: float
    horizon: float
    margin: float

    @property
    def left(self) -> float:
        """Left end of the drawing."""
        return -self.margin

    @property
    def right(self) -> float:
        """Right end of the drawing."""
        return self.width + self.margin

    @property
    def bottom(self) -> float:
        """Lower end of the drawing."""
        return self.height + self.margin


def _bands(pen: Pen, stage: Stage, top: float, bottom: float, upper: Colour, lower: Colour) -> None:
    """Draw a vertical gradient over the whole width."""
    edges = np.linspace(top, bottom, 65)
    for i in range(64):
        w = i / 63
        red, green, blue = (int(a + (b - a) * w) for a, b in zip(upper[:3], lower[:3], strict=True))
        pen.box(stage.left, edges[i], stage.right, edges[i + 1] + 1, (red, green, blue))


def _sky(pen: Pen, stage: Stage, rng: np.random.Generator) -> None:
    upper = random_colour(rng, (0.5, 0.66), (0.05, 0.6), (0.45, 1.0))
    lower = random_colour(rng, (0.05, 0.6), (0.0, 0.25), (0.7, 1.0))
    _bands(pen, stage, -stage.margin, stage.horizon, upper, lower)
    for _ in range(rng.integers(0, 4)):
        x, y, r = rng.uniform(0, stage.width), rng.uniform(0, 0.3) * stage.height, 0.05 * stage.height
        for _ in range(4):
            centre = (x + rng.normal(0, 1.4 * r), y + rng.normal(0, 0.3 * r))
            pen.oval(centre, r * rng.uniform(0.8, 1.6), r * rng.uniform(0.4, 0.8), (250, 250, 250, 120))


def _wall(pen: Pen, stage: Stage, rng: np.random.Generator) -> None:
    colour = random_colour(rng, saturation=(0.03, 0.45), value=(0.4, 0.97))
    _bands(pen, stage, -stage.margin, stage.horizon, colour, shade(colour, rng.uniform(0.8, 1.0)))
    if rng.random() < 0.4:
        step = rng.uniform(0.06, 0.14) * stage.width
        for x in np.arange(stage.left, stage.right, step):
            pen.box(x, -stage.margin, x + step * 0.45, stage.horizon, (*shade(colour, 0.9)[:3], 150))
    skirting = random_colour(rng, saturation=(0.0, 0.3), value=(0.3, 0.95))
    pen.box(stage.left, stage.horizon - 0.025 * stage.height, stage.right, stage.horizon, skirting)


def _floor(pen: Pen, stage: Stage, rng: np.random.Generator) -> None:
    colour = random_colour(rng, (0.02, 0.14), (0.1, 0.6), (0.25, 0.8))
    _bands(pen, stage, stage.horizon, stage.bottom, shade(colour, 0.85), colour)
    vanishing = (rng.uniform(0.3, 0.7) * stage.width, stage.horizon - 0.8 * stage.height)
    for x in np.linspace(stage.left - stage.width, stage.right + stage.width, int(rng.integers(10, 26))):
        near = (x, stage.bottom)
        pen.limb(near, _towards(near, vanishing, stage.horizon), 1, 0.6, shade(colour, 0.75))
    if rng.random() < 0.5:
        rug = random_colour(rng, saturation=(0.2, 0.8), value=(0.3, 0.8))
        centre = (rng.uniform(0.2, 0.8) * stage.width, (stage.horizon + stage.height) / 2)
        for factor, tone in ((1.0, 0.8), (0.85, 1.0)):
            pen.oval(centre, 0.32 * factor * stage.width, 0.09 * factor * stage.height, shade(rug, tone))


def _towards(start: tuple[float, float], goal: tuple[float, float], y: float) -> tuple[float, float]:
    w = (y - start[1]) / (goal[1] - start[1])
    return start[0] + w * (goal[0] - start[0]), y


def _window(pen: Pen, x: float, y: float, size: float, rng: np.random.Generator) -> None:
    frame = random_colour(rng, saturation=(0.0, 0.4), value=(0.3, 1.0))
    pen.box(x - size, y - size * 1.1, x + size, y + size * 1.1, frame)
    glass = random_colour(rng, (0.5, 0.65), (0.05, 0.4), (0.6, 1.0))
    for side_x in (-0.48, 0.48):
        for side_y in (-0.52, 0.52):
            left, top = x + (side_x - 0.4) * size, y + (side_y - 0.44) * size
            pen.box(left, top, left + 0.8 * size, top + 0.88 * size, glass)


def _picture(pen: Pen, x: float, y: float, size: float, rng: np.random.Generator) -> None:
    wide = size * rng.uniform(0.5, 1.2)
    pen.box(x - wide, y - 0.7 * size, x + wide, y + 0.7 * size, random_colour(rng))
    pen.box(x - 0.85 * wide, y - 0.55 * size, x + 0.85 * wide, y + 0.55 * size, random_colour(rng))
    pen.disc((x + rng.uniform(-0.4, 0.4) * wide, y), 0.3 * size, random_colour(rng))


def _shelf(pen: Pen, x: float, y: float, size: float, rng: np.random.Generator) -> None:
    wood = random_colour(rng, (0.03, 0.12), (0.2, 0.7), (0.2, 0.8))
    pen.box(x - size, y + 0.5 * size, x + size, y + 0.65 * size, wood)
    left = x - 0.9 * size
    while left < x + 0.7 * size:
        wide = size * rng.uniform(0.12, 0.25)
        pen.box(left, y + size * rng.uniform(-0.4, 0.2), left + wide, y + 0.5 * size, random_colour(rng))
        left += wide * 1.1


def _lamp(pen: Pen, x: float, foot: float, size: float, rng: np.random.Generator) -> None:
    pen.limb((x, foot), (x, foot - 4.2 * size), 0.08 * size, 0.08 * size, (60, 55, 50))
    pen.oval((x, foot), 0.6 * size, 0.15 * size, (60, 55, 50))
    light = random_colour(rng, (0.05, 0.2), (0.1, 0.6), (0.7, 1.0))
    corners = ((-0.5, 5.2), (0.5, 5.2), (1.0, 4.0), (-1.0, 4.0))
    pen.polygon([(x + across * size, foot - up * size) for across, up in corners], light)


def _draw_room(pen: Pen, stage: Stage, rng: np.random.Generator) -> None:
    _wall(pen, stage, rng)
    _floor(pen, stage, rng)
    size = 0.11 * stage.height
    spots = np.linspace(0.08, 0.92, 4) + rng.uniform(-0.05, 0.05, 4)
    for spot in spots:
        x, y = spot * stage.width, rng.uniform(0.12, 0.4) * stage.height
        kind = int(rng.integers(4))
        if kind < 3:
            (_window, _picture, _shelf)[kind](pen, x, y, size * rng.uniform(0.8, 1.4), rng)
    if rng.random() < 0.5:
        foot = stage.horizon + 0.05 * stage.height
        _lamp(pen, rng.choice([0.06, 0.94]) * stage.width, foot, 0.08 * stage.height, rng)


def _house(pen: Pen, left: float, right: float, stage: Stage, rng: np.random.Generator) -> None:
    colour = random_colour(rng, saturation=(0.03, 0.5), value=(0.3, 0.95))
    top = rng.uniform(-0.1, 0.35) * stage.height
    pen.box(left, top, right, stage.horizon, colour)
    if rng.random() < 0.4:
        roof = random_colour(rng, (0.0, 0.1), (0.2, 0.7), (0.2, 0.7))
        pen.polygon([(left, top), (right, top), ((left + right) / 2, top - 0.14 * stage.height)], roof)
    columns, step = int(rng.integers(2, 5)), rng.uniform(0.1, 0.16) * stage.height
    glass = random_colour(rng, saturation=(0.0, 0.4), value=(0.2, 1.0))
    wide = (right - left) / columns
    for y in np.arange(top + 0.4 * step, stage.horizon - 0.9 * step, step):
        for column in range(columns):
            x = left + column * wide
            pen.box(x + 0.25 * wide, y, x + 0.75 * wide, y + 0.55 * step, shade(glass, rng.uniform(0.8, 1.1)))
    door = left + rng.uniform(0.1, 0.6) * (right - left)
    pen.box(door, stage.horizon - 0.17 * stage.height, door + 0.5 * wide, stage.horizon, random_colour(rng))


def _draw_street(pen: Pen, stage: Stage, rng: np.random.Generator) -> None:
    _sky(pen, stage, rng)
    left = stage.left
    while left < stage.right:
        right = left + rng.uniform(0.2, 0.45) * stage.width
        if rng.random() < 0.9:
            _house(pen, left, right, stage, rng)
        left = right
    grey = random_colour(rng, saturation=(0.0, 0.12), value=(0.25, 0.45))
    road = stage.horizon + rng.uniform(0.3, 0.5) * (stage.height - stage.horizon)
    _bands(pen, stage, stage.horizon, stage.bottom, grey, shade(grey, 0.9))
    dash, offset = 0.09 * stage.width, rng.uniform(0, 0.1) * stage.width
    middle = (stage.horizon + road) / 2
    for x in np.arange(stage.left + offset, stage.right, 2 * dash):
        pen.box(x, middle - 1.5, x + dash, middle + 1.5, (225, 222, 200))
    pavement = random_colour(rng, (0.0, 0.15), (0.0, 0.2), (0.5, 0.85))
    _bands(pen, stage, road, stage.bottom, pavement, shade(pavement, 0.9))
    pen.box(stage.left, road, stage.right, road + 0.012 * stage.height, shade(pavement, 0.7))
    step = rng.uniform(0.12, 0.3) * stage.width
    for x in np.arange(stage.left + offset, stage.right, step):
        pen.limb((x, road), (x + 0.3 * (x - stage.width / 2), stage.bottom), 0.7, 1, shade(pavement, 0.78))
    for x in rng.uniform(0, stage.width, rng.integers(0, 3)):
        pole = random_colour(rng, saturation=(0.0, 0.4), value=(0.1, 0.5))
        pen.limb((x, road), (x, 0.1 * stage.height), 0.012 * stage.height, 0.008 * stage.height, pole)
        pen.oval((x, 0.1 * stage.height), 0.04 * stage.height, 0.025 * stage.height, (240, 230, 180))


def _tree(pen: Pen, x: float, foot: float, size: float, rng: np.random.Generator) -> None:
    trunk = random_colour(rng, (0.03, 0.1), (0.2, 0.6), (0.15, 0.5))
    pen.limb((x, foot), (x, foot - 2.2 * size), 0.2 * size, 0.13 * size, trunk)
    hue = (0.2, 0.42) if rng.random() < 0.75 else (0.05, 0.12)
    leaf = random_colour(rng, hue, (0.3, 0.8), (0.2, 0.75))
    if rng.random() < 0.3:
        for level in range(3):
            base, half = foot - (0.9 + level) * size, (1.1 - 0.25 * level) * size
            corners = [(x - half, base), (x + half, base), (x, base - 1.6 * size)]
            pen.polygon(corners, shade(leaf, 0.85 + 0.1 * level))
        return
    for _ in range(9):
        centre = (x + rng.normal(0, 0.5 * size), foot - 2.8 * size + rng.normal(0, 0.45 * size))
        pen.disc(centre, size * rng.uniform(0.4, 0.75), shade(leaf, rng.uniform(0.75, 1.15)))


def _draw_park(pen: Pen, stage: Stage, rng: np.random.Generator) -> None:
    _sky(pen, stage, rng)
    for _ in range(rng.integers(1, 4)):
        hill = random_colour(rng, (0.2, 0.45), (0.15, 0.5), (0.35, 0.7))
        centre = (rng.uniform(0, 1) * stage.width, stage.horizon)
        pen.oval(centre, rng.uniform(0.3, 0.6) * stage.width, rng.uniform(0.05, 0.16) * stage.height, hill)
    grass = random_colour(rng, (0.16, 0.4), (0.25, 0.75), (0.3, 0.75))
    _bands(pen, stage, stage.horizon, stage.bottom, shade(grass, 0.85), grass)
    for x in rng.uniform(stage.left, stage.right, rng.integers(3, 7)):
        foot = stage.horizon + rng.uniform(0.0, 0.06) * stage.height
        _tree(pen, x, foot, rng.uniform(0.09, 0.17) * stage.height, rng)
    if rng.random() < 0.6:
        path = random_colour(rng, (0.05, 0.13), (0.1, 0.4), (0.5, 0.85))
        far, near = rng.uniform(0.2, 0.8, 2) * stage.width
        half = 0.04 * stage.width
        corners = [(far - half, stage.horizon), (far + half, stage.horizon)]
        pen.polygon([*corners, (near + 6 * half, stage.bottom), (near - 6 * half, stage.bottom)], path)
    for _ in range(rng.integers(40, 90)):
        x, y = rng.uniform(stage.left, stage.right), rng.uniform(stage.horizon, stage.bottom)
        flower = random_colour(rng) if rng.random() < 0.15 else shade(grass, rng.uniform(0.7, 1.2))
        pen.oval((x, y), 0.008 * stage.height, 0.012 * stage.height, flower)


_DRAW = {"room": _draw_room, "street": _draw_street, "park": _draw_park}
SCENES: tuple[str, ...] = tuple(_DRAW)


def draw_place(pen: Pen, scene: str, stage: Stage, rng: np.random.Generator) -> None:
    """Draw the background of a scene.

    Raises:
        ValueError: the scene is unknown.
    """
    if scene not in _DRAW:
        raise ValueError(f"unknown scene {scene!r}, expected one of {', '.join(SCENES)}")
    _DRAW[scene](pen, stage, rng)


def _slab(pen: Pen, view: View, corner: Array, size: Array, colour: Colour) -> None:
    """Draw the visible sides of a box from `corner` to `corner + size`, in the figure's axes."""
    x, y, z = np.stack([corner, corner + size], axis=1)
    for rows, tone in (
        ([(x[0], z[1]), (x[1], z[1])], 0.8),
        ([(x[1], z[0]), (x[1], z[1])], 0.65),
    ):
        low = [(px, y[0], pz) for px, pz in rows]
        high = [(px, y[1], pz) for px, pz in reversed(rows)]
        pen.polygon([tuple(point) for point in view.project(np.array(low + high))[0]], shade(colour, tone))
    top = np.array([(x[0], y[1], z[0]), (x[1], y[1], z[0]), (x[1], y[1], z[1]), (x[0], y[1], z[1])])
    pen.polygon([tuple(point) for point in view.project(top)[0]], colour)


def draw_seat(pen: Pen, setting: BodySetting, view: View, rng: np.random.Generator) -> None:
    """Draw a stool, a chair or a bench where the figure sits down."""
    kind = str(rng.choice(["stool", "chair", "bench"]))
    colour = random_colour(rng, saturation=(0.1, 0.8), value=(0.25, 0.95))
    leg = setting.body.leg
    top = setting.seat_height * leg + 0.035 - 0.035 * setting.body.thickness
    half = 0.28 if kind == "bench" else 0.12
    back, front = -setting.seat_distance * leg - 0.12, -setting.seat_distance * leg + 0.1
    for x in (back, front - 0.03):
        for z in (-half, half - 0.03):
            _slab(pen, view, np.array([x, 0.0, z]), np.array([0.03, top, 0.03]), shade(colour, 0.8))
    if kind == "chair":
        corner = np.array([back - 0.02, top, -half])
        _slab(pen, view, corner, np.array([0.02, 0.3, 2 * half]), shade(colour, 0.85))
    _slab(pen, view, np.array([back, top - 0.03, -half]), np.array([front - back, 0.03, 2 * half]), colour)


def draw_stand(
    pen: Pen, setting: BodySetting, view: View, thing_radius: float, rng: np.random.Generator
) -> None:
    """Draw the low box on which the object waits, unless it waits on the ground."""
    place = thing_place(setting, None)
    top = place[1] - 0.9 * thing_radius
    if top > 0.03:
        half = 0.08
        corner = np.array([place[0] - half, 0.0, place[2] - half])
        colour = random_colour(rng, saturation=(0.1, 0.7), value=(0.3, 0.9))
        _slab(pen, view, corner, np.array([2 * half, top, 2 * half]), colour)
