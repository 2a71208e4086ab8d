"""The ONNX files of a bundle: the graph of the checkpoint in each precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from tsm_export.accuracy import OnnxBackend, accuracy_reports
from tsm_export.footage import Validation, calibration_videos, validation_videos
from tsm_export.graphs.frame_outputs import add_frame_outputs
from tsm_export.graphs.from_checkpoint import (
    HALF_WEIGHTS_TOLERANCE,
    PARITY_TOLERANCE,
    compare,
    export_fp32,
    halve_weights,
)
from tsm_export.graphs.half import to_half
from tsm_export.graphs.moved_channels import separate_moved_channels
from tsm_export.graphs.online import compare_online, export_online
from tsm_export.graphs.parity import PARITY_BATCH_SIZES
from tsm_export.graphs.preprocess import preprocess_graph
from tsm_export.quantization.calibration import calibration_clips, looks_of
from tsm_export.quantization.quantize import QuantizedModel, calibrate, quantize
from tsm_export.quantization.ranges import Target as QuantizeTarget
from tsm_export.request import ExportRequest
from tsm_runtime.backends.online import ONLINE_MODEL
from tsm_runtime.bundle.bundle import CLIP_MODEL, GPU_MODEL
from tsm_runtime.bundle.manifest import ModelFile, sha256
from tsm_runtime.bundle.reports import QuantizationReport
from tsm_runtime.errors import CheckError, UsageError
from tsm_runtime.verification.clip_sets import noise_clips
from tsm_runtime.verification.tolerances import TOLERANCES
from tsm_runtime.video.preprocess import PREPROCESS_MODEL
from tsm_train.training.checkpoint import Checkpoint

OnnxFiles = dict[str, tuple[bytes, ModelFile]]
"""Bytes and manifest entry of each ONNX file, by its name in the bundle."""

HALF_MODEL = "model.fp16.onnx"

Precision = Literal["fp32", "fp16", "int8", "int8-trt"]


INT8_TOLERANCE = 0.6
"""Largest difference of a probability on real clips. Near a decision eight bits move it by 0.1 to 0.3 in good
models too (largest seen: 0.31); `--validate` measures the effect on mAP."""


def onnx_files(
    checkpoint: Checkpoint, request: ExportRequest, *, for_plans: bool = False
) -> tuple[OnnxFiles, list[str]]:
    """Return the ONNX files of a request, each compared with the checkpoint in PyTorch, and warnings.

    Args:
        checkpoint: what to export.
        request: precisions, calibration and validation data, opset.
        for_plans: plans are built of them: then int8 also comes in the symmetric form that TensorRT takes,
            and fp32, if it is named, in the form of GPUs too (`GPU_MODEL`) where that is another.

    Raises:
        CheckError: the scores of a graph differ from those of the checkpoint.
        UsageError: the checkpoint's weights do not fit its configuration, or videos are missing.
    """
    if "int8" in request.precisions and checkpoint.config.sound_alone is not None:
        raise UsageError(
            "--engine int8: a network of sound alone has no INT8 form, as it takes less time than its log-mel"
            " frames; leave int8 out"
        )
    calibration = _calibration_videos(checkpoint, request)
    validation = _validation(checkpoint, request)
    plain = export_fp32(checkpoint, opset=request.opset)
    noise = noise_clips(checkpoint.config.clip_spec, sum(PARITY_BATCH_SIZES)).frames
    finished = _Finisher(checkpoint, frame_outputs=request.frame_outputs)
    files = _fp32_files(finished, plain, noise, request, for_gpus=for_plans)
    warnings = []
    if request.half:
        try:
            files[HALF_MODEL] = finished(to_half(plain), "fp16", noise, TOLERANCES["fp16"].max_abs_error)
        except CheckError as error:
            if not request.tries_half:
                raise
            warnings.append(f"{HALF_MODEL} is left out, and a GPU runs fp32: {error}")
    if calibration:
        clips = calibration_clips(calibration, looks_of(checkpoint.config))
        files |= _quantised(finished, plain, clips, ("cpu", "trt") if for_plans else ("cpu",))
    if validation is not None:
        files = _with_accuracy(files, checkpoint, validation)
    if _runs_online(checkpoint):
        online = export_online(checkpoint, opset=request.opset)
        parity = compare_online(checkpoint, online, noise)
        files[ONLINE_MODEL] = (
            online,
            ModelFile(sha256=sha256(online), precision="fp32", kind="online", parity=parity),
        )
    if checkpoint.config.sound_alone is None:
        pictures = preprocess_graph(checkpoint.config.clip.size, opset=request.opset)
        files[PREPROCESS_MODEL] = (
            pictures,
            ModelFile(sha256=sha256(pictures), precision="fp32", kind="preprocess"),
        )
    return files, warnings


def _fp32_files(
    finished: _Finisher, plain: bytes, noise: npt.NDArray[np.uint8], request: ExportRequest, *, for_gpus: bool
) -> OnnxFiles:
    """Return the fp32 file in the CPU's form and, for fp32 on GPUs, in theirs where that is another."""
    graphs = {CLIP_MODEL: separate_moved_channels(plain)}
    if for_gpus and "fp32" in request.precisions and graphs[CLIP_MODEL] != plain:
        graphs[GPU_MODEL] = plain
    if not request.half_weights:
        return {name: finished(data, "fp32", noise, PARITY_TOLERANCE) for name, data in graphs.items()}
    return {
        name: finished(halve_weights(data), "fp32", noise, HALF_WEIGHTS_TOLERANCE)
        for name, data in graphs.items()
    }


