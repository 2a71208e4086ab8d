"""`open_data`: from the `[data]` section of a configuration to videos that can be trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from tsm_runtime.annotations import read_ground_truth
from tsm_runtime.errors import UsageError
from tsm_runtime.terminal import warn
from tsm_train.config import DataConfig
from tsm_train.data.files import find_video
from tsm_train.data.video import TrainingVideo

__all__ = ["TrainingData", "open_data"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """What a run learns from and is scored on."""

    training: tuple[TrainingVideo, ...]
    validation: tuple[TrainingVideo, ...]

    @property
    def actions(self) -> tuple[str, ...]:
        """Labels of the training videos, sorted, without background."""
        return tuple(sorted({segment.label for video in self.training for segment in video.segments}))

    @property
    def scenes(self) -> tuple[str, ...]:
        """Scenes of the training videos, sorted."""
        return tuple(sorted({video.scene for video in self.training if video.scene is not None}))


def open_data(data: DataConfig) -> TrainingData:
    """Read annotations, find the videos.

    Raises:
        UsageError: the annotations do not fit, or an annotated video is missing.
    """
    if data.root:
        root = Path(data.root)
        data = msgspec.structs.replace(
            data, annotations=str(root / "ground_truth.json"), videos=str(root / "videos")
        )
    path = Path(data.annotations)
    truth = read_ground_truth(path)
    for line in truth.warnings:
        warn(line)
    subsets = []
    for name in (data.training_subset, data.validation_subset):
        subset = truth.subset(name)
        if not subset.action_labels:
            raise UsageError(f"{path}: no action is annotated in subset {name!r}")
        subsets.append(subset)
    training, validation = subsets
    if unknown := sorted(set(validation.action_labels) - set(training.action_labels)):
        warn(f"{path}: in validation but not in training, so it cannot be learnt: {', '.join(unknown)}")
    found = [
        tuple(
            TrainingVideo(
                video_id=video.video_id,
                path=find_video(Path(data.videos), video.video_id),
                capture=video.video_id,
                subset=video.subset,
                segments=video.segments,
                scene=video.scene,
            )
            for video in subset.videos
        )
        for subset in subsets
    ]
    return TrainingData(training=found[0], validation=found[1])
