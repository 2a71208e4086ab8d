"""What happens in a video: a random sequence of actions that a seat, an object and two hands allow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tsm_runtime.results import Segment
from tsm_train.synthetic.poses import ACTIONS, REVERSED_PAIRS
from tsm_train.synthetic.settings import Manner, State, random_manner

FRAMES_PER_SECOND = 25
ACTION_FRAMES = (30, 80)
REVERSED_FRAMES = (18, 30)
"""Of actions that only their direction distinguishes: quick enough for it to show within half a second."""
SHORT_FRAMES = (5, 10)
"""Of any action that is done very quickly: shorter than an interval of half a second."""
IDLE_FRAMES = (15, 62)
_REVERSED = {action for pair in REVERSED_PAIRS for action in pair}
# Chosen so that the classes come out about equally often, although states do not allow all of them.
_WEIGHTS = (
    dict.fromkeys(ACTIONS, 1.0)
    | {"waving": 0.5, "standing up": 1.3}
    | {"picking up": 2.2, "putting down": 2.2, "clapping": 1.5}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Frames [start, stop) of one action, or of idling (`action` is None), begun in the state `before`."""

    action: str | None
    start: int
    stop: int
    before: State
    manner: Manner
    fidgets: bool = False


def allowed_actions(state: State) -> list[str]:
    """Actions that a state allows, in the order of `ACTIONS`."""
    allowed = {"waving"}
    if not state.holding:
        allowed.add("clapping")
    if state.seated:
        allowed.add("standing up")
    else:
        allowed |= {"sitting down", "jumping", "kicking", "putting down" if state.holding else "picking up"}
    return [action for action in ACTIONS if action in allowed]


def state_after(action: str | None, state: State) -> State:
    """State that an action leaves behind."""
    if action in ("sitting down", "standing up"):
        return State(seated=action == "sitting down", holding=state.holding)
    if action in ("picking up", "putting down"):
        return State(seated=state.seated, holding=action == "picking up")
    return state


def _choose(rng: np.random.Generator, state: State, done: dict[str, int]) -> str:
    """Draw an allowed action, likelier the less often it was done in this video."""
    allowed = allowed_actions(state)
    weights = np.array([_WEIGHTS[action] * 4.0 ** -done[action] for action in allowed])
    return str(rng.choice(allowed, p=weights / weights.sum()))


def random_plan(
    rng: np.random.Generator, frames: int, *, short: float = 0.0, longest_idle: int = IDLE_FRAMES[1]
) -> list[Step]:
    """Draw steps that cover frames [0, `frames`): idling and actions in turn, idling first and last.

    The last idling is longer than the others may be when no further action fits.

    Args:
        rng: where chance comes from.
        frames: of the video.
        short: share of the actions that last `SHORT_FRAMES`.
        longest_idle: frames between two actions, at most.
    """
    state = State(seated=bool(rng.random() < 0.22), holding=bool(rng.random() < 0.45))
    done = dict.fromkeys(ACTIONS, 0)
    steps: list[Step] = []
    now = 0
    while True:
        gap = int(rng.integers(IDLE_FRAMES[0], longest_idle + 1))
        room = frames - now - gap - IDLE_FRAMES[0]
        last = room < ACTION_FRAMES[0]
        stop = frames if last else now + gap
        fidgets = bool(rng.random() < 0.35)
        manner = random_manner(rng)
        steps.append(Step(action=None, start=now, stop=stop, before=state, manner=manner, fidgets=fidgets))
        if last:
            return steps
        action = _choose(rng, state, done)
        least, most = REVERSED_FRAMES if action in _REVERSED else ACTION_FRAMES
        if (
            short and rng.random() < short
        ):  # without short actions no number is drawn: the plan stays as it was
            least, most = SHORT_FRAMES
        length = min(room, int(rng.integers(least, most + 1)))
        now = stop + length
        steps.append(Step(action=action, start=stop, stop=now, before=state, manner=random_manner(rng)))
        done[action] += 1
        state = state_after(action, state)


def true_segments(plans: Iterable[Iterable[Step]]) -> list[Segment]:
    """Return what is true of a video with a figure for each plan, by start, end and label.

    Segments of different actions overlap where figures act at the same time. Where figures do the same action
    at the same time, or one right after the other, their union is one segment.
    """
    steps = sorted(
        (step.action, step.start, step.stop) for plan in plans for step in plan if step.action is not None
    )
    merged: list[tuple[str, int, int]] = []
    for action, start, stop in steps:
        if merged and merged[-1][0] == action and start <= merged[-1][2]:
            merged[-1] = (action, merged[-1][1], max(stop, merged[-1][2]))
        else:
            merged.append((action, start, stop))
    segments = [
        Segment(label=action, start_seconds=start / FRAMES_PER_SECOND, end_seconds=stop / FRAMES_PER_SECOND)
        for action, start, stop in merged
    ]
    return sorted(segments, key=lambda s: (s.start_seconds, s.end_seconds, s.label))
