"""The sections `[head]`, `[audio]` and `[views]`: what is trained after the backbone, on its features."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tsm_runtime.audio.spec import SoundSpec
from tsm_train.sections.values import Count, NotNegative, Positive, Section, Share


class HeadConfig(Section, frozen=True):
    """The temporal head: a small network over the features of all frames of a video.

    It is trained after the backbone, on features that are computed once.
    """

    epochs: Count = 60
    """Each shows as many windows as cover all passes over the training videos."""
    batch_size: Count = 8
    """Windows of a step."""
    window_seconds: Positive = 20.0
    """Length of a window."""
    learning_rate: Positive = 0.002
    """Largest of the cycle."""
    weight_decay: NotNegative = 0.01
    width: Annotated[int, msgspec.Meta(ge=8)] = 96
    """Channels of the convolutions."""
    receptive_seconds: Positive = 4.0
    """Shortest receptive field: dilations double until it is reached."""
    causal: bool = False
    """Frames see earlier frames alone, so that a stream needs no look-ahead for the head."""
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.3
    input_dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.5
    """Of the features."""
    members: Count = 1
    """So many heads with different seeds, whose outputs are averaged, in one graph."""
    label_smoothing: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.05
    focal_gamma: NotNegative = 0.0
    """As `train.focal_gamma`, of the frames."""
    hard_background: Share = 0.0
    """As `train.hard_background`, of the frames of a step."""
    distance_weight: NotNegative = 0.5
    """Of the loss of the distances to start and end."""
    actionness_weight: NotNegative = 0.2
    """Of the loss of the actionness."""
    passes: Count = 4
    """Passes of the backbone over each training video: the first as in deployment, the others with another
    begin, crop, mirror and colours, as `[augment]` says."""
    folds: Annotated[int, msgspec.Meta(ge=0)] = 0
    """0: the validation videos choose the decoding. K, 2 or more: the training videos choose it, each scored
    by a further head that was trained on the other folds; then the validation videos choose nothing."""
    speed: Annotated[float, msgspec.Meta(ge=1, le=4)] = 1.15
    """A training window plays up to so many times as fast or as slow; 1: at its own speed."""


class AudioConfig(Section, frozen=True):
    """The sound branch: a small network over log-mel frames, whose features join those of the pictures.

    It is trained after the backbone, on features that are computed once. Without sound the scores are those
    of the pictures. With `model.backbone = "audio"` there are no pictures: `[train]` says how its
    convolutions are trained, and of this section the input, the width and `pretrained` count.
    """

    channels: Literal[1, 2] = 1
    """2: also by how much the left channel is louder than the right one."""
    window_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=60)] = 1.0
    """Of sound around the middle of an interval."""
    num_bands: Annotated[int, msgspec.Meta(ge=8, le=256)] = 64
    """Of the mel scale, from 125 to 7500 Hz."""
    track: str = ""
    """Number of the audio track from 0, or its language; empty: the best one."""
    epochs: Count = 30
    batch_size: Annotated[int, msgspec.Meta(ge=2)] = 64
    """Intervals of a step."""
    learning_rate: Positive = 0.003
    """Largest of the cycle."""
    weight_decay: NotNegative = 0.01
    width: Annotated[int, msgspec.Meta(ge=4)] = 16
    """Channels of the first convolution."""
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.3
    picture_dropout: Share = 0.3
    """Share of the training intervals of which only the sound is used (modality dropout)."""
    pretrained: str = ""
    """`audio.safetensors` of another run, whose convolutions are taken over; empty: random weights."""

    @property
    def spec(self) -> SoundSpec:
        """How sound is cut, as the runtime knows it."""
        return SoundSpec(
            channels=self.channels,
            window_seconds=self.window_seconds,
            num_bands=self.num_bands,
            track=self.track,
        )


class ViewsConfig(Section, frozen=True):
    """The joint model of views: features of all views of a moment, joined before the heads.

    It is trained after the backbone, on features that are computed once. Views are those of `data.views`,
    both eyes, and the windows of `clip.projection`; any of them may be missing.
    """

    join: Literal["attention", "mean"] = "attention"
    """How features are weighted: by what they show, or evenly."""
    view_dropout: Share = 0.3
    """Share of the views that are left out in training; one of a moment stays."""
    epochs: Count = 30
    batch_size: Count = 64
    """Moments of a step."""
    learning_rate: Positive = 0.003
    """Largest of the cycle."""
    weight_decay: NotNegative = 0.01
    hidden: Annotated[int, msgspec.Meta(ge=4)] = 128
    """Units of its layers."""
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.3
