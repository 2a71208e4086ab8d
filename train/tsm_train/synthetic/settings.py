"""What an action depends on: the state of the figure, its body's setting, and its manner."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tsm_train.synthetic.figure import Body


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What lasts between actions: whether the figure is seated, and whether the object is in its hand."""

    seated: bool
    holding: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BodySetting:
    """What stays the same in a video: body, seat, and where the object waits.

    Args:
        body: the figure's body.
        seat_height: of the hip above the seat's ground, in leg lengths.
        seat_distance: of the seated hip behind the feet, in leg lengths.
        carrier: the hand that carries the object, 0 near or 1 far.
        thing_height: of the hand that grasps the object, in standing heights.
        squat: share of bent knees (1) against a bent back (0) when reaching down.
        stance: half the distance of the feet, in leg lengths.
    """

    body: Body
    seat_height: float
    seat_distance: float
    carrier: int
    thing_height: float
    squat: float
    stance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How one instance is done; drawn from one distribution for all actions.

    Args:
        amplitude: of the whole movement, about 1.
        rate_hertz: of repeated movement, before the action's own factor.
        phase: radians, of repeated movement.
        side: 0 near or 1 far, the free hand that waves and the foot that kicks.
        bow: radians by which the trunk bows while sitting down or standing up.
    """

    amplitude: float
    rate_hertz: float
    phase: float
    side: int
    bow: float


def random_setting(rng: np.random.Generator, body: Body) -> BodySetting:
    """Draw the setting of one video."""
    return BodySetting(
        body=body,
        seat_height=rng.uniform(0.44, 0.56),
        seat_distance=rng.uniform(0.42, 0.52),
        carrier=int(rng.integers(2)),
        thing_height=rng.choice([0.075, rng.uniform(0.14, 0.24)]),
        squat=rng.uniform(0.3, 0.9),
        stance=rng.uniform(0.10, 0.17),
    )


def random_manner(rng: np.random.Generator) -> Manner:
    """Draw the manner of one instance."""
    return Manner(
        amplitude=rng.uniform(0.85, 1.15),
        rate_hertz=rng.uniform(0.8, 1.3),
        phase=rng.uniform(0.0, 2 * math.pi),
        side=int(rng.integers(2)),
        bow=rng.uniform(0.35, 0.75),
    )