def _runs_online(checkpoint: Checkpoint) -> bool:
    return checkpoint.config.model.shift and checkpoint.config.model.shift_direction == "past"


def _calibration_videos(checkpoint: Checkpoint, request: ExportRequest) -> list[Path]:
    """Return the videos for int8 before anything is computed, so that missing ones are reported first."""
    return (
        calibration_videos(checkpoint.config.data, request.calibrate) if "int8" in request.precisions else []
    )


def _validation(checkpoint: Checkpoint, request: ExportRequest) -> Validation | None:
    return None if request.validate is None else validation_videos(checkpoint.config.data, request.validate)


@dataclass(frozen=True, slots=True)
class _Finisher:
    """Completes a graph of clips: adds the outputs per frame, where requested, and compares with PyTorch."""

    checkpoint: Checkpoint
    frame_outputs: bool

    def __call__(
        self, data: bytes, precision: Precision, clips: npt.NDArray[np.uint8], tolerance: float
    ) -> tuple[bytes, ModelFile]:
        """Return the file and its manifest entry.

        Raises:
            CheckError: it differs from the checkpoint by more than the tolerance.
        """
        if self.frame_outputs:
            data = add_frame_outputs(data)
        parity = compare(self.checkpoint, data, clips, tolerance=tolerance, frame_outputs=self.frame_outputs)
        return data, ModelFile(sha256=sha256(data), precision=precision, parity=parity)


def _quantised(
    finished: _Finisher, plain: bytes, clips: npt.NDArray[np.uint8], targets: Sequence[QuantizeTarget]
) -> OnnxFiles:
    calibration = calibrate(plain, clips)
    spread = clips[np.linspace(0, len(clips) - 1, sum(PARITY_BATCH_SIZES)).astype(int)]
    files: OnnxFiles = {}
    for target in targets:
        quantised = quantize(calibration, target=target)
        precision: Precision = "int8" if target == "cpu" else "int8-trt"
        data, file = finished(quantised.data, precision, spread, INT8_TOLERANCE)
        files[f"model.{precision}.onnx"] = (
            data,
            msgspec.structs.replace(file, quantization=_report(quantised)),
        )
    return files


def _report(quantised: QuantizedModel) -> QuantizationReport:
    return QuantizationReport(
        num_clips=quantised.num_clips,
        num_held_out=quantised.num_held_out,
        range_rule=quantised.range_rule,
        noise=quantised.noise,
        noise_before=quantised.noise_before,
        left_out=quantised.left_out,
    )


def _with_accuracy(files: OnnxFiles, checkpoint: Checkpoint, validation: Validation) -> OnnxFiles:
    """Add to the entry of each file its accuracy in comparison with fp32, the first file."""
    backends = {name: OnnxBackend(data) for name, (data, _) in files.items()}
    spec, rules = checkpoint.config.clip_spec, checkpoint.segment_rules
    reports = accuracy_reports(backends, checkpoint.labels, spec, validation, rules)
    return {
        name: (data, msgspec.structs.replace(file, accuracy=reports.get(name)))
        for name, (data, file) in files.items()
    }
