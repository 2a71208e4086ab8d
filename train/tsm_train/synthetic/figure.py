"""The figure: a body, its skeleton in three dimensions, how the camera sees it, and how it is drawn.

Axes of the figure: x forward, y up from the ground, z to its near side. The unit is the standing height.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tsm_train.synthetic.pen import Colour, Pen, random_colour, shade

Array: TypeAlias = npt.NDArray[np.float64]
Pose: TypeAlias = npt.NDArray[np.float64]
"""(6, 3): hip (leg lengths), trunk (lean and nod in radians, unused), two hands (arm lengths from their
shoulder), two feet (leg lengths). Of hands and feet the first is the near one. Poses mix linearly."""
HIP, TRUNK, HANDS, FEET = 0, 1, slice(2, 4), slice(4, 6)

ANKLE = 0.035
SIDES = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """Lengths in standing heights (`shoulder` and `pelvis` are half widths), colours and clothes."""

    leg: float
    torso: float
    neck: float
    head: float
    arm: float
    shoulder: float
    pelvis: float
    thickness: float
    skin: Colour
    hair: Colour
    shirt: Colour
    trousers: Colour
    shoes: Colour
    long_sleeves: bool
    long_trousers: bool
    hair_style: str


def random_body(rng: np.random.Generator) -> Body:
    """Draw a body whose parts add up to a standing height of 1."""
    head = rng.uniform(0.062, 0.085)
    neck = rng.uniform(0.02, 0.035)
    rest = 1.0 - ANKLE - neck - 2 * head
    leg = rest * rng.uniform(0.57, 0.63)
    tone = rng.uniform(0.35, 1.0)
    return Body(
        leg=leg,
        torso=rest - leg,
        neck=neck,
        head=head,
        arm=rng.uniform(0.40, 0.45),
        shoulder=rng.uniform(0.085, 0.115),
        pelvis=rng.uniform(0.05, 0.07),
        thickness=rng.uniform(0.85, 1.35),
        skin=(int(242 * tone), int(200 * tone), int(168 * tone)),
        hair=random_colour(rng, (0.02, 0.14), (0.1, 0.8), (0.05, 0.75)),
        shirt=random_colour(rng, saturation=(0.1, 0.95), value=(0.3, 1.0)),
        trousers=random_colour(rng, saturation=(0.1, 0.8), value=(0.12, 0.8)),
        shoes=random_colour(rng, saturation=(0.0, 0.6), value=(0.1, 0.9)),
        long_sleeves=bool(rng.random() < 0.5),
        long_trousers=bool(rng.random() < 0.7),
        hair_style=str(rng.choice(["short", "long", "cap", "bald"], p=[0.45, 0.3, 0.15, 0.1])),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Joints:
    """Places of the joints, (3,) each; limbs are (4, 3): near arm, far arm, near leg, far leg."""

    hip: Array
    chest: Array
    head: Array
    roots: Array
    bends: Array
    ends: Array


# Elbows bend backwards, down and outwards; knees forwards.
_POLES = np.array([[-0.6, -0.6, 0.5], [-0.6, -0.6, -0.5], [1.0, 0.1, 0.1], [1.0, 0.1, -0.1]])


def _bend(roots: Array, targets: Array, lengths: Array) -> tuple[Array, Array]:
    """Two equal bones per limb from root towards target: (bends, ends), each (4, 3)."""
    reach = targets - roots
    distance = np.sqrt((reach**2).sum(axis=1, keepdims=True))
    unit = reach / np.maximum(distance, 1e-9)
    distance = np.clip(distance, 0.15 * lengths, 0.999 * lengths)
    across = _POLES - (_POLES * unit).sum(axis=1, keepdims=True) * unit
    across /= np.sqrt((across**2).sum(axis=1, keepdims=True))
    rise = np.sqrt((lengths / 2) ** 2 - (distance / 2) ** 2)
    return roots + unit * distance / 2 + across * rise, roots + unit * distance


def joints_of(body: Body, pose: Pose) -> Joints:
    """Place the joints of a body in a pose."""
    lift = np.array([0.0, ANKLE, 0.0])
    hip = pose[HIP] * body.leg + lift
    lean, nod = pose[TRUNK, 0], pose[TRUNK, 1]
    chest = hip + body.torso * np.array([math.sin(lean), math.cos(lean), 0.0])
    tip = 0.6 * lean + nod
    head = chest + (body.neck + body.head) * np.array([math.sin(tip), math.cos(tip), 0.0])
    shoulders = chest + SIDES * body.shoulder
    roots = np.concatenate([shoulders, hip + SIDES * body.pelvis])
    targets = np.concatenate([shoulders + body.arm * pose[HANDS], body.leg * pose[FEET] + lift])
    lengths = np.array([[body.arm], [body.arm], [body.leg * 1.01], [body.leg * 1.01]])
    bends, ends = _bend(roots, targets, lengths)
    return Joints(hip=hip, chest=chest, head=head, roots=roots, bends=bends, ends=ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a figure stands on the stage.

    Args:
        x: stage pixels of the point between its feet.
        y: stage pixels of that point, downwards.
        height: standing height in stage pixels.
        yaw: radians by which the figure turns from the side towards the camera.
        mirrored: faces left instead of right.
    """

    x: float
    y: float
    height: float
    yaw: float
    mirrored: bool

    def project(self, points: Array) -> tuple[Array, Array]:
        """Places (N, 3) of the figure to stage pixels (N, 2) and nearness to the camera (N,)."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        nearness = points[:, 0] * sin + points[:, 2] * cos
        across = points[:, 0] * cos - points[:, 2] * sin
        if self.mirrored:
            across = -across
        # The camera looks slightly down, so what is nearer stands lower in the picture.
        upwards = points[:, 1] - 0.12 * nearness
        return np.stack([self.x + self.height * across, self.y - self.height * upwards], axis=1), nearness


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """The object that is picked up: `kind` is "ball", "box" or "bottle", `radius` in standing heights."""

    kind: str
    radius: float
    colour: Colour


def random_thing(rng: np.random.Generator) -> Thing:
    """Draw an object for the hand."""
    return Thing(
        kind=str(rng.choice(["ball", "box", "bottle"])),
        radius=rng.uniform(0.07, 0.09),
        colour=random_colour(rng, saturation=(0.5, 1.0), value=(0.45, 1.0)),
    )


def draw_thing(pen: Pen, thing: Thing, centre: Array, scale: float) -> None:
    """Draw the object around a stage point; `scale` is the figure's height in stage pixels."""
    x, y, r = centre[0], centre[1], thing.radius * scale
    if thing.kind == "ball":
        pen.disc(centre, r, shade(thing.colour, 0.75))
        pen.disc((x - 0.15 * r, y - 0.15 * r), 0.8 * r, thing.colour)
    elif thing.kind == "box":
        pen.box(x - r, y - 0.8 * r, x + r, y + 0.8 * r, thing.colour)
        pen.box(x - 0.2 * r, y - 0.8 * r, x + 0.2 * r, y + 0.8 * r, shade(thing.colour, 0.65))
    else:
        pen.box(x - 0.6 * r, y - 0.6 * r, x + 0.6 * r, y + r, thing.colour)
        pen.box(x - 0.25 * r, y - 1.3 * r, x + 0.25 * r, y - 0.6 * r, shade(thing.colour, 0.6))


