"""How long the evaluator takes, against a straightforward loop over predictions.

Draws instances and detections at random (--instances, --detections, --classes, --videos, ten tIoUs), writes
nothing and reads nothing. `evaluate` is matching and average precision; `ties`, `bootstrap`, `recall` and
`diagnosis` are what `tsm-eval` adds. `loop` is the protocol as the public evaluators write it: per class the
predictions in order of score, per prediction the tIoU with the instances of its video, per threshold a scan;
its instances are found by dictionary, so it is not slowed by a data frame. Both must give the same figures.
Seconds of processor time, median of --runs (the loop runs once); memory is the peak of what numpy and Python
allocate during the call. The last line is one JSON object.

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --detections 5000 --no-store
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from _common import machine, store

from tsm_runtime.evaluation.bootstrap import bootstrap_map
from tsm_runtime.evaluation.diagnosis import diagnose
from tsm_runtime.evaluation.matching import match_segments
from tsm_runtime.evaluation.protocol import evaluate
from tsm_runtime.evaluation.recall import proposal_recall
from tsm_runtime.evaluation.tie_range import tie_range
from tsm_runtime.results import Segment

Videos = dict[str, list[Segment]]

THRESHOLDS = tuple(float(value) for value in np.linspace(0.5, 0.95, 10))


def main() -> None:
    """Draw a set, measure, compare, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=5000)
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--detections", type=int, default=200_000)
    parser.add_argument("--decimals", type=int, default=4, help="of the scores: fewer give more ties")
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--no-store", action="store_true", help="print only")
    options = parser.parse_args()
    truth, found = draw(options)
    matching = match_segments(truth, found, THRESHOLDS)
    stages: dict[str, Callable[[], object]] = {
        "evaluate": lambda: evaluate(truth, found, THRESHOLDS),
        "ties": lambda: tie_range(matching),
        "bootstrap": lambda: bootstrap_map(matching, replicates=options.replicates),
        "recall": lambda: proposal_recall(truth, found),
        "diagnosis": lambda: diagnose(matching),
    }
    seconds = {name: measure(stage, options.runs) for name, stage in stages.items()}
    started = time.process_time()
    looped = loop_map(truth, found)
    seconds["loop"] = time.process_time() - started
    difference = float(np.abs(looped - evaluate(truth, found, THRESHOLDS).map_per_tiou).max())
    if difference > 1e-9:
        raise SystemExit(f"the loop and the evaluator differ by {difference}")
    for name, value in seconds.items():
        print(f"{name:>10}  {value:8.2f} s")
    results = {
        "set": {name: getattr(options, name) for name in ("videos", "classes", "instances", "detections")},
        "decimals": options.decimals,
        "replicates": options.replicates,
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "loop_over_evaluate": round(seconds["loop"] / seconds["evaluate"], 2),
        "peak_mebibytes": {name: round(peak(stage), 1) for name, stage in stages.items()},
        "difference": difference,
    }
    if options.no_store:
        print(json.dumps({"machine": machine(), **results}))
    else:
        store("evaluation", results)


def draw(options: Any) -> tuple[Videos, Videos]:
    """Instances at random, each with its share of detections around it."""
    random = np.random.default_rng(0)
    truth: Videos = {f"v{i}": [] for i in range(options.videos)}
    found: Videos = {video: [] for video in truth}
    for n in range(options.instances):
        video, label = f"v{random.integers(options.videos)}", f"c{random.integers(options.classes)}"
        start, length = random.uniform(0, 300), random.uniform(1, 60)
        truth[video].append(Segment(label=label, start_seconds=start, end_seconds=start + length))
        first, last = (options.detections * m // options.instances for m in (n, n + 1))
        for shift, score in zip(random.normal(0, 3, last - first), random.random(last - first), strict=True):
            near = max(0.0, start + shift)
            found[video].append(
                Segment(
                    label=label,
                    start_seconds=near,
                    end_seconds=near + length,
                    score=round(float(score), options.decimals),
                )
            )
    return truth, found


def measure(stage: Callable[[], object], runs: int) -> float:
    """Median seconds of processor time."""
    seconds = []
    for _ in range(runs):
        started = time.process_time()
        stage()
        seconds.append(time.process_time() - started)
    return statistics.median(seconds)


def peak(stage: Callable[[], object]) -> float:
    """Most MiB that were allocated at once during a call, beside what was there before."""
    tracemalloc.start()
    stage()
    value = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return value / 2**20


def loop_map(
    truth: Mapping[str, Sequence[Segment]], found: Mapping[str, Sequence[Segment]]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """mAP per threshold, prediction by prediction."""  # noqa: D403
    instances: defaultdict[str, dict[str, list[Segment]]] = defaultdict(dict)
    for video, listed in truth.items():
        for s in sorted(listed, key=lambda s: (s.start_seconds, s.end_seconds)):
            instances[s.label].setdefault(video, []).append(s)
    predictions: defaultdict[str, list[tuple[float, str, float, float]]] = defaultdict(list)
    for video, listed in found.items():
        for s in listed:
            predictions[s.label].append((-s.score, video, s.start_seconds, s.end_seconds))
    return np.mean([loop_class(instances[c], sorted(predictions[c])) for c in sorted(instances)], axis=0)


def loop_class(
    instances: Mapping[str, Sequence[Segment]], predictions: Sequence[tuple[float, str, float, float]]
) -> list[float]:
    """Average precision of one class per threshold."""
    hits = np.zeros((len(THRESHOLDS), len(predictions)))
    locked: list[set[tuple[str, int]]] = [set() for _ in THRESHOLDS]
    for number, (_, video, start, end) in enumerate(predictions):
        mine = instances.get(video)
        if not mine:
            continue
        bounds = np.array([(s.start_seconds, s.end_seconds) for s in mine])
        shared = (np.minimum(bounds[:, 1], end) - np.maximum(bounds[:, 0], start)).clip(0)
        overlap = shared / ((bounds[:, 1] - bounds[:, 0]) + (end - start) - shared)
        order = np.argsort(-overlap, kind="stable")
        for k, threshold in enumerate(THRESHOLDS):
            for i in order:
                if overlap[i] < threshold - 1e-9:
                    break
                if (video, int(i)) not in locked[k]:
                    locked[k].add((video, int(i)))
                    hits[k, number] = 1
                    break
    count = sum(map(len, instances.values()))
    return [loop_area(row, count) for row in hits]


def loop_area(hits: np.ndarray[Any, np.dtype[np.float64]], count: int) -> float:
    """Area under the envelope, step by step from the last prediction."""
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    best = total = 0.0
    for hit, value in zip(hits[::-1], precision[::-1], strict=True):
        best = max(best, float(value))
        total += best * hit
    return total / count


if __name__ == "__main__":
    main()
