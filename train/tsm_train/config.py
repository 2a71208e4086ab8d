"""The one TOML file of a run, read strictly: an unknown key is an error that names the nearest known one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from tsm_runtime.audio.spec import SoundSpec
from tsm_runtime.bundle.manifest import ShiftDirection
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import UsageError
from tsm_runtime.segments.rules import SegmentRules
from tsm_runtime.strict import read_toml, strict
from tsm_runtime.video.crop import Crop
from tsm_runtime.video.panorama import WINDOWS, Projection
from tsm_runtime.wording import counted

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
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
DataFormat = Literal["auto", "activitynet", "x360", "csv", "via", "mmaction2", "segments"]
View = Literal["panoramic", "third_person", "monocular", "binocular"]
FolderName = Annotated[str, msgspec.Meta(pattern=r"^[^./\\][^/\\]*$")]
"""Not empty, no slash, no dot in front: the run's folder must lie inside the output folder."""


_DATA_PATHS = ("root", "annotations", "videos", "scenes", "split", "cache")


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: frozen, by keyword, strict."""


class DataConfig(_Section, frozen=True):
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
    label_map: dict[str, str] = {}
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


class ModelConfig(_Section, frozen=True):
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


class ClipConfig(_Section, frozen=True):
    """What the model sees of an interval."""

    interval_seconds: Positive = 0.5
    num_frames: Count = 8
    size: Annotated[int, msgspec.Meta(ge=32)] = 256
    window_seconds: NotNegative = 0.0
    """Frames are taken from so many seconds around the interval's middle; 0: from the interval."""
    projection: Projection = ""
    """`equirectangular`: panoramas are seen as windows of 120 degrees in front, right, back, left, each
    a view of its own; empty: whole pictures."""


class SegmentsConfig(_Section, frozen=True):
    """How scores become segments, in validation and in the bundle; training does without. 0: off."""

    stride_seconds: NotNegative = 0.0
    """From one interval to the next, a whole part of the interval."""
    smoothing_seconds: NotNegative = 0.0
    """Width of the moving average of the scores."""
    min_duration_seconds: NotNegative = 0.0
    """Shorter segments are dropped."""


class TrainConfig(_Section, frozen=True):
    """SGD and its schedule. The paper states SGD and the learning rate 0.001; the rest is our choice."""

    epochs: Count = 20
    batch_size: Count = 16
    """Clips of a step, of all processes together: the same run on one GPU and on several."""
    learning_rate: Positive = 0.001
    momentum: Share = 0.9
    weight_decay: NotNegative = 1e-4
    warmup_epochs: NotNegative = 1.0
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    step_epochs: tuple[Positive, ...] = ()
    """Of the schedule `step`: epochs trained when the learning rate is multiplied by `step_factor`."""
    step_factor: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.1
    clip_gradient: NotNegative = 20.0
    """Largest norm of the gradient; 0: not clipped."""
    scene_loss_weight: NotNegative = 0.5
    """The loss is that of the actions + this * that of the scenes; a video without scene adds to the first
    alone."""
    frame_loss: NotNegative = 0.0
    """Weight of the per-frame action loss beside that of the clips; 0: none, as in the paper. A frame's label
    is that of its T-th of the clip's window, by coverage."""
    frame_tolerance_seconds: NotNegative = 0.05
    """Frames whose middle is nearer to the start or end of an action do not count in the per-frame loss."""
    label_smoothing: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    """Share of each action target that is spread evenly over all outputs (arXiv 1512.00567, 7)."""
    focal_gamma: NotNegative = 0.0
    """Each action loss is multiplied by (1 - p)^this, p the probability of the truth: what is easy counts
    less (focal loss, arXiv 1708.02002, 3.2); 0: all count alike."""
    hard_background: Share = 0.0
    """Share of the background clips of a batch that count in the action loss, those with the highest loss
    (hard negatives, arXiv 1604.03540, 4); 0: all count."""
    logit_adjustment: NotNegative = 0.0
    """In training this * log(share of the class among the intervals) is added to the logits of a softmax
    head, so that rare classes win by more (arXiv 2007.07314, 3); 0: not."""
    mixup: NotNegative = 0.0
    """Clips of a batch are mixed in pairs, a : 1 - a with a from Beta(this, this), and so are their losses
    (arXiv 1710.09412); 0: not."""
    freeze_bn: Literal["none", "partial", "all"] = "none"
    """Batch norms that keep statistics and weights: `partial` is all but the first, as in TSN and TSM."""
    ema: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    """Decay per step of an average of the weights, which is then what is validated and stored; 0: none."""
    class_balance: Share = 0.0
    """A class of n intervals is shown n^(1 - this) times, relatively: 0 as they are, 1 all equally."""
    background_ratio: NotNegative = 0.0
    """Most background intervals of an epoch, relative to those with action; 0: all there are."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """bf16 and fp16 are mixed precision."""
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 0
    num_workers: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Loading processes on each GPU, and videos decoded at a time."""
    validate_every: Count = 1
    """Epochs between validations; the last epoch is always validated."""

    def __post_init__(self) -> None:
        if (self.schedule == "step") != bool(self.step_epochs):
            raise ValueError("schedule 'step' and step_epochs, as [10, 15], go together")
        if list(self.step_epochs) != sorted(set(self.step_epochs)):
            raise ValueError(f"step_epochs must increase, got {list(self.step_epochs)}")
        if self.step_epochs and self.step_epochs[-1] >= self.epochs:
            raise ValueError(
                f"step_epochs {list(self.step_epochs)}: the run has {counted(self.epochs, 'epoch')}"
            )


