"""Training of the temporal head alone, on the features of a backbone that stays as it is."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import torch

from tsm_train.config import Config
from tsm_train.data.dataset import resolve_section
from tsm_train.head.run import train_run_head
from tsm_train.samples.clips import Labels
from tsm_train.sections.after_backbone import HeadConfig
from tsm_train.training.checkpoint import Checkpoint, build_model, save_checkpoint
from tsm_train.training.failures import failures_as_errors
from tsm_train.training.fine_tuning import start_from
from tsm_train.training.run_folder import RunFolder
from tsm_train.training.train import open_run_data

_log = logging.getLogger("tsm_runtime")


def train_head_only(config: Config, folder: Path, *, show_progress: bool = True) -> dict[str, float]:
    """Train the `[head]` of a configuration on the features of `model.pretrained`; write a run folder.

    Features are computed once and kept beside the stored frames: a later run on the same backbone, whatever
    its labels, computes those of new videos alone. Nothing but the temporal head learns; the scene head stays
    as it is in `model.pretrained`.

    Args:
        config: the run; without a `[head]` section the head is the default one.
        folder: gets best.safetensors, last.safetensors, head.safetensors, config.json, labels.json and
            metrics.csv, as of a run of no epoch.
        show_progress: draw progress bars where standard error is a terminal.

    Returns:
        The head's metrics, each name with `head_` before it, and its mAP as `map`.

    Raises:
        UsageError: the configuration or the annotations do not fit, or an annotated video is missing.
        VideoError: no training video can be read.
        RunError: the loss is not finite, or files cannot be written.
    """
    began = time.perf_counter()
    config = msgspec.structs.replace(
        config, data=resolve_section(config.data), head=config.head or HeadConfig(), audio=None, views=None
    )
    data = open_run_data(config)
    labels = Labels.of(data.actions, data.scenes, config.model)
    checkpoint = untrained_checkpoint(config, labels)
    output = RunFolder(folder)
    output.describe(config, labels)
    with failures_as_errors(config, output):
        save_checkpoint(folder / "best.safetensors", checkpoint)
        _log.warning(f"temporal head alone: features of {len(data.training)} + {len(data.validation)} videos")
        metrics = train_run_head(config, folder, data, show_progress=show_progress and sys.stderr.isatty())
        best = metrics.get("head_cv_map", metrics["head_fitted_map"])
        row = {"epoch": 0, "map": best, **metrics, "seconds": time.perf_counter() - began}
        output.record(replace(checkpoint, metrics={"map": best}), row)
    return {"map": best, **metrics}


def untrained_checkpoint(config: Config, labels: Labels) -> Checkpoint:
    """Return the configured network with its pretrained weights, before any training.

    Actions that the weights do not know have equal scores, which a temporal head does not see.
    """
    torch.manual_seed(config.train.seed)
    model = build_model(config, labels)
    torch.nn.init.zeros_(model.action_head.weight)
    torch.nn.init.zeros_(model.action_head.bias)
    if config.model.pretrained:
        start_from(model, config.model.pretrained, labels)
    return Checkpoint(
        config=config,
        labels=labels,
        epoch=0,
        metrics={},
        weights=model.state_dict(),
        thresholds=(0.5,) * len(labels.actions) if labels.head == "sigmoid" else (),
    )
