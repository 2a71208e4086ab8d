"""A model ready to run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

from tsm_runtime.backends.base import Backend
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import UsageError
from tsm_runtime.models.frame_stream import FrameStream
from tsm_runtime.models.sound_branch import SoundBranch, SoundStream
from tsm_runtime.models.temporal_head import TemporalHead
from tsm_runtime.models.view_join import ViewJoin
from tsm_runtime.segments.decoding.settings import Decoding, DecodingMethod
from tsm_runtime.segments.rules import SegmentRules
from tsm_runtime.video.crop import Crop
from tsm_runtime.video.finding import PANORAMIC
from tsm_runtime.video.panorama import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A model ready to run: its backend and what its scores mean.

    Args:
        backend: scores clips.
        spec: the clips it takes.
        action_labels, scene_labels: of its scores.
        rules: how its scores become segments.
        name: name in messages, if several models run.
        view: view of the videos that it processes, see `VideoInput`.
        weight: weight in an ensemble, above 0.
        head: scores the frames of a video by their features; None: the bundle has no temporal head.
        decoding: how the scores of frames become segments; None: segments are made of the scores of clips.
        sound: scores intervals by their sound, too; None: the bundle has no sound branch.
        joint: scores the views of a moment together, those of all members that share it; None: each view is
            scored on its own.
        windows: windows of a panorama, each scored as a view of its own; empty: the whole picture.
        temperature: temperature of its segments' scores in an ensemble, see `fusion.calibration`.
    """

    backend: Backend
    spec: ClipSpec
    action_labels: tuple[str, ...]
    scene_labels: tuple[str, ...] = ()
    rules: SegmentRules = field(default_factory=SegmentRules)
    name: str = ""
    view: str = ""
    weight: float = 1.0
    temperature: float = 1.0
    head: TemporalHead | None = None
    decoding: Decoding | None = None
    sound: SoundBranch | None = None
    windows: tuple[Window, ...] = ()
    joint: ViewJoin | None = None

    def frame_stream(self, *, at_once: bool = False) -> FrameStream | None:
        """Return the stream that scores the frames of one video; None if segments are made from clips.

        Args:
            at_once: as in `FrameStream.of`.
        """
        return None if self.decoding is None else FrameStream.of(self.spec, self.head, at_once=at_once)

    def sound_stream(self, video: Path) -> SoundStream | None:
        """Return the stream that scores intervals of one video with their sound, or None."""
        if self.sound is None:
            return None
        return SoundStream(self.sound, self.spec, video, self.head_hears)

    @property
    def head_hears(self) -> bool:
        """Whether the temporal head takes the embedding of the sound branch."""
        return self.head is not None and self.head.with_sound

    def by_window(self) -> list[Self]:
        """Return a member for each window of a panorama, or one for the whole picture of another view."""
        if not self.windows:
            return [self]
        crops: tuple[Crop, ...] = self.windows if self.view in ("", PANORAMIC) else ("",)
        return [replace(self, windows=(), spec=replace(self.spec, crop=crop)) for crop in crops]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Values that replace settings of a bundle; None: the bundle's setting, 0: off.

    Args:
        smoothing_seconds, min_duration_seconds: see `post_processing.SegmentRules`.
        window_seconds, stride_seconds: see `clips.ClipSpec`.
        decoding: how segments are made: a method of `Decoding` for the scores of frames, or `clips` for the
            merge of the scores of clips.
        flip: score each clip also mirrored, and take the mean.
    """

    smoothing_seconds: float | None = None
    min_duration_seconds: float | None = None
    window_seconds: float | None = None
    stride_seconds: float | None = None
    decoding: DecodingMethod | Literal["clips"] | None = None
    flip: bool = False

    def apply(self, spec: ClipSpec, rules: SegmentRules) -> tuple[ClipSpec, SegmentRules]:
        """Return a model's settings with these overrides applied.

        Raises:
            UsageError: a value is out of range for this model; the message begins with the option.
        """
        try:
            return (
                replace(
                    spec,
                    window_seconds=_given(self.window_seconds, spec.window_seconds),
                    stride_seconds=_given(self.stride_seconds, spec.stride_seconds),
                ),
                replace(
                    rules,
                    smoothing_seconds=_given(self.smoothing_seconds, rules.smoothing_seconds),
                    min_duration_seconds=_given(self.min_duration_seconds, rules.min_duration_seconds),
                ),
            )
        except ValueError as error:
            raise UsageError(f"--{error}") from error


def _given(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
