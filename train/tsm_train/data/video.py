"""`TrainingVideo`: one annotated video as training, validation and the export take it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from tsm_runtime.results import Segment
from tsm_runtime.video.crop import Crop


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingVideo:
    """One picture stream to learn from: a video, or the part of it that one eye or window sees.

    Args:
        video_id: unique among all videos of a run; both eyes of a video are two, and windows four.
        path: the file.
        capture: recording that the video is a view of. All of a capture is in one subset.
        view: `panoramic`, `third_person`, `monocular`, `binocular`; empty where a data set has none.
        subset: `training`, `validation`, or what the annotations call it.
        segments: in seconds of this file, moved by the offset; none ends before the file begins.
        scene: of the capture; None where it is unknown.
        offset_seconds: where the file begins on the capture's time line, which is that of the annotations.
        crop: the part of the picture that is used; empty: all of it.
        rate: frames per second of a file that holds no times; None: assumed, with a warning.
        duration_seconds: length, where it was looked up; see `data.lengths` for how.

    Raises:
        ValueError: no id, or an offset that is not finite.
    """

    video_id: str
    path: Path
    capture: str
    view: str = ""
    subset: str
    segments: tuple[Segment, ...]
    scene: str | None = None
    offset_seconds: float = 0.0
    crop: Crop = ""
    rate: float | None = None
    duration_seconds: float | None = None

    def __post_init__(self) -> None:
        if not (self.video_id and self.capture):
            raise ValueError(f"{self.path}: a video needs an id and a capture, got {self}")
        if not math.isfinite(self.offset_seconds):
            raise ValueError(f"{self.path}: offset {self.offset_seconds}; expected finite seconds")
