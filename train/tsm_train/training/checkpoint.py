"""Checkpoints: safetensors whose metadata hold the configuration, the labels and the validation scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from tsm_runtime.errors import UsageError
from tsm_runtime.segments.rules import SegmentRules
from tsm_train.config import Config
from tsm_train.model.tsm import TSM
from tsm_train.samples.clips import Labels
from tsm_train.tensor_files import read_tensors, write_tensors

FORMAT = "tsm-tal checkpoint 1"

_FIRST_SCORE = 0.1
"""Of every action of a sigmoid head, before training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A trained model and all that is needed to build, export and judge it."""

    config: Config
    labels: Labels
    epoch: int
    """Epochs trained."""
    metrics: dict[str, float]
    """Of the validation after this epoch; empty where there was none."""
    weights: Mapping[str, Tensor]
    thresholds: tuple[float, ...] = ()
    """Of a sigmoid head, one per action: an interval has the actions whose score is at least that."""

    def __post_init__(self) -> None:
        if self.labels.head != self.config.model.head:
            raise ValueError(f"a {self.config.model.head} head, but labels of a {self.labels.head} head")
        expected = len(self.labels.actions) if self.labels.head == "sigmoid" else 0
        if len(self.thresholds) != expected or not all(0 < value <= 1 for value in self.thresholds):
            raise ValueError(f"expected {expected} thresholds above 0 and up to 1, got {self.thresholds}")

    @property
    def segment_rules(self) -> SegmentRules:
        """How scores become segments, as the runtime knows it."""
        return replace(self.config.segment_rules, thresholds=self.thresholds)

    def model(self) -> TSM:
        """Build the network and load the weights, in evaluation mode.

        Raises:
            UsageError: the weights are not those of the network that the configuration describes.
        """
        model = build_model(self.config, self.labels)
        try:
            model.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            lines = str(error).splitlines()
            more = f" (and {len(lines) - 2} more)" if len(lines) > 2 else ""
            raise UsageError(
                f"checkpoint {self.config.name!r}: its weights do not fit {self.config.model.backbone}:"
                f" {' '.join(lines[1:2]).strip()}{more}"
            ) from error
        return model.eval()


def build_model(config: Config, labels: Labels) -> TSM:
    """Build the network of a run, with random weights."""
    m = config.model
    model = TSM(
        m.backbone,
        len(labels.actions),
        len(labels.scenes),
        num_frames=config.clip.num_frames,
        shift=m.shift,
        shift_direction=m.shift_direction,
        fold_div=m.fold_div,
        width_mult=m.width_mult,
        dropout=m.dropout,
        audio=config.audio,
    )
    if m.head == "sigmoid":
        # Most intervals are without a given action: so the first steps need not teach that to every output
        # (focal loss, arXiv 1708.02002, 3.3).
        torch.nn.init.constant_(model.action_head.bias, -math.log(1 / _FIRST_SCORE - 1))
    return model


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    metadata = {
        "format": FORMAT,
        "config": msgspec.json.encode(checkpoint.config).decode(),
        "labels": msgspec.json.encode(checkpoint.labels).decode(),
        "epoch": str(checkpoint.epoch),
        "metrics": msgspec.json.encode(checkpoint.metrics).decode(),
    }
    if checkpoint.thresholds:
        metadata["thresholds"] = msgspec.json.encode(checkpoint.thresholds).decode()
    write_tensors(path, checkpoint.weights, metadata)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint that `tsm-train` wrote.

    Raises:
        UsageError: missing, not safetensors, or not a checkpoint of this project.
    """
    weights, metadata = read_tensors(path, FORMAT, "checkpoint")
    try:
        return Checkpoint(
            config=msgspec.json.decode(metadata["config"], type=Config),
            labels=msgspec.json.decode(metadata["labels"], type=Labels),
            epoch=int(metadata["epoch"]),
            metrics=msgspec.json.decode(metadata["metrics"], type=dict[str, float]),
            weights=weights,
            thresholds=msgspec.json.decode(metadata.get("thresholds", "[]"), type=tuple[float, ...]),
        )
    except (KeyError, ValueError, msgspec.MsgspecError) as error:
        raise UsageError(f"{path}: damaged checkpoint metadata ({error})") from error
