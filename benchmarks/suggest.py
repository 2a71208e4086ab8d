"""What to label next, simulated: mAP against labelled minutes, ranked by tsm-suggest and in random order.

On UT-Interaction the training videos are cut into parts of 10 s, which begin without labels. A linear
classifier on fixed features (efficientnet_lite0 with ImageNet weights, no shift, mean over the frames of an
interval; computed once and kept in --cache) learns what is labelled so far, scores the rest, and the next
parts are chosen; then its segments on the validation videos are scored. All orders of a seed begin with the
same randomly chosen parts. The set has 24 validation instances: look at the mean over seeds and its standard
error, never at one seed.

    python benchmarks/suggest.py --data ../shared/data/ut_interaction
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from _common import store

from tsm_runtime.backends.base import Scores
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.evaluation.protocol import evaluate
from tsm_runtime.formats.annotations import read_annotations
from tsm_runtime.formats.ground_truth import VideoAnnotation
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.run import run
from tsm_runtime.results import BACKGROUND, IntervalScores, Segment
from tsm_runtime.segments.find import find_segments
from tsm_runtime.segments.rules import SegmentRules
from tsm_serve.suggest.evidence import Evidence
from tsm_serve.suggest.ranking import MOMENT_SECONDS, Suggestion, Weights, suggest
from tsm_train.data.interval_labels import interval_labels
from tsm_train.model.pretrained import load_pretrained
from tsm_train.model.tsm import TSM
from tsm_train.training.validation import TorchBackend

SPEC = ClipSpec(interval_seconds=0.5, num_frames=4, size=112)
STEP_SECONDS, FIRST_SECONDS = 20.0, 30.0
NOTHING = {"entropy": 0.0, "margin": 0.0, "disagreement": 0.0, "novelty": 0.0, "rarity": 0.0}
ORDERS: dict[str, Weights | None] = {
    "random": None,
    "suggested": Weights(),
    "entropy": Weights(**{**NOTHING, "entropy": 1.0}),
    "margin": Weights(**{**NOTHING, "margin": 1.0}),
    "flips": Weights(**{**NOTHING, "disagreement": 1.0}),
    "novelty": Weights(**{**NOTHING, "novelty": 1.0}),
    "rare classes": Weights(**{**NOTHING, "rarity": 1.0}),
}


@dataclass(frozen=True, eq=False)
class Video:
    """Features of a video as it is and mirrored, (2, K, F), and the numbers of its intervals' labels (K,)."""

    about: VideoAnnotation
    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Part:
    """Some intervals of a training video."""

    name: str
    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    @property
    def seconds(self) -> float:
        """Length."""
        return len(self.labels) * SPEC.interval_seconds


def main() -> None:
    """Simulate all orders for all seeds and store the curves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("cache/suggest.npz"))
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    truth = read_annotations(options.data / "ground_truth.json")
    names = (*truth.action_labels, BACKGROUND)
    features = read_features(truth.videos, options.data / "videos", options.cache)
    videos = [prepared(about, features[about.video_id], names) for about in truth.videos]
    parts = [part for video in videos if video.about.subset == "training" for part in cut(video)]
    judged = [video for video in videos if video.about.subset == "validation"]
    curves: dict[str, list[list[float]]] = {name: [] for name in ORDERS}
    minutes: list[float] = []
    for seed in range(options.seeds):
        for name, weights in ORDERS.items():
            minutes, values = simulate(parts, judged, names, weights, seed)
            curves[name].append(values)
            print(seed, name, [round(100 * value, 1) for value in values], flush=True)
    store("suggest", {"minutes": minutes, "seeds": options.seeds, "orders": summary(curves)})


def read_features(
    videos: Sequence[VideoAnnotation], folder: Path, cache: Path
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the features per video id, computed where the cache lacks them."""
    if cache.exists():
        with np.load(cache) as stored:
            return dict(stored)
    model = TSM("efficientnet_lite0", 1, num_frames=SPEC.num_frames, shift=False)
    load_pretrained(model, "imagenet")
    model.eval()
    began, found = time.perf_counter(), {}
    for about in videos:
        views = [
            features_of(folder / f"{about.video_id}.mp4", model, mirrored=side) for side in (False, True)
        ]
        found[about.video_id] = np.stack(views)
        print(f"{about.video_id}: {time.perf_counter() - began:.0f} s", flush=True)
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(cache, **found)  # type: ignore[arg-type]
    return found


class FeatureBackend(TorchBackend):
    """Gives features in the place of scores."""

    def __init__(self, model: TSM, mirrored: bool) -> None:
        super().__init__(model)
        self._tsm, self._mirrored = model, mirrored

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Return (N, F) features as action scores."""
        seen = np.ascontiguousarray(frames[:, :, :, ::-1]) if self._mirrored else frames
        with torch.inference_mode():
            features = self._tsm.frame_features(torch.from_numpy(seen)).mean(1).numpy()
        return Scores(features, None)


def features_of(path: Path, model: TSM, *, mirrored: bool) -> npt.NDArray[np.float32]:
    """Return (K, F) features of a video's intervals."""
    labels = tuple(f"f{n}" for n in range(model.feature_dim))
    member = Member(backend=FeatureBackend(model, mirrored), spec=SPEC, action_labels=labels)
    result = run(path, member)
    assert result.scores is not None
    return result.scores.action


