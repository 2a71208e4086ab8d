"""The videos of an ablation: opened once for each interval length, and which of them are reported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tsm_runtime.results import Segment
from tsm_train.ablation.config import Ablation
from tsm_train.data.dataset import TrainingData, open_data
from tsm_train.data.video import TrainingVideo

_TEST_SUBSETS = ("test", "testing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Footage:
    """What members learn from and are judged on.

    Args:
        by_interval: the data as a member with that t sees them.
        reported_subset: `test` or `testing` where the data have one with instances, else the validation.
    """

    by_interval: Mapping[float, TrainingData]
    reported_subset: str

    @property
    def finest(self) -> TrainingData:
        """The data at the smallest t."""
        return self.by_interval[min(self.by_interval)]

    @property
    def validation_subset(self) -> str:
        """Name of the videos that choose epochs, weights and settings."""
        return self.finest.config.validation_subset

    @property
    def is_held_out(self) -> bool:
        """Whether what is reported had no part in any choice."""
        return self.reported_subset != self.validation_subset

    @property
    def subsets(self) -> tuple[str, ...]:
        """Those that members run on, the reported one last."""
        return tuple(dict.fromkeys((self.validation_subset, self.reported_subset)))

    def videos(self, subset: str) -> tuple[TrainingVideo, ...]:
        """Videos of a subset with their true segments, the same for all members."""
        return self.finest.subset(subset)


def open_footage(ablation: Ablation) -> Footage:
    """Read and check the data for all interval lengths of the members.

    Raises:
        UsageError: a file cannot be read, or something would spoil training.
    """
    opened: dict[float, TrainingData] = {}
    for config in ablation.members.values():
        t = config.clip.interval_seconds
        if t not in opened:
            opened[t] = open_data(config.data, t, projection=config.clip.projection)
            opened[t].problems.raise_errors()
    finest = opened[min(opened)]
    used = (finest.config.training_subset, finest.config.validation_subset)
    test = next(
        (
            name
            for name in _TEST_SUBSETS
            if name not in used and any(video.segments for video in finest.subset(name))
        ),
        finest.config.validation_subset,
    )
    return Footage(by_interval=opened, reported_subset=test)


def truth_of(videos: Sequence[TrainingVideo]) -> dict[str, tuple[Segment, ...]]:
    """Return the true segments by video id."""
    return {video.video_id: video.segments for video in videos}


def truth_to_json(videos: Sequence[TrainingVideo]) -> str:
    """ActivityNet ground truth with the labels and times as they were scored, for `tsm-eval`."""
    database = {
        video.video_id: {
            "subset": video.subset,
            "duration": video.duration_seconds,
            **({} if video.scene is None else {"scene": video.scene}),
            "annotations": [
                {"label": s.label, "segment": [s.start_seconds, s.end_seconds]} for s in video.segments
            ],
        }
        for video in videos
    }
    return json.dumps({"version": "tsm-tal 1", "database": database}, ensure_ascii=False, indent=1) + "\n"
