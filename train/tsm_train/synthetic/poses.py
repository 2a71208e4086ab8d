"""What the figure does: the pose at every moment of an action, and idling between actions."""

from __future__ import annotations

import itertools
import math

import numpy as np

from tsm_train.synthetic.figure import FEET, HANDS, HIP, TRUNK, Array, Pose, joints_of
from tsm_train.synthetic.settings import BodySetting, Manner, State

ACTIONS: tuple[str, ...] = (
    "sitting down",
    "standing up",
    "picking up",
    "putting down",
    "waving",
    "jumping",
    "kicking",
    "clapping",
)
REVERSED_PAIRS: tuple[tuple[str, str], ...] = (
    ("sitting down", "standing up"),
    ("picking up", "putting down"),
)
"""The second of a pair is the first in reversed time: only the order of the frames distinguishes them."""
_FORWARD = {backward: forward for forward, backward in REVERSED_PAIRS}


GRASP = 0.25
"""Moment of picking up at which the object enters the hand: reaching is quick, lifting takes its time."""


def _ease(progress: float) -> float:
    """Smooth step from 0 to 1, the same in reversed time."""
    return progress * progress * (3.0 - 2.0 * progress)


def _keyed(progress: float, keys: list[tuple[float, float]]) -> float:
    """Value at a moment between (moment, value) keys, eased from key to key."""
    for (start, first), (stop, last) in itertools.pairwise(keys):
        if progress <= stop:
            return first + (last - first) * _ease((progress - start) / (stop - start))
    return keys[-1][1]


def _outwards(hand: int) -> float:
    return 1.0 if hand == 0 else -1.0


def rest_pose(setting: BodySetting, state: State) -> Pose:
    """Pose of the figure that does nothing in a state."""
    pose = np.zeros((6, 3))
    pose[HIP] = (-setting.seat_distance, setting.seat_height, 0.0) if state.seated else (0.0, 0.975, 0.0)
    pose[TRUNK, 0] = 0.06 if state.seated else 0.02
    for hand in (0, 1):
        side = _outwards(hand)
        pose[2 + hand] = (0.52, -0.62, 0.0) if state.seated else (0.06, -0.95, 0.12 * side)
        if state.holding and hand == setting.carrier:
            pose[2 + hand] = (0.58, -0.38, 0.05 * side) if state.seated else (0.45, -0.6, 0.05 * side)
        pose[4 + hand] = (0.05 * side, 0.0, setting.stance * side)
    return pose


def _low_pose(setting: BodySetting, bend: float) -> Pose:
    """Pose that reaches down; `bend` from 0 (upright) to 1 (as low as it goes)."""
    pose = rest_pose(setting, State(seated=False, holding=False))
    pose[HIP] = (-0.28 * bend, 0.975 - (0.2 + 0.36 * setting.squat) * bend, 0.0)
    pose[TRUNK, 0] = (1.75 - 0.55 * setting.squat) * bend
    carrier = setting.carrier
    pose[2 + carrier] = (0.35, -0.88, -0.15 * _outwards(carrier))
    pose[2 + (1 - carrier)] = (0.25, -0.55, 0.1 * _outwards(1 - carrier))
    return pose


def _grasp_pose(setting: BodySetting) -> Pose:
    """Pose whose carrying hand is at the object's height, found by bisection."""
    low, high = 0.0, 1.0
    for _ in range(20):
        bend = (low + high) / 2
        hand = joints_of(setting.body, _low_pose(setting, bend)).ends[setting.carrier]
        low, high = (bend, high) if hand[1] > setting.thing_height else (low, bend)
    return _low_pose(setting, (low + high) / 2)


def thing_place(setting: BodySetting, pose: Pose | None) -> Array:
    """Place (3,) of the object: in the hand of the figure in `pose`, or (None) where it waits."""
    if pose is None:
        pose = _grasp_pose(setting)
    joints = joints_of(setting.body, pose)
    place: Array = joints.ends[setting.carrier] + np.array([0.012, -0.02, 0.0])
    return place


