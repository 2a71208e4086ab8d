"""Checkpoints of sound branches: safetensors, tied to the backbone whose features they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tsm_train.audio.network import SoundBranchNet
from tsm_train.samples.clips import Labels
from tsm_train.sections.after_backbone import AudioConfig
from tsm_train.tensor_files import FieldsFile

SOUND_FILE = "audio.safetensors"
"""Name in the folder of a run, beside the checkpoint that it belongs to."""

_FILE = FieldsFile(
    "tsm-tal sound branch 1",
    "sound branch",
    {
        "config": AudioConfig,
        "labels": Labels,
        "feature_dim": int,
        "backbone_sha256": str,
        "metrics": dict[str, float],
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundCheckpoint:
    """A trained sound branch.

    Args:
        config: `[audio]` of the configuration.
        labels: names of the outputs.
        feature_dim: D, of the backbone's features.
        backbone_sha256: of the backbone's weights, see `head.checkpoint.weights_sha256`.
        metrics: of the validation videos, with sound and, after `muted_`, without.
        weights: of `SoundBranchNet`.
    """

    config: AudioConfig
    labels: Labels
    feature_dim: int
    backbone_sha256: str
    metrics: dict[str, float]
    weights: Mapping[str, Tensor]

    def model(self) -> SoundBranchNet:
        """Build the network and load the weights, in evaluation mode."""
        branch = SoundBranchNet(
            self.feature_dim,
            len(self.labels.actions),
            len(self.labels.scenes),
            channels=self.config.channels,
            num_bands=self.config.num_bands,
            width=self.config.width,
        )
        branch.load_state_dict(dict(self.weights))
        return branch.eval()


def save_sound(path: Path, checkpoint: SoundCheckpoint) -> None:
    """Write a checkpoint whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    _FILE.write(path, checkpoint)


def load_sound(path: Path) -> SoundCheckpoint:
    """Read the checkpoint of a sound branch.

    Raises:
        UsageError: missing, or not a sound branch of this project.
    """
    return SoundCheckpoint(**_FILE.read(path))
