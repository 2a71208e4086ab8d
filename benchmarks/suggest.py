"""What to label next, simulated: mAP against labelled minutes, ranked by tsm-suggest and in random order.

The training videos are cut into parts of 10 s, which begin without labels. A temporal head on cached features
of each frame, as it is and mirrored, learns what is labelled so far and scores the rest; the next parts are
chosen; then its segments on the validation videos are scored. The labelled minutes double from one point to
the next. All orders of a seed begin with the same randomly chosen parts and the same weights: look at the
mean of the differences over seeds and its standard error, never at one seed.

The features are those of efficientnet_lite0 with ImageNet weights, or of a bundle. For drawn videos this is
the demo's, which has seen other drawn videos of these actions: ImageNet's features do not tell them apart.

    python -m tsm_train.synthetic drawn --seed 7 --training 24 --validation 12 --seconds 20
    python benchmarks/suggest.py --data drawn --bundle runtime/tsm_runtime/demo/bundle --name suggest_drawn
    python benchmarks/suggest.py --data ../shared/data/ut_interaction --cache ut.npz --name suggest_ut
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import store
from _suggest_features import FRAME_SECONDS, Features, read_features
from torch import nn

from tsm_runtime.evaluation.protocol import evaluate
from tsm_runtime.formats.annotations import read_annotations
from tsm_runtime.formats.ground_truth import VideoAnnotation
from tsm_runtime.results import BACKGROUND, Segment
from tsm_runtime.segments.decoding.decode import decode_frames
from tsm_runtime.segments.decoding.settings import Decoding
from tsm_serve.suggest.evidence import Evidence
from tsm_serve.suggest.ranking import MOMENT_SECONDS, Weights, suggest
from tsm_train.head.features import FrameSequence, Piece
from tsm_train.head.fit import fit_head
from tsm_train.head.network import TemporalHead
from tsm_train.head.targets import frame_targets
from tsm_train.head.train import score_pieces
from tsm_train.samples.clips import Labels
from tsm_train.sections.after_backbone import HeadConfig

FIRST_SECONDS = 30.0
BATCH_SIZE, WINDOW_SECONDS, STEPS = 4, 10.0, 120
DECODING = Decoding(method="viterbi", switch_cost=8.0, score="mean")
NOTHING = {"entropy": 0.0, "margin": 0.0, "disagreement": 0.0, "novelty": 0.0, "rarity": 0.0}
ORDERS: dict[str, Weights | None] = {
    "random": None,
    "suggested": Weights(),
    "entropy": Weights(**{**NOTHING, "entropy": 1.0}),
}


@dataclass(frozen=True, eq=False)
class Part:
    """Some seconds of a video: features of its frames as they are and mirrored (2, L, D), and segments."""

    name: str
    features: Features
    segments: Sequence[Segment]
    start_seconds: float = 0.0


def main() -> None:
    """Simulate all orders for all seeds and store the curves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help="whose backbone gives the features")
    parser.add_argument("--cache", type=Path, help="of the features [default: features.npz in the data]")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--name", default="suggest_drawn", help="results/NAME.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    truth = read_annotations(options.data / "ground_truth.json")
    labels = Labels((*truth.action_labels, BACKGROUND), ())
    cache = options.cache or options.data / "features.npz"
    features = read_features(truth.videos, options.data / "videos", cache, options.bundle)
    pool = [
        part for video in truth.subset("training").videos for part in cut(video, features[video.video_id])
    ]
    judged = [
        Part(video.video_id, features[video.video_id], video.segments)
        for video in truth.subset("validation").videos
    ]
    start = time.process_time()
    curves: dict[str, list[list[float]]] = {name: [] for name in ORDERS}
    minutes: list[float] = []
    for seed in range(options.seeds):
        judge = Judge(judged, labels, seed)
        for name, weights in ORDERS.items():
            minutes, values = simulate(pool, judge, labels, weights, seed)
            curves[name].append(values)
            print(seed, name, [round(100 * value, 1) for value in values], flush=True)
    about = {
        "minutes": minutes,
        "seeds": options.seeds,
        "validation_instances": sum(len(part.segments) for part in judged),
        "cpu_seconds": round(time.process_time() - start),
    }
    store(options.name, {**about, "orders": summary(curves)})


def cut(video: VideoAnnotation, features: Features) -> list[Part]:
    """Return the parts of a training video."""
    rows = round(MOMENT_SECONDS / FRAME_SECONDS)
    return [
        Part(f"{video.video_id} {k}", features[:, k : k + rows], video.segments, k * FRAME_SECONDS)
        for k in range(0, features.shape[1], rows)
    ]


def seconds_of(parts: Sequence[Part]) -> float:
    """Return the length of parts together."""
    return FRAME_SECONDS * sum(len(part.features[0]) for part in parts)


# --- the simulation -------------------------------------------------------------------------------


def simulate(
    pool: Sequence[Part],
    judge: Callable[[Sequence[Part]], tuple[TemporalHead, float]],
    labels: Labels,
    weights: Weights | None,
    seed: int,
) -> tuple[list[float], list[float]]:
    """Return labelled minutes and mAP at tIoU 0.5, from the first parts to all of them."""
    waiting = [pool[n] for n in np.random.default_rng(seed).permutation(len(pool))]
    first, *targets = target_seconds(seconds_of(pool))
    known = take(waiting, first)
    head, value = judge(known)
    values = [value]
    for target in targets:
        missing = target - seconds_of(known)
        if weights is not None:
            waiting = ranked(head, known, waiting, labels, weights, missing)
        known += take(waiting, missing)
        head, value = judge(known)
        values.append(value)
    return [round(target / 60, 3) for target in (first, *targets)], values


