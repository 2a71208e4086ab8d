"""Distractors: things that move behind the figure and have nothing to do with what it does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tsm_train.synthetic.figure import Body, Pose, View, draw_figure, random_body
from tsm_train.synthetic.pen import Colour, Pen, random_colour, shade
from tsm_train.synthetic.places import Stage
from tsm_train.synthetic.poses import Sway, rest_pose
from tsm_train.synthetic.settings import BodySetting, State, random_setting

_KINDS = {
    "room": ("ball", "cat", "butterfly", "bystander"),
    "street": ("ball", "bird", "car", "bystander"),
    "park": ("ball", "bird", "cat", "bystander"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Passer:
    """Something that crosses the picture every `period_seconds` or, as a bystander, may stand in it.

    Args:
        kind: one of the kinds of its scene.
        ground: stage pixels of the line on which it moves.
        size: stage pixels, about half its height.
        period_seconds: from one crossing to the next.
        crossing_seconds: time it takes from left to right.
        delay_seconds: how long before the video's start the first crossing began.
        leftwards: crosses from right to left.
        stands_at: stage pixels of a bystander that stays; None for what crosses.
    """

    kind: str
    ground: float
    size: float
    period_seconds: float
    crossing_seconds: float
    delay_seconds: float
    leftwards: bool
    stands_at: float | None
    colour: Colour
    body: Body
    setting: BodySetting
    sway: Sway


def random_passers(rng: np.random.Generator, scene: str, stage: Stage) -> list[Passer]:
    """Draw none, one or two distractors that fit a scene."""
    count = int(rng.choice([0, 1, 2], p=[0.25, 0.45, 0.3]))
    kinds = [str(kind) for kind in rng.choice(_KINDS[scene], size=count, replace=False)]
    return [_random_passer(rng, kind, stage) for kind in kinds]


def _random_passer(rng: np.random.Generator, kind: str, stage: Stage) -> Passer:
    ground = stage.horizon + rng.uniform(0.02, 0.2) * (stage.height - stage.horizon)
    if kind in ("bird", "butterfly"):
        ground = rng.uniform(0.08, 0.35) * stage.height
    elif kind == "ball":
        ground = stage.horizon + rng.uniform(0.2, 0.75) * (stage.height - stage.horizon)
    size = {"ball": 0.035, "bird": 0.03, "butterfly": 0.02, "car": 0.11, "cat": 0.05, "bystander": 0.16}[kind]
    slow = 3.0 if kind in ("bystander", "cat") else 1.0
    crossing = slow * rng.uniform(2.0, 4.5)
    body = random_body(rng)
    stands = kind == "bystander" and rng.random() < 0.5
    beside = float(rng.choice([rng.uniform(0.04, 0.2), rng.uniform(0.8, 0.96)]))
    return Passer(
        kind=kind,
        ground=ground,
        size=size * stage.height * rng.uniform(0.85, 1.25),
        period_seconds=crossing + rng.uniform(2.0, 8.0),
        crossing_seconds=crossing,
        delay_seconds=rng.uniform(0.0, 12.0),
        leftwards=bool(rng.random() < 0.5),
        stands_at=beside * stage.width if stands else None,
        colour=random_colour(rng, saturation=(0.2, 0.9), value=(0.2, 0.95)),
        body=body,
        setting=random_setting(rng, body),
        sway=Sway(rng),
    )


def draw_passer(pen: Pen, passer: Passer, stage: Stage, seconds: float) -> None:
    """Draw a distractor at a time of the video, if it is in the picture."""
    way = ((seconds + passer.delay_seconds) % passer.period_seconds) / passer.crossing_seconds
    reach = 2.5 * passer.size
    x = stage.left - reach + way * (stage.right - stage.left + 2 * reach)
    if passer.leftwards:
        x = stage.width - x
    if passer.stands_at is not None:
        _draw_bystander(pen, passer, passer.stands_at, seconds, walking=False)
    elif way <= 1.0 and passer.kind == "bystander":
        _draw_bystander(pen, passer, x, seconds, walking=True)
    elif way <= 1.0:
        _DRAW[passer.kind](pen, passer, x, seconds)


def _draw_ball(pen: Pen, passer: Passer, x: float, seconds: float) -> None:
    r = passer.size
    hop = abs(math.sin(3.0 * seconds + passer.delay_seconds)) * r
    turn = (-1 if passer.leftwards else 1) * 4.0 * seconds
    pen.oval((x, passer.ground), r, 0.3 * r, (0, 0, 0, 60))
    centre = (x, passer.ground - r - hop)
    pen.disc(centre, r, passer.colour)
    spot = (centre[0] + 0.5 * r * math.cos(turn), centre[1] + 0.5 * r * math.sin(turn))
    pen.disc(spot, 0.35 * r, (240, 240, 235))


def _draw_bird(pen: Pen, passer: Passer, x: float, seconds: float) -> None:
    r, beat = passer.size, math.sin(2 * math.pi * 3.0 * seconds)
    y = passer.ground + 1.5 * r * math.sin(1.3 * seconds + passer.delay_seconds)
    pen.oval((x, y), 0.6 * r, 0.3 * r, passer.colour)
    for side in (-1, 1):
        wing = [(x - 0.3 * r, y), (x + 0.3 * r, y), (x + side * 1.3 * r, y - beat * r)]
        pen.polygon(wing, shade(passer.colour, 0.8))


def _draw_car(pen: Pen, passer: Passer, x: float, seconds: float) -> None:
    r, y = passer.size, passer.ground
    pen.oval((x, y), 1.9 * r, 0.15 * r, (0, 0, 0, 80))
    pen.box(x - 1.8 * r, y - 0.9 * r, x + 1.8 * r, y - 0.2 * r, passer.colour)
    roof = ((-1.1, 0.9), (-0.7, 1.5), (0.6, 1.5), (1.1, 0.9))
    pen.polygon([(x + across * r, y - up * r) for across, up in roof], shade(passer.colour, 0.85))
    pen.box(x - 0.65 * r, y - 1.4 * r, x + 0.55 * r, y - 0.95 * r, (190, 215, 230))
    for wheel in (x - 1.1 * r, x + 1.1 * r):
        pen.disc((wheel, y - 0.22 * r), 0.32 * r, (25, 25, 28))
        pen.disc((wheel, y - 0.22 * r), 0.14 * r, (170, 170, 175))


def _draw_cat(pen: Pen, passer: Passer, x: float, seconds: float) -> None:
    r, y, way = passer.size, passer.ground, -1 if passer.leftwards else 1
    for i, foot in enumerate((-0.8, -0.5, 0.5, 0.8)):
        swing = 0.25 * r * math.sin(9.0 * seconds + i * math.pi * 0.75)
        top, tip = (x + foot * r, y - 0.7 * r), (x + foot * r + swing, y)
        pen.limb(top, tip, 0.13 * r, 0.1 * r, shade(passer.colour, 0.8))
    pen.limb((x - 0.75 * r, y - 0.85 * r), (x + 0.75 * r, y - 0.85 * r), 0.33 * r, 0.33 * r, passer.colour)
    pen.disc((x + way * 1.15 * r, y - 1.2 * r), 0.33 * r, passer.colour)
    tail = (x - way * 1.5 * r, y - 1.6 * r + 0.3 * r * math.sin(2.0 * seconds))
    pen.limb((x - way * 0.9 * r, y - r), tail, 0.1 * r, 0.07 * r, passer.colour)


_DRAW = {"ball": _draw_ball, "bird": _draw_bird, "butterfly": _draw_bird, "car": _draw_car, "cat": _draw_cat}


def _walking_pose(passer: Passer, seconds: float) -> Pose:
    pose = rest_pose(passer.setting, State(seated=False, holding=False))
    for limb in (0, 1):
        stride = 2 * math.pi * 0.9 * seconds + limb * math.pi
        pose[4 + limb, 0] = 0.36 * math.sin(stride)
        pose[4 + limb, 1] = 0.12 * max(0.0, math.cos(stride))
        pose[2 + limb, 0] = -0.3 * math.sin(stride)
    pose[0, 1] = 0.93
    return pose


def _draw_bystander(pen: Pen, passer: Passer, x: float, seconds: float, *, walking: bool) -> None:
    view = View(x=x, y=passer.ground, height=2 * passer.size, yaw=0.3, mirrored=passer.leftwards)
    pose = rest_pose(passer.setting, State(seated=False, holding=False))
    if walking:
        pose = _walking_pose(passer, seconds)
    draw_figure(pen, passer.body, pose + passer.sway.at(seconds, seated=0.0), view)