def _sit(progress: float, setting: BodySetting, before: State, manner: Manner) -> Pose:
    first = rest_pose(setting, State(seated=False, holding=before.holding))
    last = rest_pose(setting, State(seated=True, holding=before.holding))
    eased = _ease(progress)
    pose: Pose = first + (last - first) * eased
    bump = math.sin(math.pi * eased)
    # The hip moves back before it sinks, as a sitter's weight stays above the feet.
    pose[HIP, 0] -= 0.08 * bump
    pose[TRUNK, 0] += manner.bow * bump
    pose[HANDS, 0] += 0.25 * bump
    return pose


def _reach(progress: float) -> float:
    """How far down the hand is while picking up: 0 at both ends, 1 when it grasps the object."""
    return progress / GRASP if progress < GRASP else (1.0 - progress) / (1.0 - GRASP)


def _pick(progress: float, setting: BodySetting, before: State, manner: Manner) -> Pose:
    pose = rest_pose(setting, State(seated=False, holding=progress >= GRASP))
    return pose + (_grasp_pose(setting) - pose) * _ease(_reach(progress))


def _ramp(progress: float, seconds: float, ramp_seconds: float = 0.35) -> float:
    """0 at both ends of an instance, 1 inside, however short it is."""
    ramp_seconds = min(ramp_seconds, 0.4 * seconds)
    return _ease(min(1.0, min(progress, 1.0 - progress) * seconds / ramp_seconds))


def _wave(progress: float, seconds: float, setting: BodySetting, before: State, manner: Manner) -> Pose:
    pose = rest_pose(setting, before)
    hand = 1 - setting.carrier if before.holding else manner.side
    side = _outwards(hand)
    swing = math.sin(2 * math.pi * 1.8 * manner.rate_hertz * progress * seconds + manner.phase)
    swing *= manner.amplitude
    # Arms swing across the line of sight: backwards is outwards in the picture for the near hand.
    raised = np.array([0.18 + 0.26 * swing, 0.72 - 0.1 * swing * swing, 0.25 * side - 0.26 * swing])
    pose[2 + hand] += (raised - pose[2 + hand]) * _ramp(progress, seconds)
    return pose


def _clap(progress: float, seconds: float, setting: BodySetting, before: State, manner: Manner) -> Pose:
    pose = rest_pose(setting, before)
    body = setting.body
    swing = 0.5 - 0.5 * math.cos(2 * math.pi * 2.2 * manner.rate_hertz * progress * seconds + manner.phase)
    for hand in (0, 1):
        side = _outwards(hand)
        apart = -side * body.shoulder / body.arm + side * (0.06 + 0.55 * manner.amplitude * swing)
        target = np.array([0.62 - 0.1 * swing, -0.1, apart])
        pose[2 + hand] += (target - pose[2 + hand]) * _ramp(progress, seconds)
    return pose


def _repetition(progress: float, seconds: float, manner: Manner) -> float:
    """Progress inside the current one of a whole number of repetitions, about one per second."""
    count = max(1, round(seconds * 0.9 * manner.rate_hertz))
    return (progress * count) % 1.0 if progress < 1.0 else 1.0


def _jump(progress: float, seconds: float, setting: BodySetting, before: State, manner: Manner) -> Pose:
    pose = rest_pose(setting, before)
    moment = _repetition(progress, seconds, manner)
    crouch = _keyed(moment, [(0.0, 0.0), (0.2, 1.0), (0.34, 0.0), (0.72, 0.0), (0.84, 0.8), (1.0, 0.0)])
    flight = min(1.0, max(0.0, (moment - 0.32) / 0.42))
    height = 0.36 * manner.amplitude * 4 * flight * (1 - flight)
    pose[HIP, 1] += height - 0.2 * crouch
    pose[HIP, 0] -= 0.1 * crouch
    pose[TRUNK, 0] += 0.4 * crouch
    pose[FEET, 1] += height
    up = _keyed(moment, [(0.0, 0.0), (0.2, -0.25), (0.5, 1.0), (0.84, 0.1), (1.0, 0.0)])
    for hand in (0, 1):
        if not (before.holding and hand == setting.carrier):
            sideways = 0.15 * _outwards(hand)
            pose[2 + hand] += np.array([0.45 * abs(up), 1.35 * max(up, 0.0), sideways * abs(up)])
    return pose