def prepared(about: VideoAnnotation, features: npt.NDArray[np.float32], names: tuple[str, ...]) -> Video:
    """Return a video with the labels of its intervals."""
    labels = interval_labels(about.segments, features.shape[1], SPEC.interval_seconds)
    numbers = [names.index(label) for label in labels]
    return Video(about, features, np.array(numbers))


def cut(video: Video) -> list[Part]:
    """Return the parts of a training video."""
    rows = round(MOMENT_SECONDS / SPEC.interval_seconds)
    return [
        Part(f"{video.about.video_id} {k}", video.features[:, k : k + rows], video.labels[k : k + rows])
        for k in range(0, len(video.labels), rows)
    ]


def simulate(
    parts: Sequence[Part], judged: Sequence[Video], names: tuple[str, ...], weights: Weights | None, seed: int
) -> tuple[list[float], list[float]]:
    """Return labelled minutes and mAP at tIoU 0.5, from the first parts to all of them."""
    order = np.random.default_rng(seed).permutation(len(parts))
    waiting = [parts[n] for n in order]
    known, minutes, values = take(waiting, FIRST_SECONDS), [], []
    while True:
        model = fit(known, len(names))
        minutes.append(round(sum(part.seconds for part in known) / 60, 3))
        values.append(judge(model, judged, names))
        if not waiting:
            return minutes, values
        if weights is not None:
            waiting = ranked(model, known, waiting, names, weights)
        known += take(waiting, STEP_SECONDS)


def take(waiting: list[Part], seconds: float) -> list[Part]:
    """Remove and return the first parts, so many seconds of them."""
    taken: list[Part] = []
    while waiting and sum(part.seconds for part in taken) < seconds:
        taken.append(waiting.pop(0))
    return taken


def ranked(
    model: Model, known: Sequence[Part], waiting: list[Part], names: tuple[str, ...], weights: Weights
) -> list[Part]:
    """Return the waiting parts in the order of tsm-suggest."""
    evidence = [evidence_of(model, part, names, True) for part in known]
    evidence += [evidence_of(model, part, names, False) for part in waiting]
    found: list[Suggestion] = suggest(evidence, weights=weights)
    by_name = {part.name: part for part in waiting}
    return [by_name[one.video_id] for one in found]


def evidence_of(model: Model, part: Part, names: tuple[str, ...], labelled: bool) -> Evidence:
    """Return what the classifier makes of a part, as it is and mirrored."""
    return Evidence(
        video_id=part.name,
        views=[score(model, view) for view in part.features],
        starts=np.arange(len(part.labels)) * SPEC.interval_seconds,
        cell_seconds=SPEC.interval_seconds,
        labels=names,
        features=part.features[0],
        is_labelled=labelled,
    )


Model = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], torch.nn.Linear]


def fit(known: Sequence[Part], num_labels: int) -> Model:
    """Fit multinomial logistic regression on the features of both views, standardised."""
    features = np.concatenate([view for part in known for view in part.features])
    labels = np.concatenate([part.labels for part in known for _ in part.features])
    mean, scale = features.mean(0), features.std(0) + 1e-3
    inputs, targets = torch.from_numpy((features - mean) / scale), torch.from_numpy(labels)
    layer = torch.nn.Linear(inputs.shape[1], num_labels)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=40, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(layer(inputs), targets) + 1e-3 * layer.weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    return mean, scale, layer


def score(model: Model, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return (K, A) probabilities."""
    mean, scale, layer = model
    with torch.inference_mode():
        scores: npt.NDArray[np.float32] = (
            layer(torch.from_numpy((features - mean) / scale)).softmax(1).numpy()
        )
    return scores


def judge(model: Model, videos: Sequence[Video], names: tuple[str, ...]) -> float:
    """Return mAP at tIoU 0.5 on the validation videos, scores smoothed over 1.5 s."""
    truth = {video.about.video_id: video.about.segments for video in videos}
    found: dict[str, list[Segment]] = {}
    for video in videos:
        indices = np.arange(len(video.labels), dtype=np.int64)
        intervals = IntervalScores(indices=indices, action=score(model, video.features[0]))
        rules = SegmentRules(smoothing_seconds=1.5)
        found[video.about.video_id], _ = find_segments(intervals, names, SPEC, rules)
    return evaluate(truth, found, (0.5,)).average_map


def summary(curves: dict[str, list[list[float]]]) -> dict[str, Any]:
    """Return mean and standard error over seeds per order, and the area under the mean curve."""
    rows = {}
    for name, seeds in curves.items():
        columns = list(zip(*seeds, strict=True))
        rows[name] = {
            "map50": [round(statistics.mean(column), 4) for column in columns],
            "standard_error": [round(float(np.std(c, ddof=1) / len(c) ** 0.5), 4) for c in columns]
            if len(seeds) > 1
            else [],
            "mean_over_minutes": round(statistics.mean(statistics.mean(seed) for seed in seeds), 4),
        }
    return rows


if __name__ == "__main__":
    main()
