"""What the temporal shift is for: telling an action from its time reversal.

Trains the same network with and without shift on drawn videos in which two pairs of actions are each other's
exact time reversal, and scores fresh drawings. Read the `pairs` numbers: AP at tIoU 0.5 of each of the four
actions; with shift all should be at least 0.8, without shift at most 0.6. Runs that are already in --runs are
not trained again, so an interrupted benchmark goes on where it was.

    python -m tsm_train.synthetic drawn --training 176 --validation 24 --seed 1 --size 144x144
    python benchmarks/shift.py
"""

from __future__ import annotations

import argparse
import csv
import statistics
from pathlib import Path
from typing import Any

from _common import store

from tsm_runtime.evaluation.protocol import evaluate
from tsm_runtime.formats.ground_truth import read_ground_truth
from tsm_train.config import load_config
from tsm_train.data.video_files import find_video
from tsm_train.synthetic.poses import REVERSED_PAIRS
from tsm_train.training.checkpoint import load_checkpoint
from tsm_train.training.train import train
from tsm_train.training.validation import TIOU_THRESHOLDS, predict, score_results

CONFIG = Path(__file__).parent / "configs" / "drawn.toml"


def main() -> None:
    """Train what is missing, score everything, store the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--set", action="append", default=[], help="replace a key of the configuration")
    options = parser.parse_args()
    rows = [
        one_run(options.runs, shift, seed, options.set) for seed in options.seeds for shift in (True, False)
    ]
    summary = {
        name: {
            "lowest_pair_ap": min(min(r["pairs"].values()) for r in rows if r["shift"] is shift),
            "highest_pair_ap": max(max(r["pairs"].values()) for r in rows if r["shift"] is shift),
            "median_map_0.5": statistics.median(r["map_0.5"] for r in rows if r["shift"] is shift),
        }
        for name, shift in (("with shift", True), ("without shift", False))
    }
    store("shift", {"config": CONFIG.name, "overrides": options.set, "summary": summary, "runs": rows})


def one_run(runs: Path, shift: bool, seed: int, overrides: list[str]) -> dict[str, Any]:
    """Train one network, unless its run folder is complete, and score it on the validation drawings."""
    name = f"drawn-{'shift' if shift else 'noshift'}-s{seed}"
    config = load_config(
        CONFIG,
        [
            *overrides,
            f"name={name}",
            f"model.shift={str(shift).lower()}",
            f"train.seed={seed}",
            "train.validate_every=1000",  # the last epoch alone: nothing is chosen on the videos that score
        ],
    )
    if not (runs / name / "last.safetensors").exists():
        train(config, runs / name, device="cpu", show_progress=False)
    checkpoint = load_checkpoint(runs / name / "last.safetensors")
    truth = read_ground_truth(Path(config.data.annotations)).subset(config.data.validation_subset)
    model, labels, spec = checkpoint.model(), checkpoint.labels, config.clip_spec
    results = {
        v.video_id: predict(model, find_video(Path(config.data.videos), v.video_id), v.video_id, labels, spec)
        for v in truth.videos
    }
    ap = evaluate(truth.segments, {k: r.segments for k, r in results.items()}, TIOU_THRESHOLDS).ap
    row = {
        "name": name,
        "shift": shift,
        "seed": seed,
        "pairs": {label: round(float(ap[label][0]), 4) for pair in REVERSED_PAIRS for label in pair},
        **{key: round(value, 4) for key, value in score_results(truth.videos, results).items()},
        "training_seconds": training_seconds(runs / name),
    }
    print(row, flush=True)
    return row


def training_seconds(run: Path) -> float:
    """Return the wall seconds of a run, validation included, from its metrics."""
    with (run / "metrics.csv").open() as file:
        return float([row["seconds"] for row in csv.DictReader(file)][-1])


if __name__ == "__main__":
    main()
