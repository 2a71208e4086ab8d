"""The one TOML file of a run, read strictly: an unknown key is an error that names the nearest known one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from tsm_runtime.audio.spec import SoundSpec
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import UsageError
from tsm_runtime.segments.rules import SegmentRules
from tsm_runtime.strict import read_toml, strict
from tsm_runtime.video.crop import Crop
from tsm_runtime.video.panorama import windows_of
from tsm_train.sections.after_backbone import AudioConfig, HeadConfig, ViewsConfig
from tsm_train.sections.data import DataConfig, check_data
from tsm_train.sections.network import ClipConfig, ModelConfig, SegmentsConfig
from tsm_train.sections.training import AugmentConfig, StoreConfig, TrainConfig
from tsm_train.sections.values import Section

FolderName = Annotated[str, msgspec.Meta(pattern=r"^[^./\\][^/\\]*$")]
"""Not empty, no slash, no dot in front: the run's folder must lie inside the output folder."""

_DATA_PATHS = ("root", "annotations", "videos", "scenes", "split", "cache")


class Config(Section, frozen=True):
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
        crop: Crop = next(iter(windows_of(self.clip.projection)), self.data.crop)
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
    check_data(config.data, f"{where} [data]")
    try:
        _ = config.clip_spec
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
    return _with_absolute_paths(config, root)


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
