"""Stand-ins that the runtime's tests share: results, and a model that knows bright from dark."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import BlockingBackend, Scores
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import OutOfMemoryError
from tsm_runtime.models.member import Member
from tsm_runtime.results import BACKGROUND, Result, SceneScore, Segment
from tsm_runtime.segments.rules import SegmentRules

ACTIONS = ("dark", "bright", BACKGROUND)
ACTION_CENTRES = (0.1, 0.9, 0.5)
SCENES = ("night", "day")
SCENE_CENTRES = (0.0, 1.0)
SHARPNESS = 40.0
"""A class's score is the softmax of -SHARPNESS * (mean brightness - its centre)^2."""


def seg(label: str, start: float, end: float, score: float = 1.0) -> Segment:
    return Segment(label=label, start_seconds=start, end_seconds=end, score=score)


def result_of(*segments: Segment, video_id: str = "clip", scenes: tuple[SceneScore, ...] = ()) -> Result:
    return Result(
        video_id=video_id,
        segments=segments,
        scenes=scenes,
        interval_seconds=0.5,
        num_intervals=20,
        duration_seconds=10.04,
        complete=True,
        gaps=(),
        corrupt_frames=0,
        warnings=(),
    )


@dataclass
class BrightnessBackend(BlockingBackend):
    """Scores a clip by its mean brightness, whatever the batch size; the tiny bundle computes the same."""

    name: str = "brightness"
    batch_sizes: list[int] = field(default_factory=list)

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        self.batch_sizes.append(len(frames))
        mean = frames.reshape(len(frames), -1).mean(axis=1, dtype=np.float64) / 255
        return Scores(_softmax(mean, ACTION_CENTRES), _softmax(mean, SCENE_CENTRES))


def _softmax(mean: npt.NDArray[np.float64], centres: tuple[float, ...]) -> npt.NDArray[np.float32]:
    weights = np.exp(-SHARPNESS * (mean[:, None] - np.array(centres)) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


FREE = ("dark", "bright", "grey")
"""Labels of a sigmoid head."""
LEAST = (0.001, 0.001, 0.4)
"""Its thresholds. Dark and bright are within 0.415 of their centres, so that grey is dark and bright too."""


@dataclass
class FreeBackend(BrightnessBackend):
    """Scores each action on its own by the mean brightness; the tiny bundle with a sigmoid does the same."""

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        mean = frames.reshape(len(frames), -1).mean(axis=1, dtype=np.float64) / 255
        logits = -SHARPNESS * (mean[:, None] - np.array(ACTION_CENTRES)) ** 2
        return Scores((1 / (1 + np.exp(-logits))).astype(np.float32), super().infer(frames).scene)


def member_of(spec: ClipSpec, **rules: Any) -> Member:
    """Return a member with these rules; with thresholds it has a sigmoid head."""
    made = SegmentRules(**rules)
    backend = FreeBackend() if made.thresholds else BrightnessBackend()
    labels = FREE if made.thresholds else ACTIONS
    return Member(backend=backend, spec=spec, action_labels=labels, scene_labels=SCENES, rules=made)


def brightness_member(interval_seconds: float = 0.5, num_frames: int = 4, size: int = 32) -> Member:
    return member_of(ClipSpec(interval_seconds=interval_seconds, num_frames=num_frames, size=size))


@dataclass(eq=False)
class Submitted:
    """A batch in flight on a `QueueBackend`."""

    frames: npt.NDArray[np.uint8]
    digest: int
    lost: bool = False


class QueueBackend(BrightnessBackend):
    """Scores when the result is fetched, in order; frames must not change before that.

    Args:
        in_flight: as of any backend.
        memory: clips that a batch may have.
        fails_at: where a larger one is refused; all that is in flight is lost with it.
    """

    def __init__(self, in_flight: int = 2, memory: int = 10**9, fails_at: str = "submit") -> None:
        super().__init__(name="queue")
        self.in_flight = in_flight
        self.memory, self.fails_at = memory, fails_at
        self.flying: list[Submitted] = []
        self.most_flying = 0
        self.num_closed = 0

    def submit(self, frames: npt.NDArray[np.uint8]) -> Submitted:  # type: ignore[override]
        if self.fails_at == "submit":
            self._require_memory(frames)
        batch = Submitted(frames, hash(frames.tobytes()))
        self.flying.append(batch)
        self.most_flying = max(self.most_flying, len(self.flying))
        assert len(self.flying) <= self.in_flight
        return batch

    def result(self, batch: Submitted) -> Scores:  # type: ignore[override]
        assert not batch.lost, "lost, and not submitted again"
        assert self.flying[0] is batch, "results are fetched in order"
        assert hash(batch.frames.tobytes()) == batch.digest, "overwritten in flight"
        self._require_memory(batch.frames)
        self.flying.pop(0)
        return super().infer(batch.frames)

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        return self.result(self.submit(frames))

    def close(self) -> None:
        self.num_closed += 1

    def _require_memory(self, frames: npt.NDArray[np.uint8]) -> None:
        if len(frames) <= self.memory:
            return
        for batch in self.flying:
            batch.lost = True
        self.flying.clear()
        raise OutOfMemoryError(f"{len(frames)} clips want too much")


def clips(number: int, num_frames: int = 4, size: int = 32, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return clips of noise over a brightness of each clip's own."""
    rng = np.random.default_rng(seed)
    brightness = rng.integers(0, 200, (number, 1, 1, 1, 1), np.uint8)
    return brightness + rng.integers(0, 56, (number, num_frames, size, size, 3), np.uint8)