def target_seconds(total: float) -> list[float]:
    """Return the labelled seconds of each point, of which each but the last doubles the one before."""
    points = range(max(1, math.ceil(math.log2(total / FIRST_SECONDS))))
    return [*(FIRST_SECONDS * 2**point for point in points), total]


class Judge:
    """Trains a head on what is labelled and scores it on the validation videos, once for the same labels."""

    def __init__(self, videos: Sequence[Part], labels: Labels, seed: int) -> None:
        self._videos, self._labels, self._seed = videos, labels, seed
        self._seen: dict[frozenset[str], tuple[TemporalHead, float]] = {}

    def __call__(self, known: Sequence[Part]) -> tuple[TemporalHead, float]:
        """Return the head and its mAP at tIoU 0.5."""
        key = frozenset(part.name for part in known)
        if key not in self._seen:
            head = fit(sorted(known, key=lambda part: part.name), self._labels, self._seed)
            self._seen[key] = head, map_of_head(head, self._videos, self._labels)
        return self._seen[key]


def take(waiting: list[Part], seconds: float) -> list[Part]:
    """Remove and return the first parts, so many seconds of them."""
    taken: list[Part] = []
    while waiting and seconds_of(taken) < seconds:
        taken.append(waiting.pop(0))
    return taken


def fit(known: Sequence[Part], labels: Labels, seed: int) -> TemporalHead:
    """Train a head on what is labelled: as many steps, however much that is."""
    sequences = [sequence_of(part, view, labels) for part in known for view in part.features]
    windows = sum(max(1.0, len(s.features) * FRAME_SECONDS / WINDOW_SECONDS) for s in sequences)
    config = HeadConfig(
        epochs=math.ceil(STEPS * BATCH_SIZE / windows),
        batch_size=BATCH_SIZE,
        window_seconds=WINDOW_SECONDS,
        width=64,
    )
    frame_head = nn.Linear(sequences[0].features.shape[1], len(labels.actions))
    nn.init.zeros_(frame_head.weight)
    nn.init.zeros_(frame_head.bias)
    return fit_head(sequences, frame_head, labels, FRAME_SECONDS, config, seed=seed)


def sequence_of(part: Part, view: Features, labels: Labels) -> FrameSequence:
    """Return one view of a part with what a head learns of it."""
    targets = frame_targets(
        part.segments, len(view), FRAME_SECONDS, labels, offset_seconds=part.start_seconds
    )
    return FrameSequence(part.name, view, targets)


def ranked(
    head: TemporalHead,
    known: Sequence[Part],
    waiting: Sequence[Part],
    labels: Labels,
    weights: Weights,
    budget_seconds: float,
) -> list[Part]:
    """Return the waiting parts in the order of tsm-suggest, those within the budget first."""
    evidence = [evidence_of(head, part, labels, True) for part in known]
    evidence += [evidence_of(head, part, labels, False) for part in waiting]
    found = [one.video_id for one in suggest(evidence, weights=weights, budget_seconds=budget_seconds)]
    by_name = {part.name: part for part in waiting}
    return [by_name[name] for name in found] + [part for part in waiting if part.name not in set(found)]


def evidence_of(head: TemporalHead, part: Part, labels: Labels, labelled: bool) -> Evidence:
    """Return what the head makes of a part, as it is and mirrored."""
    views = [score_pieces(head, [Piece(0.0, view)], sigmoid=False).action for view in part.features]
    return Evidence(
        video_id=part.name,
        views=views,
        starts=np.arange(len(views[0]), dtype=np.float64) * FRAME_SECONDS,
        cell_seconds=FRAME_SECONDS,
        labels=labels.actions,
        features=part.features[0].astype(np.float32),
        is_labelled=labelled,
    )


def map_of_head(head: TemporalHead, videos: Sequence[Part], labels: Labels) -> float:
    """Return mAP at tIoU 0.5 on the validation videos."""
    found = {
        video.name: decode_frames(
            score_pieces(head, [Piece(0.0, video.features[0])], sigmoid=False), labels.actions, DECODING
        )
        for video in videos
    }
    return evaluate({video.name: video.segments for video in videos}, found, (0.5,)).average_map


# --- the result -----------------------------------------------------------------------------------


def summary(curves: dict[str, list[list[float]]]) -> dict[str, Any]:
    """Return per order the mean mAP at each point, and the mean difference from random over seeds and points.

    The first and the last point, at which all orders know the same, do not count in the difference.
    """
    rows: dict[str, Any] = {}
    for name, seeds in curves.items():
        gains = [
            statistics.mean(a - b for a, b in zip(own[1:-1], other[1:-1], strict=True))
            for own, other in zip(seeds, curves["random"], strict=True)
        ]
        rows[name] = {
            "map50": [round(statistics.mean(column), 4) for column in zip(*seeds, strict=True)],
            "difference_from_random": round(statistics.mean(gains), 4),
        }
        if len(gains) > 1:
            rows[name]["standard_error"] = round(statistics.stdev(gains) / math.sqrt(len(gains)), 4)
    return rows


if __name__ == "__main__":
    main()
