"""Accuracy of a temporal head on a backbone that was trained on ImageNet only.

Takes a configuration's backbone with its pretrained weights as it is, trains the head of the `[head]` section
on its features, and reports the mAP of validation videos: cross-validated, since they choose the decoding.
The run folder (best.safetensors, head.safetensors) is exported and run as any other.

    python benchmarks/frozen_features.py benchmarks/configs/ut_interaction_frozen.toml
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from _common import store

from tsm_train.config import Config, load_config
from tsm_train.data.dataset import open_data
from tsm_train.head.run import train_run_head
from tsm_train.samples.clips import Labels
from tsm_train.training.checkpoint import Checkpoint, build_model, save_checkpoint
from tsm_train.training.fine_tuning import start_from


def main() -> None:
    """Train, print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], help="as of tsm-train")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--name", default="frozen_features", help="results/NAME.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(options.config, options.set)
    data = open_data(config.data, config.clip.interval_seconds)
    labels = Labels.of(data.actions, data.scenes, config.model)
    folder = options.runs / config.name
    folder.mkdir(parents=True, exist_ok=True)
    start = time.process_time()
    save_checkpoint(folder / "best.safetensors", untrained(config, labels))
    metrics = train_run_head(config, folder, data)
    row = {name: round(100 * value, 1) for name, value in metrics.items()}
    print(row)
    seconds = round(time.process_time() - start, 1)
    store(options.name, {"config": options.config.name, "set": options.set, "cpu_seconds": seconds, **row})


def untrained(config: Config, labels: Labels) -> Checkpoint:
    """Return the configured network with its pretrained weights, and heads as they are before training."""
    torch.manual_seed(config.train.seed)
    model = build_model(config, labels)
    start_from(model, config.model.pretrained, labels)
    thresholds = (0.5,) * len(labels.actions) if labels.head == "sigmoid" else ()
    return Checkpoint(
        config=config,
        labels=labels,
        epoch=0,
        metrics={},
        weights=model.state_dict(),
        thresholds=thresholds,
    )


if __name__ == "__main__":
    main()
