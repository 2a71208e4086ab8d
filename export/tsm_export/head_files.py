"""The temporal head of a checkpoint, as files of a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from tsm_export.graphs.from_checkpoint import HALF_WEIGHTS_TOLERANCE, PARITY_TOLERANCE, halve_weights
from tsm_export.graphs.head import compare_head, export_head, halve_head
from tsm_export.onnx_models import OnnxFiles
from tsm_export.request import ExportRequest
from tsm_runtime.bundle.manifest import Manifest, ModelFile, TemporalHeadInfo, sha256
from tsm_runtime.errors import UsageError
from tsm_runtime.segments.decoding.settings import Decoding
from tsm_runtime.verification.tolerances import TOLERANCES
from tsm_train.audio.checkpoint import SoundCheckpoint
from tsm_train.audio.heard_features import heard_identity
from tsm_train.head.checkpoint import HEAD_FILE, HeadCheckpoint, load_head
from tsm_train.training.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOfBundle:
    """The files of a temporal head in a bundle, and their description.

    Args:
        files: bytes and manifest entry of each file.
        info: of the manifest.
        decoding: how its scores become segments.
        thresholds: of a sigmoid head.
    """

    files: OnnxFiles
    info: TemporalHeadInfo
    decoding: Decoding
    thresholds: tuple[float, ...] = ()


def find_head(
    checkpoint: Checkpoint, path: Path, request: ExportRequest, sound: SoundCheckpoint | None
) -> HeadCheckpoint | None:
    """Return the temporal head that lies beside a checkpoint; None if there is none or it is not requested.

    Args:
        checkpoint: the backbone.
        path: its file.
        request: what to write.
        sound: the sound branch beside it, whose outputs the head takes, too.

    Raises:
        UsageError: it is damaged, or was trained on the features of another backbone; or the head needs
            outputs that the request leaves out.
    """
    head_path = path.with_name(HEAD_FILE)
    if not request.head or not head_path.exists():
        return None
    head = load_head(head_path)
    head.require_backbone(heard_identity(checkpoint.weights, sound), str(head_path))
    if head.labels != checkpoint.labels:
        raise UsageError(f"{head_path}: has other labels than {path}; train the head again")
    if not request.frame_outputs:
        raise UsageError("--no-frame-scores: the temporal head needs them; add --no-head")
    return head


def head_files(
    head: HeadCheckpoint, request: ExportRequest, backbone_sha256: str, *, with_sound: bool = False
) -> HeadOfBundle:
    """Return the files of a head, each compared with it in PyTorch.

    Args:
        head: the checkpoint.
        request: precisions, opset, and how fp32 weights are stored. fp16 is written if it is named: the head
            runs on the CPU in any case.
        backbone_sha256: of the bundle's `model.fp32.onnx`.
        with_sound: whether it takes the embedding of a sound branch.

    Raises:
        CheckError: a graph does not give what the checkpoint gives.
    """
    plain = export_head(head, opset=request.opset)
    fp32, tolerance = plain, PARITY_TOLERANCE
    if request.half_weights:
        fp32, tolerance = halve_weights(plain), HALF_WEIGHTS_TOLERANCE
    files: OnnxFiles = {"head.fp32.onnx": _checked(head, fp32, "fp32", tolerance)}
    if "fp16" in request.precisions:
        half = halve_head(plain)
        files["head.fp16.onnx"] = _checked(head, half, "fp16", TOLERANCES["fp16"].max_abs_error)
    info = TemporalHeadInfo(
        backbone_sha256=backbone_sha256,
        context=head.model().context,
        with_sound=with_sound,
        metrics=head.metrics,
    )
    return HeadOfBundle(files=files, info=info, decoding=head.decoding, thresholds=head.thresholds)


def with_head(manifest: Manifest, head: HeadOfBundle) -> Manifest:
    """Return the manifest of a bundle that also holds a head, whose files are among its files already."""
    return msgspec.structs.replace(
        manifest,
        temporal_head=head.info,
        decoding=head.decoding,
        thresholds=head.thresholds or manifest.thresholds,
    )


def _checked(
    head: HeadCheckpoint, data: bytes, precision: Literal["fp32", "fp16"], tolerance: float
) -> tuple[bytes, ModelFile]:
    parity = compare_head(head, data, tolerance=tolerance)
    return data, ModelFile(sha256=sha256(data), precision=precision, kind="head", parity=parity)