def _kick(progress: float, seconds: float, setting: BodySetting, before: State, manner: Manner) -> Pose:
    pose = rest_pose(setting, before)
    moment = _repetition(progress, seconds, manner)
    along = _keyed(moment, [(0.0, 0.0), (0.28, -0.45), (0.52, 0.78), (0.66, 0.72), (1.0, 0.0)])
    lift = _keyed(moment, [(0.0, 0.0), (0.28, 0.22), (0.4, 0.12), (0.54, 0.62), (0.66, 0.55), (1.0, 0.0)])
    foot = manner.side
    pose[4 + foot] += np.array([along, lift, 0.0]) * manner.amplitude
    pose[TRUNK, 0] -= 0.3 * along
    for hand in (0, 1):
        if not (before.holding and hand == setting.carrier):
            swing = -along if hand == foot else along
            pose[2 + hand] += np.array([0.5 * swing, 0.2 * abs(swing), 0.25 * _outwards(hand) * abs(along)])
    return pose


def pose_at(
    action: str, progress: float, *, seconds: float, setting: BodySetting, before: State, manner: Manner
) -> Pose:
    """Pose inside an action.

    Args:
        action: one of `ACTIONS`.
        progress: from 0 (its start) to 1 (its end).
        seconds: duration of the instance; repeated movement has a rate in time.
        setting: what stays the same in the video.
        before: state in which the action starts; the posture follows from the reversed pairs.
        manner: how this instance is done.

    Raises:
        ValueError: the action is unknown.
    """
    if action in _FORWARD:
        action, progress = _FORWARD[action], 1.0 - progress
    if action == "sitting down":
        return _sit(progress, setting, before, manner)
    if action == "picking up":
        return _pick(progress, setting, before, manner)
    cyclic = {"waving": _wave, "jumping": _jump, "kicking": _kick, "clapping": _clap}
    if action not in cyclic:
        raise ValueError(f"unknown action {action!r}, expected one of {', '.join(ACTIONS)}")
    return cyclic[action](progress, seconds, setting, before, manner)


def holding_at(action: str, progress: float, before: State) -> bool:
    """Whether the object is in the hand at a moment of an action."""
    if action in _FORWARD:
        action, progress = _FORWARD[action], 1.0 - progress
    return progress >= GRASP if action == "picking up" else before.holding


def stillness_at(action: str, progress: float) -> float:
    """Share of idle movement to leave out, 1 while the hand is at the object so that they do not part."""
    if action not in REVERSED_PAIRS[1]:
        return 0.0
    return _reach(1.0 - progress if action in _FORWARD else progress)


_SWAY_SIZE = np.array(
    [[0.022, 0.004, 0.02], [0.035, 0.09, 0.0], [0.05, 0.02, 0.04], [0.05, 0.02, 0.04], [0, 0, 0], [0, 0, 0]]
)


class Sway:
    """Small movement that never stops: breathing, shifting weight, swaying arms, looking around."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rates = np.array([rng.uniform(0.1, 0.25), rng.uniform(0.25, 0.5), rng.uniform(0.5, 0.9)])
        self._phases = rng.uniform(0, 2 * math.pi, (3, 6, 3))
        self._size = _SWAY_SIZE * rng.uniform(0.5, 1.2)

    def at(self, seconds: float, seated: float) -> Pose:
        """Return the change of the pose at a time; as far as `seated` (0 to 1), the hip stays on its seat."""
        angles = 2 * math.pi * self._rates[:, None, None] * seconds + self._phases
        change: Pose = self._size * (np.sin(angles) * np.array([1.0, 0.5, 0.25])[:, None, None]).sum(axis=0)
        change[HIP] *= 1.0 - seated
        return change