class AugmentConfig(_Section, frozen=True):
    """Changes of a training clip, equal for its T frames."""

    flip: Share = 0.5
    """Probability of a mirrored clip."""
    crop_scale: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.7
    """Smallest share of the picture's area that a random crop keeps; 1: no crop."""
    color: Share = 0.2
    """Largest relative change of brightness, contrast and saturation."""
    time_jitter: Share = 0.5
    """Largest move of an interval, in intervals; its label moves along."""
    frame_jitter: Share = 0.0
    """Each frame's largest move within its T-th of the window, in halves of it: 1 is TSN's sampling."""
    flip_pairs: tuple[tuple[str, str], ...] = ()
    """Labels that a mirrored clip exchanges, as [["turning left", "turning right"]]."""
    never_flip: tuple[str, ...] = ()
    """Labels whose clips are never mirrored."""

    def __post_init__(self) -> None:
        named = [label for pair in self.flip_pairs for label in pair] + list(self.never_flip)
        if twice := sorted({label for label in named if named.count(label) > 1}):
            raise ValueError(f"flip_pairs and never_flip name a label twice: {', '.join(twice)}")


class HeadConfig(_Section, frozen=True):
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


class AudioConfig(_Section, frozen=True):
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


class ViewsConfig(_Section, frozen=True):
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


class StoreConfig(_Section, frozen=True):
    """Frames that are decoded once and kept in `data.cache`."""

    format: Literal["raw", "jpeg"] = "raw"
    """`raw` is exact; `jpeg` takes about a tenth of the space and is what large data sets need."""
    quality: Annotated[int, msgspec.Meta(ge=50, le=100)] = 90
    """Of JPEG."""
    size: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Edge of the stored pictures in pixels; 0: an eighth more than `clip.size`, as room for crops."""


class Config(_Section, frozen=True):
    """A run."""

    name: FolderName
    """Of the run's folder."""
    data: DataConfig
    model: ModelConfig = ModelConfig()
    clip: ClipConfig = ClipConfig()
    segments: SegmentsConfig = SegmentsConfig()
    train: TrainConfig = TrainConfig()
    augment: AugmentConfig = AugmentConfig()
    store: StoreConfig = StoreConfig()
    head: HeadConfig | None = None
    """Without this section no temporal head is trained."""
    audio: AudioConfig | None = None
    views: ViewsConfig | None = None
    """Without this section sound is not used."""

    def __post_init__(self) -> None:
        if 0 < self.store.size < self.clip.size:
            raise ValueError(
                f"store.size {self.store.size} is below clip.size {self.clip.size}; pictures are not enlarged"
            )
        if self.model.backbone == "audio":
            _check_sound_alone(self)
        if self.views is not None and not (self.head is None and self.audio is None):
            raise ValueError("[views] goes with neither [head] nor [audio]: leave one of them out")
        if self.views is not None and self.clip.window_seconds > self.clip.interval_seconds:
            raise ValueError("clip.window_seconds with [views]: set it to 0, or leave [views] out")
        if self.audio is not None and self.clip.window_seconds > self.clip.interval_seconds:
            raise ValueError("clip.window_seconds with [audio]: set it to 0, or leave [audio] out")
        if self.train.logit_adjustment and self.model.head == "sigmoid":
            raise ValueError(
                "train.logit_adjustment is for a softmax head; leave it out with model.head sigmoid"
            )
        if self.head is not None and self.clip.window_seconds > self.clip.interval_seconds:
            raise ValueError(
                f"clip.window_seconds {self.clip.window_seconds:g} with [head]: windows that overlap give a"
                " moment several features; set it to 0, or leave [head] out"
            )

    @property
    def sound_alone(self) -> SoundSpec | None:
        """How sound is cut where the model takes nothing else; None: it takes pictures."""
        return self.audio.spec if self.model.backbone == "audio" and self.audio is not None else None

    @property
    def sound_branch(self) -> AudioConfig | None:
        """The sound branch beside a backbone of pictures; None: there is none."""
        return None if self.model.backbone == "audio" else self.audio

    @property
    def clip_spec(self) -> ClipSpec:
        """What the model takes, as the runtime knows it."""
        sound = self.sound_alone
        crop: Crop = WINDOWS[0] if self.clip.projection else self.data.crop
        return ClipSpec(
            interval_seconds=self.clip.interval_seconds,
            num_frames=self.clip.num_frames,
            size=self.clip.size if sound is None else 0,
            crop=crop if sound is None else "",
            window_seconds=self.clip.window_seconds,
            stride_seconds=self.segments.stride_seconds,
            sound=sound,
        )

    @property
    def segment_rules(self) -> SegmentRules:
        """How scores become segments, as the runtime knows it."""
        return SegmentRules(
            smoothing_seconds=self.segments.smoothing_seconds,
            min_duration_seconds=self.segments.min_duration_seconds,
        )


