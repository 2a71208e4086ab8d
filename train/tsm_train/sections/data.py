"""The section `[data]`: the annotated videos."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from tsm_runtime.errors import UsageError
from tsm_runtime.video.crop import Crop
from tsm_train.sections.values import NotNegative, Section

DataFormat = Literal["auto", "activitynet", "x360", "csv", "via", "mmaction2", "segments"]
View = Literal["panoramic", "third_person", "monocular", "binocular"]


class DataConfig(Section, frozen=True):
    """The annotated videos. Relative paths start at the folder of the configuration file.

    Either `root`, a folder in the layout of 360+x or one that holds `ground_truth.json`, `annotations.csv` or
    `via.json` beside `videos/`; or `annotations` and `videos`.
    """

    root: str = ""
    format: DataFormat = "auto"
    """`auto`: by what is there; `segments`: any other format of docs/formats.md."""
    annotations: str = ""
    """A file, or a folder with a file per video, in any format of docs/formats.md."""
    tiers: tuple[str, ...] = ()
    """Of ELAN: the tiers to read. Empty: all that depend on no other."""
    unannotated: Literal["leave_out", "background"] = "leave_out"
    """What videos are that a project (of VIA, BORIS, Label Studio) lists without any entry."""
    columns: str = ""
    """Of a CSV of any shape: `video=NAME,start=NAME,end=NAME,label=NAME[,unit=seconds|ms|frames]`, see
    docs/formats.md."""
    frame_rate: Annotated[float, msgspec.Meta(ge=0)] = 0
    """Frames per second of annotations whose times are numbers of frames. 0: as the file states."""
    first_frame: int = 0
    """Number of a video's first frame in names and columns."""
    point_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0
    """Length of a segment for an event at a point in time. 0: points are left out."""
    attribute: str = ""
    """Of CVAT, VIA 2 and EPIC: the attribute or column that holds the label."""
    background_labels: tuple[str, ...] = ("background",)
    """Of labels of frames: the names of the background."""
    videos: str = ""
    """Folder that holds `<video id>.mp4` (or another container)."""
    scenes: str = ""
    """CSV `video,scene`, which goes before the scenes of the annotations."""
    split: str = ""
    """File of `tsm-inspect --write-split`, which goes before the subsets of the annotations."""
    fold: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Which fold of a split into folds is the validation, counted from 0."""
    training_subset: str = "training"
    validation_subset: str = "validation"
    capture_pattern: str = ""
    """Regular expression whose group 1 is the recording in a video's id, where several videos show one.
    Empty: every video is a recording of its own. (360+x has its own rule.)"""
    views: Annotated[tuple[View, ...], msgspec.Meta(min_length=1)] = ("panoramic",)
    """Of 360+x; the paper's is panoramic."""
    eyes: Literal["left", "right", "both"] = "left"
    """Which half of a binocular video is seen; both: each is a sample."""
    labels: tuple[str, ...] = ()
    """Actions to learn, in the order of the model's outputs; others become background. Empty: all that occur,
    sorted by code point."""
    label_map: dict[str, str] = msgspec.field(default_factory=dict)
    """New names of labels, applied first; equal names merge, an empty one drops the label."""
    accept: tuple[str, ...] = ()
    """Kinds of problem, as tsm-inspect prints them, that do not keep from training."""
    rate: NotNegative = 0.0
    """Frames per second of videos that hold no times, such as raw MJPEG; others ignore it. 0: 25, with a
    warning."""
    cache: str = ""
    """Folder of the decoded frames; empty: `tsm-tal` in the user's cache folder."""

    @property
    def crop(self) -> Crop:
        """The half of a picture that the trained model is to see; of models for both eyes the left."""
        if set(self.views) != {"binocular"}:
            return ""
        return "left" if self.eyes == "both" else self.eyes


def check_data(data: DataConfig, where: str) -> None:
    """Check that the keys go together.

    Args:
        data: the section.
        where: begins the message of an error.

    Raises:
        UsageError: names the keys.
    """
    if data.root and (data.annotations or data.videos):
        raise UsageError(f"{where}: give `root`, or `annotations` and `videos`, not both")
    if not (data.root or (data.annotations and data.videos)):
        missing = "videos" if data.annotations else "annotations"
        raise UsageError(f"{where}: `{missing}` is missing; give `root`, or `annotations` and `videos`")
    if data.format == "x360" and not data.root:
        raise UsageError(f"{where}: the format x360 takes `root`, the folder that holds panoramic/")
    for key in ("views", "labels"):
        values: tuple[str, ...] = getattr(data, key)
        if twice := next((value for value in values if values.count(value) > 1), None):
            raise UsageError(f"{where}: {key} names {twice!r} twice")
    try:
        groups = re.compile(data.capture_pattern).groups
    except re.error as error:
        raise UsageError(f"{where}: capture_pattern {data.capture_pattern!r}: {error}") from error
    if data.capture_pattern and groups != 1:
        raise UsageError(
            f"{where}: capture_pattern {data.capture_pattern!r}: expected one group, as '^(.+)_cam'"
        )
