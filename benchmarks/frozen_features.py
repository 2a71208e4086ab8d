"""Accuracy of a temporal head on a backbone that was trained on ImageNet only.

Takes a configuration's backbone with its pretrained weights as it is, trains the head of the `[head]` section
on its features, and reports the mAP of validation videos: cross-validated, since they choose the decoding.
The run folder is exported and run as any other; `tsm-train --head-only` writes the same.

    python benchmarks/frozen_features.py benchmarks/configs/ut_interaction_frozen.toml
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from _common import store

from tsm_train.config import load_config
from tsm_train.training.head_only import train_head_only


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
    start = time.process_time()
    metrics = train_head_only(config, options.runs / config.name)
    row = {name: round(100 * value, 1) for name, value in metrics.items()}
    print(row)
    seconds = round(time.process_time() - start, 1)
    store(options.name, {"config": options.config.name, "set": options.set, "cpu_seconds": seconds, **row})


if __name__ == "__main__":
    main()
