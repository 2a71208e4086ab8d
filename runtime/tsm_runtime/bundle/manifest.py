"""Manifest of a bundle: the models, their inputs and outputs, and their measurements."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from tsm_runtime.audio.spec import SoundSpec
from tsm_runtime.bundle.reports import (
    AccuracyReport,
    FileVerification,
    ParityReport,
    QuantizationReport,
    Verification,
)
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.segments.decoding.settings import Decoding
from tsm_runtime.segments.rules import SegmentRules
from tsm_runtime.video.convert import RESIZE_FLAG
from tsm_runtime.video.crop import Crop
from tsm_runtime.video.panorama import Projection, windows_of

MANIFEST = "manifest.json"

FORMAT_VERSION = 7
"""2 since models carry an engine, an accuracy or a verification; 3 since there are a view, a crop, a sigmoid
head, settings of window, stride, smoothing and shortest duration, and preprocess.onnx; 4 since there are
outputs per frame, a temporal head and a sound branch; 5 since plans name their fp32 layers; 6 since there are
panoramas, and labels that a mirror image exchanges, or in which they mean nothing; 7 since there are models
of sound alone and windows of panoramas in perspective."""


PICTURES_VERSION = 6
"""Of bundles of models that take pictures, so that earlier programs read them."""


HardwareCompatibility = Literal["none", "ampere_plus", "same_compute_capability"]
"""Which GPUs a plan also runs on: any from compute capability 8.0 on, or other models of the same one."""


Head = Literal["softmax", "sigmoid"]
"""Whether an interval has one action of all, or each action on its own."""


ShiftDirection = Literal["both", "past"]
"""Which frames a shifted channel comes from: the next and the previous one, or the previous one alone."""


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Origin and target of a plan, which is native code of one library and one kind of GPU."""

    library: Literal["tensorrt", "tensorrt_rtx"]
    version: str
    gpu: str = ""
    """Name of the GPU it was built on; empty: built without one."""
    compute_capabilities: tuple[str, ...] = ()
    """As "9.0"; several where it was built for several; empty: the library's default."""
    batch: tuple[int, int, int]
    """Least, best and most clips of one call."""
    onnx_sha256: str
    """Of the ONNX file that it was built from, which is in the same bundle."""
    layer_types: dict[str, int] = {}
    """Number of layer outputs by data type, as reported by the engine inspector."""
    version_compatible: bool = False
    hardware_compatibility: HardwareCompatibility = "none"
    fp32_layers: tuple[str, ...] = ()
    """Layers of an FP16 network that were given to the builder in fp32, as it has no FP16 kernel for them."""
    stripped: bool = False
    """The plan holds no weights; they are put in from the ONNX file when it is loaded."""


class ModelFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One model of the bundle."""

    sha256: str
    precision: Literal["fp32", "fp16", "int8", "int8-trt"]
    kind: Literal["clips", "online", "preprocess", "head", "audio", "views"] = "clips"
    """What a call takes: whole clips, or one frame of each and what the model kept of the frames before, or
    the planes of a decoded picture, of which it makes a frame, or the features of a video's frames, or
    those of intervals and their sound, or those of the views of intervals."""
    parity: ParityReport | None = None
    accuracy: AccuracyReport | None = None
    quantization: QuantizationReport | None = None
    """Of an INT8 ONNX file."""
    engine: EngineInfo | None = None
    """Of a plan."""


class TemporalHeadInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The temporal head of a bundle, whose files are `head.<precision>.onnx`."""

    backbone_sha256: str
    """Of `model.fp32.onnx`, on whose features it was trained."""
    context: tuple[int, int]
    """Frames before and after a frame that its scores depend on."""
    with_sound: bool = False
    """It takes the features of a frame with the embedding of the sound branch behind them."""
    metrics: dict[str, float] = {}
    """mAP of validation videos, 0 to 1: `cv_map` is that of cross-validation over videos."""

    def __post_init__(self) -> None:
        if min(self.context) < 0:
            raise ValueError(f"context {self.context}: expected 0 or more frames on both sides")


class SoundInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sound branch of a bundle, whose file is `audio.fp32.onnx`."""

    backbone_sha256: str
    """Of `model.fp32.onnx`, on whose features it was trained."""
    spec: SoundSpec
    """Sound input of an interval."""
    embedding_dim: int = 0
    """Width E of the output `embedding`, what is heard in an interval; 0: there is none."""
    metrics: dict[str, float] = {}
    """Of validation videos, 0 to 1: `map` with sound, `muted_map` with all sound left out."""


class ViewsInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The joint model of views of a bundle, whose file is `views.fp32.onnx`."""

    backbone_sha256: str
    """Of `model.fp32.onnx`, on whose features it was trained."""
    join: Literal["attention", "mean"]
    """How it weights the views."""
    metrics: dict[str, float] = {}
    """Of validation captures, 0 to 1: `map` with all views, `single_map` the mean over single views."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """All that is needed to run the models and to read their outputs."""

    format_version: int
    action_labels: tuple[str, ...]
    """In the order of the scores; a softmax head has `background` last, a sigmoid head has none."""
    scene_labels: tuple[str, ...] = ()
    """Empty: the model has no scene head."""
    head: Head = "softmax"
    thresholds: tuple[float, ...] = ()
    """Of a sigmoid head, one for each action label: an interval has the label from this score on."""
    interval_seconds: float
    num_frames: int
    size: int
    """Edge of a picture; 0: the models take sound alone."""
    window_seconds: float = 0.0
    """Frames are taken from so many seconds around an interval's middle; 0: from the interval."""
    stride_seconds: float = 0.0
    """Distance between the starts of intervals; 0: they do not overlap."""
    smoothing_seconds: float = 0.0
    """Width of the moving average of action scores; 0: none."""
    min_duration_seconds: float = 0.0
    """Shorter segments are dropped; 0: none."""
    resize: str = RESIZE_FLAG
    view: str = ""
    """Views of the training data, such as `panoramic`, comma-separated; empty: not stated."""
    crop: Crop = ""
    """The half of the video's picture that the model sees, as of one eye of a binocular recording."""
    projection: Projection = ""
    """Of panoramas, whose windows the model sees one by one."""
    flip_pairs: tuple[tuple[str, str], ...] = ()
    """Action labels that a mirror image exchanges."""
    never_flip: tuple[str, ...] = ()
    """Action labels that mean nothing in a mirror image."""
    feature_dim: int = 0
    """Width D of the pooled features of a frame, where models of clips also give `frame_action_scores`
    (N, T, A) and `features` (N, T, D); 0: they do not."""
    backbone: str
    shift: bool = True
    shift_direction: ShiftDirection = "both"
    temporal_head: TemporalHeadInfo | None = None
    """None: segments are made of the scores of clips."""
    decoding: Decoding | None = None
    """How the scores of frames become segments; None: segments are made of the scores of clips."""
    sound: SoundInfo | None = None
    """Sound branch; None: the models use pictures only, or sound alone."""
    sound_input: SoundSpec | None = None
    """Input of models of sound alone, see `audio.pictures`; None: the models take pictures."""
    views: ViewsInfo | None = None
    """Joint model of views; None: each view is scored on its own."""
    files: dict[str, ModelFile]
    built_with: dict[str, str] = {}
    checkpoint: dict[str, str | float | int] = {}
    """Where the weights come from: run name, epoch, validation scores, SHA-256 of the checkpoint."""
    verifications: tuple[Verification, ...] = ()
    """What tsm-verify found, the newest last. Not part of the bundle's identity."""

    @property
    def clip_spec(self) -> ClipSpec:
        """Input of the models; of panoramas that of the window in front."""
        return ClipSpec(
            interval_seconds=self.interval_seconds,
            num_frames=self.num_frames,
            size=self.size,
            crop=next(iter(windows_of(self.projection)), self.crop),
            window_seconds=self.window_seconds,
            stride_seconds=self.stride_seconds,
            sound=self.sound_input,
        )

    @property
    def segment_rules(self) -> SegmentRules:
        """Rules that turn the models' scores into segments."""
        return SegmentRules(
            thresholds=self.thresholds,
            smoothing_seconds=self.smoothing_seconds,
            min_duration_seconds=self.min_duration_seconds,
        )


_STRUCTS = (
    Manifest,
    ModelFile,
    ParityReport,
    AccuracyReport,
    QuantizationReport,
    EngineInfo,
    Verification,
    FileVerification,
    TemporalHeadInfo,
    SoundInfo,
    SoundSpec,
)
_KNOWN_KEYS = [key for struct in _STRUCTS for key in struct.__struct_fields__]


def sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes as hexadecimal text."""
    return hashlib.sha256(data).hexdigest()


_LATER_SETTINGS = (("decoding", "temperature", 1.0), ("temporal_head", "with_sound", False))
"""Section, key and default of what earlier versions did not write; at the default it is left out."""


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the text of `manifest.json`; settings that are newer than a bundle leave its identity alone."""
    raw = msgspec.to_builtins(manifest)
    for section, name, default in _LATER_SETTINGS:
        if raw.get(section, {}).get(name) == default:
            del raw[section][name]
    return msgspec.json.format(msgspec.json.encode(raw), indent=1) + b"\n"
