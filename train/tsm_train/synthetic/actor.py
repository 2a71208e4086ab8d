"""A figure that acts in a video: its own plan, body, seat and object, and its place on the stage."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from tsm_train.synthetic.figure import (
    HANDS,
    HIP,
    Array,
    Pose,
    Thing,
    View,
    draw_figure,
    random_body,
    random_thing,
)
from tsm_train.synthetic.pen import Pen
from tsm_train.synthetic.places import Stage
from tsm_train.synthetic.plan import FRAMES_PER_SECOND, IDLE_FRAMES, Step, random_plan
from tsm_train.synthetic.poses import Sway, holding_at, pose_at, rest_pose, stillness_at, thing_place
from tsm_train.synthetic.settings import BodySetting, random_setting

MOST_FIGURES = 2
_SHARED_HEIGHT = 0.75
"""Height of a figure that shares the picture, relative to one that is alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """A figure and all that is fixed of it for one video.

    Args:
        plan: what it does, step after step.
        setting: its body, and where its seat and its object are.
        view: how it stands on the stage.
        sway: its small movements.
        thing: its object.
        waiting_place: (3,) of the object that is not in the hand.
    """

    plan: list[Step]
    setting: BodySetting
    view: View
    sway: Sway
    thing: Thing
    waiting_place: Array


def random_actor(
    plan_rng: np.random.Generator,
    figure_rng: np.random.Generator,
    frames: int,
    stage: Stage,
    *,
    number: int = 0,
    figures: int = 1,
    short: float = 0.0,
) -> Actor:
    """Draw a figure and what it does.

    Args:
        plan_rng: chance of what it does.
        figure_rng: chance of what it looks like.
        frames: of the video.
        stage: where it stands.
        number: of this figure among all, from 0.
        figures: 1 or 2. Two stand side by side and idle up to twice as long, so that they act now alone and
            now at the same time.
        short: share of very short actions.
    """
    body = random_body(figure_rng)
    setting, thing = random_setting(figure_rng, body), random_thing(figure_rng)
    view, sway = _random_view(figure_rng, stage), Sway(figure_rng)
    if figures > 1:
        view = _beside(view, stage, number)
    return Actor(
        plan=random_plan(plan_rng, frames, short=short, longest_idle=figures * IDLE_FRAMES[1]),
        setting=setting,
        view=view,
        sway=sway,
        thing=thing,
        waiting_place=thing_place(setting, None),
    )


def _random_view(rng: np.random.Generator, stage: Stage) -> View:
    return View(
        x=rng.uniform(0.38, 0.62) * stage.width,
        y=rng.uniform(0.86, 0.94) * stage.height,
        height=rng.uniform(0.62, 0.74) * stage.height,
        yaw=math.radians(rng.uniform(12, 50)),
        mirrored=bool(rng.random() < 0.5),
    )


def _beside(view: View, stage: Stage, number: int) -> View:
    """Move a view from the middle of the stage to its left (0) or right half (1), further away."""
    middle = (0.28 + 0.44 * number) * stage.width
    return replace(view, x=middle + 0.5 * (view.x - 0.5 * stage.width), height=_SHARED_HEIGHT * view.height)


def _fidget(pose: Pose, step: Step, progress: float, setting: BodySetting) -> Pose:
    """Raise a free hand a little while idling, as if to look at a watch."""
    hand = 1 - setting.carrier if step.before.holding else step.manner.side
    pose = pose.copy()
    raised = 0.8 * step.manner.amplitude * math.sin(math.pi * progress) ** 2
    pose[HANDS][hand] += (np.array([0.5, -0.45, 0.0]) - pose[HANDS][hand]) * raised
    return pose


def _frame_pose(actor: Actor, step: Step, frame: int) -> tuple[Pose, bool]:
    """Pose in a frame, and whether the object is in the hand."""
    # Frames are sampled at their middle: a reversed action shows the same moments in reversed order.
    progress = (frame - step.start + 0.5) / (step.stop - step.start)
    setting, before = actor.setting, step.before
    if step.action is None:
        pose, holding, stillness = rest_pose(setting, before), before.holding, 0.0
        if step.fidgets:
            pose = _fidget(pose, step, progress, setting)
    else:
        seconds = (step.stop - step.start) / FRAMES_PER_SECOND
        pose = pose_at(
            step.action, progress, seconds=seconds, setting=setting, before=before, manner=step.manner
        )
        holding, stillness = holding_at(step.action, progress, before), stillness_at(step.action, progress)
    seated = float(np.clip(-pose[HIP, 0] / setting.seat_distance, 0.0, 1.0))
    return pose + actor.sway.at(frame / FRAMES_PER_SECOND, seated) * (1.0 - stillness), holding


def draw_actor(pen: Pen, actor: Actor, step: Step, frame: int) -> None:
    """Draw a figure with its shadow and its object, in a frame of one of its steps."""
    pose, holding = _frame_pose(actor, step, frame)
    view, place = actor.view, thing_place(actor.setting, pose) if holding else actor.waiting_place
    shadow = view.project(np.array([[pose[HIP, 0] * 0.25, 0.0, 0.0]]))[0][0]
    pen.oval(shadow, 0.2 * view.height, 0.04 * view.height, (0, 0, 0, 70))
    draw_figure(pen, actor.setting.body, pose, view, actor.thing, place)
