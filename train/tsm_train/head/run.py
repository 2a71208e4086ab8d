"""The temporal head of a run: trained once its backbone is, and kept beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from tsm_train.audio.checkpoint import SOUND_FILE, load_sound
from tsm_train.audio.heard_features import Hearing, heard_identity
from tsm_train.config import Config
from tsm_train.data.dataset import TrainingData
from tsm_train.head.checkpoint import HEAD_FILE, load_head, save_head, weights_sha256
from tsm_train.head.train import train_head
from tsm_train.training.checkpoint import load_checkpoint
from tsm_train.training.validation import TorchBackend

_OUTPUTS = ("action_head.", "scene_head.")


def train_run_head(
    config: Config, folder: Path, data: TrainingData, *, show_progress: bool = False
) -> dict[str, float]:
    """Train the head of a finished run on the features of its best epoch, and write `head.safetensors`.

    Of a run with a sound branch, which is trained before, the head takes what is heard, too.

    A head that is there already, of the same backbone and the same `[head]` section, is kept.

    Args:
        config: of the run, with a `[head]` section.
        folder: of the run.
        data: its videos.
        show_progress: draw bars.

    Returns:
        The head's metrics, each name with `head_` before it.

    Raises:
        UsageError, VideoError, RunError: as `train_head`.
    """
    backbone = load_checkpoint(folder / "best.safetensors")
    sound = load_sound(folder / SOUND_FILE) if config.sound_branch is not None else None
    identity, path = heard_identity(backbone.weights, sound), folder / HEAD_FILE
    kept = load_head(path) if path.exists() else None
    if kept is None or kept.backbone_sha256 != identity or kept.config != config.head:
        model = backbone.model()
        backend = TorchBackend(model, sigmoid=backbone.labels.head == "sigmoid")
        frame_head, cache = model.action_head, None
        features_sha256 = weights_sha256(_without_outputs(backbone.weights))
        if sound is not None:
            hearing = Hearing(sound)
            frame_head = hearing.widened(frame_head)
            cache = hearing.cache(backend, features_sha256, backbone.labels, config)
        kept = train_head(
            config,
            backbone.labels,
            data.training,
            data.validation,
            backend,
            frame_head,
            identity,
            cache=cache,
            features_sha256=features_sha256,
            show_progress=show_progress,
        )
        save_head(path, kept)
    return {f"head_{name}": value for name, value in kept.metrics.items()}


def _without_outputs(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that features depend on: those of the heads change with the labels."""
    return {name: values for name, values in weights.items() if not name.startswith(_OUTPUTS)}