def _draw_torso(pen: Pen, body: Body, shoulders: Array, hips: Array, scale: float) -> None:
    upper, lower = 0.042 * body.thickness * scale, 0.045 * body.thickness * scale
    pen.polygon([shoulders[0], shoulders[1], hips[1], hips[0]], body.shirt)
    pen.limb(hips[0], hips[1], lower, lower, body.trousers)
    for shoulder, hip in zip(shoulders, 0.85 * hips + 0.15 * shoulders, strict=True):
        pen.limb(shoulder, hip, upper, lower, body.shirt)
    pen.limb(shoulders[0], shoulders[1], upper, upper, body.shirt)


def _draw_head(pen: Pen, body: Body, joints: Joints, view: View) -> None:
    radius = body.head * view.height
    hair, eyes, top, nape = (
        [-0.25, 0.25, 0],
        [[0.85, 0.1, 0.35], [0.85, 0.1, -0.35]],
        [0.25, 0.75, 0],
        [-0.35, -0.8, 0],
    )
    marks = np.array([hair, *eyes, top, nape])
    places, _ = view.project(joints.head + body.head * marks)
    centre, chest = view.project(np.stack([joints.head, joints.chest]))[0]
    pen.limb(chest, centre, 0.45 * radius, 0.45 * radius, shade(body.skin, 0.85))
    if body.hair_style != "bald":
        pen.disc(places[0], radius * 0.98, body.hair)
    if body.hair_style == "long":
        pen.limb(places[0], places[4], radius * 0.9, radius * 0.7, body.hair)
    pen.oval(centre, radius * 0.85, radius, body.skin)
    if body.hair_style in ("short", "long"):
        pen.oval(places[3], radius * 0.7, radius * 0.38, body.hair)
    if body.hair_style == "cap":
        pen.oval(places[3], radius * 0.95, radius * 0.42, body.shoes)
    for eye in places[1:3]:
        pen.disc(eye, radius * 0.11, (30, 25, 25))


