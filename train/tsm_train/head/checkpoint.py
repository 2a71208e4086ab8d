"""Checkpoints of temporal heads: safetensors, tied to the backbone whose features they were trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from tsm_runtime.errors import UsageError
from tsm_runtime.segments.decoding.settings import Decoding
from tsm_train.head.network import AnyHead, HeadGroup, TemporalHead, dilations_for
from tsm_train.samples.clips import Labels
from tsm_train.sections.after_backbone import HeadConfig
from tsm_train.tensor_files import FieldsFile

HEAD_FILE = "head.safetensors"
"""Name in the folder of a run, beside the checkpoint that it belongs to."""

_FILE = FieldsFile(
    "tsm-tal temporal head 1",
    "temporal head",
    {
        "config": HeadConfig,
        "labels": Labels,
        "frame_seconds": float,
        "feature_dim": int,
        "backbone_sha256": str,
        "metrics": dict[str, float],
        "decoding": Decoding,
        "thresholds": tuple[float, ...],
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadCheckpoint:
    """A trained temporal head.

    Args:
        config: `[head]` of the configuration.
        labels: names of the outputs.
        frame_seconds: time from one frame to the next.
        feature_dim: D, of the backbone's features.
        backbone_sha256: of the backbone's weights, see `weights_sha256`.
        metrics: of the validation videos; `cv_` marks what cross-validation over videos found.
        weights: of `TemporalHead`, or of `HeadGroup` where there are several.
        decoding: how its scores become segments.
        thresholds: of a sigmoid head, one for each action.
    """

    config: HeadConfig
    labels: Labels
    frame_seconds: float
    feature_dim: int
    backbone_sha256: str
    metrics: dict[str, float]
    weights: Mapping[str, Tensor]
    decoding: Decoding
    thresholds: tuple[float, ...] = ()

    def model(self) -> AnyHead:
        """Build the network and load the weights, in evaluation mode."""
        heads = [self._head() for _ in range(self.config.members)]
        head: AnyHead = heads[0] if len(heads) == 1 else HeadGroup(heads)
        head.load_state_dict(dict(self.weights))
        return head.eval()

    def _head(self) -> TemporalHead:
        return TemporalHead(
            self.feature_dim,
            len(self.labels.actions),
            frame_seconds=self.frame_seconds,
            width=self.config.width,
            dilations=dilations_for(self.config.receptive_seconds, self.frame_seconds),
            causal=self.config.causal,
        )

    def require_backbone(self, sha256: str, what: str) -> None:
        """Check that the head was trained on the features of this backbone.

        Raises:
            UsageError: it was trained on those of another one.
        """
        if sha256 != self.backbone_sha256:
            raise UsageError(
                f"{what}: the temporal head was trained on features of another backbone (its weights have"
                f" {self.backbone_sha256[:12]}, those here {sha256[:12]}); train the head again, or export"
                " with --no-head"
            )


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, shapes and values of all tensors, by name."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        values = weights[name].detach().cpu().contiguous().numpy()
        digest.update(f"{name} {values.dtype} {values.shape} ".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def save_head(path: Path, checkpoint: HeadCheckpoint) -> None:
    """Write a head's checkpoint whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    _FILE.write(path, checkpoint)


def load_head(path: Path) -> HeadCheckpoint:
    """Read the checkpoint of a temporal head.

    Raises:
        UsageError: missing, or not a temporal head of this project.
    """
    return HeadCheckpoint(**_FILE.read(path))
