"""What a manifest reports of its model files: parity, accuracy, quantization, and verifications."""

from __future__ import annotations

import msgspec


class ParityReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model file compared with the checkpoint in PyTorch when it was written."""

    batch_sizes: tuple[int, ...]
    max_abs_error: dict[str, float]
    """Per output, over probabilities."""
    tolerance: float
    top1_agreement: dict[str, float]
    """Per output, 0 to 1."""


class AccuracyReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model file scores on annotated videos, beside what the fp32 model scores on the same ones."""

    subset: str
    num_videos: int
    num_clips: int
    scores: dict[str, float]
    """Keys as in `tsm_train.training.validation.score_results`, 0 to 1."""
    fp32_scores: dict[str, float]
    top1_agreement: dict[str, float]
    """Per output: share of clips on which both models say the same, 0 to 1."""
    same_segments: float | None = None
    """Share of both models' segments that the other has too, label and bounds equal; None where neither finds
    one. Where it is 1, scores differ because confidences that lie close together have changed their order."""


class QuantizationReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an INT8 file came about."""

    num_clips: int
    """Real clips that the ranges of activations are from."""
    num_held_out: int
    """Further clips, on which `noise` was measured."""
    range_rule: str
    noise: float
    """Of the logits, relative to their own spread."""
    noise_before: float
    """The same before layers were left out."""
    left_out: tuple[str, ...] = ()
    """Layers that stay in fp32, because the held-out clips showed the need."""


class FileVerification(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model file on one machine compared with the fp32 ONNX file on onnxruntime's CPU provider."""

    file: str
    sha256: str
    backend: str
    """What ran it: library, version, device."""
    input: str
    """`noise`, or the name of the video whose frames were taken."""
    num_clips: int
    max_abs_error: dict[str, float]
    """Per output, over probabilities."""
    max_rel_error: dict[str, float]
    top1_agreement: dict[str, float]
    """Per output, 0 to 1."""
    segment_agreement: float | None = None
    """Share of either model's segments that the other has too (tIoU over 0.5, same label). None for noise."""
    tolerance: float
    passed: bool
    problems: tuple[str, ...] = ()
    """What is beyond tolerance, or what kept the file from being compared."""


class Verification(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run of tsm-verify."""

    date: str
    machine: str
    files: tuple[FileVerification, ...]
    not_run: dict[str, str] = {}
    """File to the reason why this machine cannot run it."""
