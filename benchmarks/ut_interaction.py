"""Real footage: efficientnet_lite0 on UT-Interaction, with and without shift.

Trains what is not in --runs yet and stores mAP at each tIoU, scene top-1 and seconds of training. `best` is
the epoch that the validation videos chose, `last` the end of the training; only `last` is free of that
choice. The set has 24 validation instances, so one more or less moves recall by 4 %.

    python benchmarks/ut_interaction.py
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

from _common import store

from tsm_train.config import load_config
from tsm_train.training.checkpoint import load_checkpoint
from tsm_train.training.train import train

CONFIG = Path(__file__).parent / "configs" / "ut_interaction.toml"


def main() -> None:
    """Train what is missing and store the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", action="append", default=[], help="replace a key of the configuration")
    parser.add_argument("--name", default="ut_interaction", help="results/NAME.json")
    options = parser.parse_args()
    rows = [one_run(options.runs, shift, s, options.set) for s in options.seeds for shift in (True, False)]
    store(options.name, {"config": CONFIG.name, "overrides": options.set, "runs": rows})


def one_run(runs: Path, shift: bool, seed: int, overrides: list[str]) -> dict[str, Any]:
    """Train one network, unless its run folder is complete."""
    name = f"ut-{'shift' if shift else 'noshift'}-s{seed}"
    changes = [*overrides, f"name={name}", f"model.shift={str(shift).lower()}", f"train.seed={seed}"]
    config = load_config(CONFIG, changes)
    folder = runs / name
    if not (folder / "last.safetensors").exists():
        train(config, folder)
    with (folder / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    best, last = (load_checkpoint(folder / f"{which}.safetensors") for which in ("best", "last"))
    row = {
        "name": name,
        "shift": shift,
        "seed": seed,
        "size": config.clip.size,
        "epochs": last.epoch,
        "best_epoch": best.epoch,
        "best": {key: round(value, 4) for key, value in best.metrics.items()},
        "last": {key: round(value, 4) for key, value in last.metrics.items()},
        "training_seconds": float(rows[-1]["seconds"]),
    }
    print(row, flush=True)
    return row


if __name__ == "__main__":
    main()