def _check_sound_alone(config: Config) -> None:
    """Raise a ValueError where something is configured that a model of sound alone has not."""
    named = {
        "views": config.views is not None,
        "clip.projection": bool(config.clip.projection),
        "model.shift_direction": config.model.shift_direction != "both",
        "data.eyes of both": config.data.eyes == "both" and "binocular" in config.data.views,
    }
    if config.audio is None:
        raise ValueError("model.backbone 'audio' needs an [audio] section: add one, which may be empty")
    if wrong := [name for name, is_given in named.items() if is_given]:
        raise ValueError(f"model.backbone 'audio' takes sound alone: leave {', '.join(wrong)} out")


def load_config(path: Path, overrides: Sequence[str] = (), *, root: Path | None = None) -> Config:
    """Read a run's TOML file.

    Args:
        path: the file.
        overrides: `section.key=value` texts that replace keys, value in TOML.
        root: where relative paths in the file start; None: at its folder.

    Raises:
        UsageError: unreadable, not TOML, unknown or missing key, value out of range.
    """
    raw = read_toml(path)
    for text in overrides:
        _override(raw, text)
    return config_of(raw, str(path), path.parent if root is None else root)


def config_of(raw: Mapping[str, Any], where: str, root: Path) -> Config:
    """Make a run of what a TOML file holds.

    Args:
        raw: the content.
        where: begins the message of an error.
        root: where relative paths start.

    Raises:
        UsageError: unknown or missing key, value out of range.
    """
    config = strict(raw, Config, where)
    _check_data(config.data, f"{where} [data]")
    try:
        _ = config.clip_spec
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
    return _with_absolute_paths(config, root)


def _check_data(data: DataConfig, where: str) -> None:
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


def _override(raw: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text!r}: expected section.key=value")
    try:
        parsed = msgspec.toml.decode(f"value = {value}")["value"]
    except msgspec.DecodeError:
        parsed = value  # a bare word is text
    *sections, last = key.strip().split(".")
    target = raw
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise UsageError(f"--set {text!r}: {section!r} is not a section")
    target[last] = parsed


def _with_absolute_paths(config: Config, folder: Path) -> Config:
    def absolute(text: str) -> str:
        return str((folder / Path(text).expanduser()).resolve()) if text else ""

    data, model, audio = config.data, config.model, config.audio
    return msgspec.structs.replace(
        config,
        data=msgspec.structs.replace(
            data,
            **{key: absolute(getattr(data, key)) for key in _DATA_PATHS},
        ),
        model=model
        if model.pretrained in ("", "imagenet", "demo")
        else msgspec.structs.replace(model, pretrained=absolute(model.pretrained)),
        audio=None
        if audio is None
        else msgspec.structs.replace(audio, pretrained=absolute(audio.pretrained)),
    )
