"""The sections `[model]`, `[clip]` and `[segments]`: the network, its input, and the use of its scores."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tsm_runtime.bundle.manifest import ShiftDirection
from tsm_runtime.video.panorama import Projection
from tsm_train.sections.values import Count, NotNegative, Positive, Section

BackboneName = Literal[
    "resnext101_32x8d",
    "resnext101_64x4d",
    "resnet50",
    "mobilenet_v2",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "audio",
]


class ModelConfig(Section, frozen=True):
    """The network."""

    backbone: BackboneName = "efficientnet_lite0"
    """`audio`: the convolutions of `[audio]`, over sound alone; videos need no pictures."""
    width_mult: Positive = 1.0
    """Only for mobilenet_v2."""
    pretrained: str = ""
    """`imagenet`, `demo` (the embedded demo model), a file, or empty for random weights. Of the demo model
    and of checkpoints of tsm-train, outputs whose labels this run has too are taken over as well."""
    head: Literal["softmax", "sigmoid"] = "softmax"
    """`softmax`: an interval is of one action or background; `sigmoid`: of any number of actions."""
    scene_head: bool = True
    """false: actions alone, the paper's single-task models, even where the videos have scenes."""
    shift: bool = True
    shift_direction: ShiftDirection = "both"
    """`past`: no frame sees a later one, so that the model can also be exported for one frame at a time."""
    fold_div: Annotated[int, msgspec.Meta(ge=2)] = 8
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.5


class ClipConfig(Section, frozen=True):
    """What the model sees of an interval."""

    interval_seconds: Positive = 0.5
    num_frames: Count = 8
    size: Annotated[int, msgspec.Meta(ge=32)] = 256
    window_seconds: NotNegative = 0.0
    """Frames are taken from so many seconds around the interval's middle; 0: from the interval."""
    projection: Projection = ""
    """`equirectangular`: panoramas are seen as windows of 120 degrees in front, right, back, left, each
    a view of its own; `perspective`: the same, 110 degrees as a usual camera sees them; empty: whole
    pictures."""


class SegmentsConfig(Section, frozen=True):
    """How scores become segments, in validation and in the bundle; training does without. 0: off."""

    stride_seconds: NotNegative = 0.0
    """From one interval to the next, a whole part of the interval."""
    smoothing_seconds: NotNegative = 0.0
    """Width of the moving average of the scores."""
    min_duration_seconds: NotNegative = 0.0
    """Shorter segments are dropped."""
