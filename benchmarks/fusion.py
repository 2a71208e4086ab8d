"""What fusion gains over its members, by each method and with fitted weights, and how long it takes.

The members are made, not trained: the true instances of 20 videos (360+x, or --truth), each member
disturbing them in its own way with its own seed: bounds jitter and lie on a grid of t seconds, some instances
are missed, some get another label, background is invented, and scores separate right from wrong only roughly.
Their errors are independent, which those of real members never quite are: read the table as what fusion can
gain at best. `fitted` is cross-validated over videos, with a 95 % interval (paired bootstrap) against the
best member and equal weights.

`seconds` is the time to fuse three members of --segments segments each (default 100 000, in 1000 videos), and
`fit_seconds` that of one whole fit with its cross-validation on the members above.

    python benchmarks/fusion.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _common import store

from tsm_runtime.evaluation.protocol import evaluate
from tsm_runtime.formats.ground_truth import read_ground_truth
from tsm_runtime.fusion.fit import fit_ensemble
from tsm_runtime.fusion.fit_table import gather_fit_table
from tsm_runtime.fusion.fuse import fuse_segments
from tsm_runtime.fusion.options import FusionOptions, Method
from tsm_runtime.results import Segment

Videos = dict[str, list[Segment]]

TRUTH = Path(__file__).resolve().parents[2] / "shared" / "data" / "eval" / "x360_ground_truth.json"
METHODS: tuple[Method, ...] = ("paper", "wbf", "nms", "soft-nms-linear", "soft-nms-gaussian")
MEMBERS = (
    {"grid": 0.25, "jitter": 0.6, "missed": 0.3, "confused": 0.15, "invented": 0.8},
    {"grid": 0.5, "jitter": 0.5, "missed": 0.3, "confused": 0.15, "invented": 0.5},
    {"grid": 1.0, "jitter": 0.8, "missed": 0.4, "confused": 0.25, "invented": 1.0},
)
"""Grid and standard deviation of a bound in seconds; shares of instances; segments invented per instance."""


def main() -> None:
    """Print the tables and store them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--truth", type=Path, default=TRUTH)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--segments", type=int, default=100_000, help="of each member, for the timing")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-store", action="store_true", help="only print")
    options = parser.parse_args()
    truth = {video: list(found) for video, found in read_ground_truth(options.truth).segments.items()}
    rows = [one_seed(truth, seed) for seed in options.seeds]
    for name in rows[0]["map"]:
        values = [100 * row["map"][name] for row in rows]
        print(f"{name:<34} {statistics.mean(values):6.2f}  ({min(values):.2f} to {max(values):.2f})")
    timing = time_fusion(options.segments, options.repeats)
    for name, seconds in timing.items():
        print(f"{name:<34} {seconds['median']:6.2f} s for 3 x {options.segments} segments")
    if not options.no_store:
        store("fusion", {"truth": options.truth.name, "rows": rows, "seconds": timing})


def one_seed(truth: Videos, seed: int) -> dict[str, Any]:
    """Average mAP (0.5, 0.75, 0.95) of each member, each method, and the fitted ensemble."""
    members = [disturbed(truth, number, seed) for number in range(len(MEMBERS))]
    maps = {f"member {number + 1}": map_of(truth, member) for number, member in enumerate(members)}
    everything = {video: [segment for member in members for segment in member[video]] for video in truth}
    maps["all segments, not fused"] = map_of(truth, everything)
    for method in METHODS:
        for denominator in ("all", "present"):
            fusion = FusionOptions(method=method, denominator=denominator)
            maps[f"{method}, {denominator}"] = map_of(truth, fused(members, fusion))
    begin = time.perf_counter()
    table = gather_fit_table(members, truth)
    fit = fit_ensemble(table, FusionOptions(), seed=seed)
    seconds = time.perf_counter() - begin
    calibrated = fit_ensemble(table, FusionOptions(), seed=seed, calibrate=True)
    maps["paper, fitted, in sample"] = fit.in_sample
    maps["paper, fitted, cross-validated"] = fit.cross_validated
    maps["the same, calibrated"] = calibrated.cross_validated
    setting = fit.setting
    return {
        "seed": seed,
        "map": maps,
        "fitted": {"weights": setting.weights, "iou": setting.iou, "min_score": setting.min_score},
        "over_best": [fit.over_best.value, fit.over_best.low, fit.over_best.high],
        "over_equal": [fit.over_equal.value, fit.over_equal.low, fit.over_equal.high],
        "fit_seconds": seconds,
    }


def map_of(truth: Videos, found: Videos) -> float:
    """Average mAP."""
    return evaluate(truth, found).average_map


def fused(members: Sequence[Videos], options: FusionOptions) -> Videos:
    """Equal weights."""
    return {
        video: fuse_segments([member[video] for member in members], None, options) for video in members[0]
    }


def disturbed(truth: Videos, number: int, seed: int) -> Videos:
    """Return what a made member finds; its errors do not depend on those of the others."""
    kind = MEMBERS[number]
    rng = np.random.default_rng([seed, number])
    labels = sorted({segment.label for found in truth.values() for segment in found})
    videos: Videos = {}
    for video, true in truth.items():
        last = max((segment.end_seconds for segment in true), default=60.0)
        found = []
        for segment in true:
            if rng.random() >= kind["missed"]:
                confused = rng.random() < kind["confused"]
                label = str(rng.choice(labels)) if confused else segment.label
                bounds = np.array([segment.start_seconds, segment.end_seconds])
                bounds = bounds + rng.normal(0, kind["jitter"], 2)
                score = rng.beta(2, 3) if confused else rng.beta(4, 2)
                found.append(on_grid(label, bounds, kind["grid"], float(score)))
        for _ in range(rng.poisson(kind["invented"] * len(true))):
            start = rng.uniform(0, last)
            bounds = np.array([start, start + rng.exponential(4.0)])
            found.append(on_grid(str(rng.choice(labels)), bounds, kind["grid"], float(rng.beta(2, 4))))
        videos[video] = sorted(found, key=lambda segment: (segment.start_seconds, segment.end_seconds))
    return videos


def on_grid(label: str, bounds: Any, grid: float, score: float) -> Segment:
    """Segment with its bounds on multiples of t, one interval long at least."""
    start = max(0.0, round(float(bounds[0]) / grid) * grid)
    end = max(start + grid, round(float(bounds[1]) / grid) * grid)
    return Segment(label=label, start_seconds=start, end_seconds=end, score=min(max(score, 1e-6), 1.0))


def time_fusion(num_segments: int, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds to fuse three members; segments of 20 classes in 1000 videos, on three grids."""
    num_videos = min(1000, num_segments)
    members = []
    for number, kind in enumerate(MEMBERS):
        rng = np.random.default_rng(number)
        videos: Videos = {f"video {index}": [] for index in range(num_videos)}
        for index in range(num_segments):
            start = float(rng.uniform(0, 600))
            bounds = np.array([start, start + rng.exponential(5.0)])
            segment = on_grid(f"label {rng.integers(20)}", bounds, kind["grid"], float(rng.random()))
            videos[f"video {index % num_videos}"].append(segment)
        members.append(videos)
    timing = {}
    for method in METHODS:
        seconds = []
        for _ in range(repeats + 1):
            begin = time.perf_counter()
            fused(members, FusionOptions(method=method))
            seconds.append(time.perf_counter() - begin)
        measured = seconds[1:] or seconds
        timing[method] = {"median": statistics.median(measured), "min": min(measured), "max": max(measured)}
    return timing


if __name__ == "__main__":
    main()
