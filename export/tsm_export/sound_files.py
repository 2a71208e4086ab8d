"""The sound branch of a checkpoint, as a file of a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from tsm_export.graphs.from_checkpoint import PARITY_TOLERANCE, export_graph
from tsm_export.graphs.parity import (
    PARITY_BATCH_SIZES,
    Outputs,
    Signature,
    name_outputs,
    report_parity,
    require_signature,
)
from tsm_export.graphs.session import open_session
from tsm_export.request import DEFAULT_OPSET, ExportRequest
from tsm_runtime.bundle.manifest import Manifest, ModelFile, SoundInfo, sha256
from tsm_runtime.bundle.reports import ParityReport
from tsm_runtime.errors import UsageError
from tsm_train.audio.checkpoint import SOUND_FILE, SoundCheckpoint, load_sound
from tsm_train.audio.network import SoundProbabilities
from tsm_train.head.checkpoint import weights_sha256
from tsm_train.training.checkpoint import Checkpoint

_INPUTS = ("features", "log_mel", "is_heard")


def find_sound(checkpoint: Checkpoint, path: Path, request: ExportRequest) -> SoundCheckpoint | None:
    """Return the sound branch that lies beside a checkpoint, or None.

    Raises:
        UsageError: it is damaged, has other labels, or was trained on the features of another backbone; or
            the branch needs outputs that the request leaves out.
    """
    sound_path = path.with_name(SOUND_FILE)
    if not sound_path.exists():
        return None
    sound = load_sound(sound_path)
    if sound.labels != checkpoint.labels or sound.backbone_sha256 != weights_sha256(checkpoint.weights):
        raise UsageError(
            f"{sound_path}: was trained on features or labels of another model than {path}; train it again"
        )
    if not request.frame_outputs:
        raise UsageError("--no-frame-scores: the sound branch needs the features of frames")
    return sound


def export_sound(sound: SoundCheckpoint, *, opset: int = DEFAULT_OPSET) -> bytes:
    """Return `audio.fp32.onnx` of a bundle.

    Inputs: `features` float32 (N, D), `log_mel` (N, C, F, M) and `is_heard` (N,). Outputs: `action_scores`
    (N, A), of a model with scenes `scene_scores` (N, S), and `embedding` (N, E). N is free.
    """
    axes = {0: torch.export.Dim("batch", min=1, max=4096)}
    inputs = tuple(torch.from_numpy(value) for value in _random_inputs(sound, 2))
    return export_graph(
        _probabilities(sound), inputs, list(_INPUTS), list(_outputs(sound)), (axes, axes, axes), opset=opset
    )


def sound_file(sound: SoundCheckpoint, request: ExportRequest) -> tuple[bytes, ModelFile]:
    """Return the file, compared with PyTorch, and its entry of the manifest.

    Raises:
        CheckError: the graph does not give what the checkpoint gives.
    """
    data = export_sound(sound, opset=request.opset)
    parity = _compare(sound, data)
    return data, ModelFile(sha256=sha256(data), precision="fp32", kind="audio", parity=parity)


def with_sound(manifest: Manifest, sound: SoundCheckpoint, backbone_sha256: str) -> Manifest:
    """Return the manifest of a bundle that also holds a sound branch."""
    info = SoundInfo(
        backbone_sha256=backbone_sha256,
        spec=sound.config.spec,
        embedding_dim=sound.model().embedding_dim,
        metrics=sound.metrics,
    )
    return msgspec.structs.replace(manifest, sound=info)


def _probabilities(sound: SoundCheckpoint) -> SoundProbabilities:
    sigmoid, scenes = sound.labels.head == "sigmoid", bool(sound.labels.scenes)
    return SoundProbabilities(sound.model(), sigmoid=sigmoid, has_scenes=scenes).eval()


def _outputs(sound: SoundCheckpoint) -> tuple[str, ...]:
    scenes = ("scene_scores",) if sound.labels.scenes else ()
    return ("action_scores", *scenes, "embedding")


def _random_inputs(sound: SoundCheckpoint, count: int) -> tuple[npt.NDArray[np.float32], ...]:
    rng = np.random.default_rng(count)
    features = np.abs(rng.normal(size=(count, sound.feature_dim)))
    log_mel = rng.normal(-2, 2, size=(count, *sound.config.spec.patch_shape))
    is_heard = np.arange(count) % 2
    return tuple(each.astype(np.float32) for each in (features, log_mel, is_heard))


def _compare(sound: SoundCheckpoint, data: bytes) -> ParityReport:
    session, model, names = open_session(data), _probabilities(sound), _outputs(sound)
    kind = "tensor(float)"
    expected: Signature = {
        "features": (kind, [sound.feature_dim]),
        "log_mel": (kind, list(sound.config.spec.patch_shape)),
        "is_heard": (kind, []),
        "action_scores": (kind, [len(sound.labels.actions)]),
        **({"scene_scores": (kind, [len(sound.labels.scenes)])} if sound.labels.scenes else {}),
        "embedding": (kind, [model.branch.embedding_dim]),
    }
    require_signature(session, expected)

    def pairs() -> Iterator[tuple[Outputs, Outputs]]:
        for size in PARITY_BATCH_SIZES:
            inputs = _random_inputs(sound, size)
            with torch.inference_mode():
                want = name_outputs(names, model(*map(torch.from_numpy, inputs)))
            yield want, name_outputs(names, session.run(list(names), dict(zip(_INPUTS, inputs, strict=True))))

    return report_parity(pairs(), tolerance=PARITY_TOLERANCE)
