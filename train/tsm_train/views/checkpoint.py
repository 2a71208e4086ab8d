"""Checkpoints of joint models of views, tied to the backbone whose features they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tsm_train.samples.clips import Labels
from tsm_train.sections.after_backbone import ViewsConfig
from tsm_train.tensor_files import FieldsFile
from tsm_train.views.network import ViewJoinNet, ViewProbabilities

VIEWS_FILE = "views.safetensors"
"""Name in the folder of a run, beside the checkpoint that it belongs to."""

_FILE = FieldsFile(
    "tsm-tal views 1",
    "joint model of views",
    {
        "config": ViewsConfig,
        "labels": Labels,
        "feature_dim": int,
        "backbone_sha256": str,
        "metrics": dict[str, float],
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewsCheckpoint:
    """A trained joint model.

    Args:
        config: `[views]` of the configuration.
        labels: names of the outputs.
        feature_dim: D, of the backbone's features.
        backbone_sha256: of the backbone's weights, see `head.checkpoint.weights_sha256`.
        metrics: of the validation captures: all views, and, after `single_`, the mean over single views.
        weights: of `ViewJoinNet`.
    """

    config: ViewsConfig
    labels: Labels
    feature_dim: int
    backbone_sha256: str
    metrics: dict[str, float]
    weights: Mapping[str, Tensor]

    def model(self) -> ViewJoinNet:
        """Build the network and load the weights, in evaluation mode."""
        network = ViewJoinNet(
            self.feature_dim,
            len(self.labels.actions),
            len(self.labels.scenes),
            join=self.config.join,
            hidden=self.config.hidden,
        )
        network.load_state_dict(dict(self.weights))
        return network.eval()

    def probabilities(self) -> ViewProbabilities:
        """Return the network as it is exported."""
        sigmoid, scenes = self.labels.head == "sigmoid", bool(self.labels.scenes)
        return ViewProbabilities(self.model(), sigmoid=sigmoid, has_scenes=scenes).eval()


def save_views(path: Path, checkpoint: ViewsCheckpoint) -> None:
    """Write a checkpoint whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    _FILE.write(path, checkpoint)


def load_views(path: Path) -> ViewsCheckpoint:
    """Read the checkpoint of a joint model.

    Raises:
        UsageError: missing, or not a joint model of this project.
    """
    return ViewsCheckpoint(**_FILE.read(path))