def _draw_arm(pen: Pen, body: Body, points: Array, scale: float, light: float) -> None:
    width = 0.033 * body.thickness * scale
    skin, sleeve = shade(body.skin, light), shade(body.shirt, light * 0.92)
    pen.limb(points[1], points[2], width * 0.85, width * 0.65, sleeve if body.long_sleeves else skin)
    pen.limb(points[0], points[1], width * 1.05, width * 0.9, sleeve)
    pen.disc(points[2], width * 0.95, skin)


def _draw_leg(pen: Pen, body: Body, points: Array, scale: float, light: float) -> None:
    width = 0.045 * body.thickness * scale
    skin, cloth = shade(body.skin, light), shade(body.trousers, light)
    pen.limb(points[2], points[3], 0.026 * scale, 0.02 * scale, shade(body.shoes, light))
    pen.limb(points[1], points[2], width * 0.8, width * 0.55, cloth if body.long_trousers else skin)
    pen.limb(points[0], points[1], width * 1.15, width * 0.85, cloth)


def _toes(body: Body, joints: Joints) -> Array:
    """Tips of the shoes, (2, 3): level on the ground, square to the shank in the air."""
    ankles, knees = joints.ends[2:], joints.bends[2:]
    shank = (knees - ankles) / (body.leg / 2)
    raised = np.clip((ankles[:, 1:2] - ANKLE) / 0.08, 0.0, 1.0)
    square = np.stack([shank[:, 1], -shank[:, 0], np.zeros(2)], axis=1)
    level = np.array([[1.0, -0.2, 0.0]])
    tips: Array = ankles + 0.085 * (raised * square + (1 - raised) * level)
    return tips


def draw_figure(
    pen: Pen, body: Body, pose: Pose, view: View, thing: Thing | None = None, thing_place: Array | None = None
) -> None:
    """Draw a figure, far parts first, with the object at `thing_place` (3,) among them."""
    joints, scale = joints_of(body, pose), view.height
    limbs = np.stack([joints.roots, joints.bends, joints.ends], axis=1)
    flat, near = view.project(limbs.reshape(-1, 3))
    flat, near = flat.reshape(4, 3, 2), near.reshape(4, 3)
    toes, _ = view.project(_toes(body, joints))
    parts = [(float(near[:, 0].mean()), 4), (float(near[:, 0].mean()) + 0.03, 5)]
    parts += [(float(near[limb].mean()), limb) for limb in range(4)]
    if thing is not None and thing_place is not None:
        spot, spot_near = view.project(thing_place[None])
        parts.append((float(spot_near[0]) - 0.02, 6))
    for _, part in sorted(parts):
        light = 1.0 if part % 2 == 0 else 0.8
        if part < 2:
            _draw_arm(pen, body, flat[part], scale, light)
        elif part < 4:
            _draw_leg(pen, body, np.concatenate([flat[part], toes[part - 2 : part - 1]]), scale, light)
        elif part == 4:
            _draw_torso(pen, body, flat[:2, 0], flat[2:, 0], scale)
        elif part == 5:
            _draw_head(pen, body, joints, view)
        elif thing is not None:
            draw_thing(pen, thing, spot[0], scale)
