"""The joint model of views of a checkpoint, as a file of a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from tsm_export.graphs.from_checkpoint import PARITY_TOLERANCE, export_graph
from tsm_export.graphs.parity import PARITY_BATCH_SIZES, Outputs, name_outputs, report_parity
from tsm_export.graphs.session import open_session
from tsm_export.request import ExportRequest
from tsm_runtime.bundle.manifest import Manifest, ModelFile, ViewsInfo, sha256
from tsm_runtime.bundle.reports import ParityReport
from tsm_runtime.errors import UsageError
from tsm_train.head.checkpoint import weights_sha256
from tsm_train.training.checkpoint import Checkpoint
from tsm_train.views.checkpoint import VIEWS_FILE, ViewsCheckpoint, load_views

_INPUTS = ("features", "present")
_MOST_VIEWS = 64


def find_views(checkpoint: Checkpoint, path: Path, request: ExportRequest) -> ViewsCheckpoint | None:
    """Return the joint model that lies beside a checkpoint, or None.

    Raises:
        UsageError: it is damaged, has other labels, or was trained on the features of another backbone; or it
            needs outputs that the request leaves out.
    """
    views_path = path.with_name(VIEWS_FILE)
    if not views_path.exists():
        return None
    views = load_views(views_path)
    if views.labels != checkpoint.labels or views.backbone_sha256 != weights_sha256(checkpoint.weights):
        raise UsageError(
            f"{views_path}: was trained on features or labels of another model than {path}; train it again"
        )
    if not request.frame_outputs:
        raise UsageError("--no-frame-scores: the joint model of views needs the features of frames")
    return views


def views_file(views: ViewsCheckpoint, request: ExportRequest) -> tuple[bytes, ModelFile]:
    """Return `views.fp32.onnx` of a bundle, compared with PyTorch, and its entry of the manifest.

    Inputs: `features` float32 (N, V, D) and `present` (N, V). Outputs: `action_scores` (N, A) and, of a model
    with scenes, `scene_scores` (N, S). N and V are free.

    Raises:
        CheckError: the graph does not give what the checkpoint gives.
    """
    axes = {
        0: torch.export.Dim("batch", min=1, max=4096),
        1: torch.export.Dim("views", min=1, max=_MOST_VIEWS),
    }
    inputs = tuple(torch.from_numpy(value) for value in _random_inputs(views, 3, 4))
    data = export_graph(
        views.probabilities(), inputs, list(_INPUTS), list(_outputs(views)), (axes, axes), opset=request.opset
    )
    return data, ModelFile(sha256=sha256(data), precision="fp32", kind="views", parity=_compare(views, data))


def with_views(manifest: Manifest, views: ViewsCheckpoint, backbone_sha256: str) -> Manifest:
    """Return the manifest of a bundle that also holds a joint model of views."""
    info = ViewsInfo(backbone_sha256=backbone_sha256, join=views.config.join, metrics=views.metrics)
    return msgspec.structs.replace(manifest, views=info)


def _outputs(views: ViewsCheckpoint) -> tuple[str, ...]:
    return ("action_scores", "scene_scores") if views.labels.scenes else ("action_scores",)


def _random_inputs(views: ViewsCheckpoint, count: int, num_views: int) -> tuple[npt.NDArray[np.float32], ...]:
    """Return features and presence of moments; each has one view or more."""
    rng = np.random.default_rng((count, num_views))
    features = np.abs(rng.normal(size=(count, num_views, views.feature_dim)))
    present = rng.random((count, num_views)) < 0.6
    present[:, 0] |= ~present.any(axis=1)
    return features.astype(np.float32), present.astype(np.float32)


def _compare(views: ViewsCheckpoint, data: bytes) -> ParityReport:
    session, model, names = open_session(data), views.probabilities(), _outputs(views)

    def pairs() -> Iterator[tuple[Outputs, Outputs]]:
        for size in PARITY_BATCH_SIZES:
            for num_views in (1, 2, 5):
                inputs = _random_inputs(views, size, num_views)
                with torch.inference_mode():
                    want = name_outputs(names, model(*map(torch.from_numpy, inputs)))
                got = session.run(list(names), dict(zip(_INPUTS, inputs, strict=True)))
                yield want, name_outputs(names, got)

    return report_parity(pairs(), tolerance=PARITY_TOLERANCE)
