"""Stand-ins that the runtime's tests share: results, and a model that knows bright from dark."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends import BlockingBackend, Scores
from tsm_runtime.clips import ClipSpec
from tsm_runtime.outputs import Result, SceneScore
from tsm_runtime.pipeline import Member
from tsm_runtime.segments import BACKGROUND, Segment

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


def brightness_member(interval_seconds: float = 0.5, num_frames: int = 4, size: int = 32) -> Member:
    spec = ClipSpec(interval_seconds=interval_seconds, num_frames=num_frames, size=size)
    return Member(backend=BrightnessBackend(), spec=spec, action_labels=ACTIONS, scene_labels=SCENES)
