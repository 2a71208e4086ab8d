"""What options of the temporal head are worth, over several seeds, on the features of one backbone.

The features are computed once (and kept in `data.cache`); then each variant of the `[head]` section is
trained with each seed. `cv_map` is that of the validation videos, cross-validated, since they choose the
decoding; with `head.folds` the training videos choose, and `validation_map` is of videos that chose nothing.
With --test `test_map` is of a further subset that chose nothing. `spread` is the standard deviation over
seeds. `mean` scores the mean of the heads of all seeds; `mean_flipped` does so on features that are the means
of those of clips and of their mirror images. `difference` is the 95 % interval, over resampled videos, of the
gain of a variant's mean over that of the first variant, each with the decoding that is best on all judged
videos; `removed` is what average mAP gains when one kind of error is removed from the first one's; `missed`
counts instances that it finds at tIoU 0.5 by no segment of their label, and by none of any label.

    python benchmarks/head_variants.py benchmarks/configs/weizmann_frozen.toml --seeds 3 --variant folds=5
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import store

from tsm_runtime.backends.base import Backend
from tsm_runtime.backends.mirrored import MirroredBackend, mirrored_columns
from tsm_runtime.evaluation.bootstrap import bootstrap_difference
from tsm_runtime.evaluation.diagnosis import diagnose
from tsm_runtime.evaluation.matching import match_segments
from tsm_runtime.results import FrameScores, Segment
from tsm_runtime.segments.decoding.decode import decode_frames
from tsm_train.config import Config, load_config
from tsm_train.data.dataset import TrainingData, open_data
from tsm_train.data.video import TrainingVideo
from tsm_train.head.checkpoint import HeadCheckpoint, weights_sha256
from tsm_train.head.decoding_fit import TIOU_THRESHOLDS, FittedDecoding, fit_decoding, length_priors, map_of
from tsm_train.head.features import FeatureCache
from tsm_train.head.train import FEATURES, score_pieces, train_head
from tsm_train.samples.clips import Labels
from tsm_train.samples.frame_store import FrameStore
from tsm_train.training.checkpoint import Checkpoint, load_checkpoint
from tsm_train.training.head_only import untrained_checkpoint
from tsm_train.training.validation import TorchBackend

Frames = dict[str, FrameScores]


def main() -> None:
    """Train every variant with every seed, print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a run's TOML file with a [head] section")
    parser.add_argument("--set", action="append", default=[], help="as of tsm-train")
    parser.add_argument(
        "--run", type=Path, help="folder of a trained run [default: pretrained weights alone]"
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--variant", action="append", default=[], help="KEY=VALUE of [head], with commas")
    parser.add_argument("--test", default="", help="a subset that chooses nothing")
    parser.add_argument("--name", default="head_variants", help="results/NAME.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.process_time()
    backbone = opened(options.config, options.set, options.run)
    rows: list[dict[str, Any]] = []
    means: list[dict[str, list[Segment]]] = []
    for variant in ["", *options.variant]:
        changes = [f"head.{change}" for change in variant.split(",") if change]
        config = load_config(options.config, [*options.set, *changes])
        heads = [backbone.head(config, seed) for seed in range(options.seeds)]
        row, mean = row_of(backbone, config, heads, options.test)
        if means:
            gain = bootstrap_difference(backbone.matching(mean), backbone.matching(means[0]), replicates=1000)
            row["difference"] = [round(100 * value, 1) for value in (gain.average.low, gain.average.high)]
        means.append(mean)
        rows.append({"variant": variant or "as configured", **row})
        print(rows[-1], flush=True)
    judged = {
        "config": options.config.name,
        "run": None if options.run is None else options.run.name,
        "backbone": dict(backbone.checkpoint.metrics),
        "videos": len(backbone.judged),
        "instances": sum(len(video.segments) for video in backbone.judged),
        "removed": backbone.removed(means[0]),
        "missed": missed(backbone.truth(), means[0]),
        "cpu_seconds": round(time.process_time() - begun, 1),
    }
    store(options.name, {**judged, "rows": rows})


@dataclass(frozen=True)
class Backbone:
    """A backbone, the data, and the features; `mirrored`: the means with those of mirror images."""

    checkpoint: Checkpoint
    data: TrainingData
    sha256: str
    backend: Backend
    frame_head: torch.nn.Linear
    cache: FeatureCache
    mirrored: FeatureCache

    @property
    def labels(self) -> Labels:
        """Names of the outputs."""
        return self.checkpoint.labels

    @property
    def judged(self) -> tuple[TrainingVideo, ...]:
        """Validation videos."""
        return self.data.validation

    def head(self, config: Config, seed: int) -> HeadCheckpoint:
        """Train a head."""
        return train_head(
            config,
            self.labels,
            self.data.training,
            self.data.validation,
            self.backend,
            self.frame_head,
            self.sha256,
            seed=seed,
        )

    def frames(
        self, head: HeadCheckpoint, videos: Sequence[TrainingVideo], *, mirrored: bool = False
    ) -> Frames:
        """Return a head's scores of the frames of some videos."""
        cache = self.mirrored if mirrored else self.cache
        network, sigmoid = head.model(), self.labels.head == "sigmoid"
        pieces = {video.video_id: cache.deployed(video) for video in videos}
        return {key: score_pieces(network, value, sigmoid=sigmoid) for key, value in pieces.items()}

    def truth(self) -> dict[str, Sequence[Segment]]:
        """Return the true segments of the validation videos."""
        return {video.video_id: video.segments for video in self.judged}

    def fitted(self, frames: Frames, thresholds: Sequence[float]) -> FittedDecoding:
        """Choose a decoding on the validation videos."""
        lengths = length_priors(s for video in self.data.training for s in video.segments)
        return fit_decoding(frames, self.truth(), self.labels.actions, lengths, thresholds)

    def matching(self, predictions: Mapping[str, Sequence[Segment]]) -> Any:
        """Match predictions for the validation videos with the truth."""
        return match_segments(self.truth(), predictions, TIOU_THRESHOLDS)

    def removed(self, predictions: Mapping[str, Sequence[Segment]]) -> dict[str, float]:
        """Return what average mAP gains, in percent, when one kind of error is removed."""
        gains = diagnose(self.matching(predictions)).gains
        return {gain.kind: round(100 * gain.average_map, 1) for gain in gains}


def missed(
    truth: Mapping[str, Sequence[Segment]], predictions: Mapping[str, Sequence[Segment]]
) -> dict[str, int]:
    """Count the true segments that no prediction overlaps by a tIoU of 0.5: of its label, and of any."""
    found = {"label": 0, "any": 0}
    for video_id, segments in truth.items():
        for true in segments:
            near = [p for p in predictions.get(video_id, []) if _tiou(true, p) >= TIOU_THRESHOLDS[0]]
            found["any"] += not near
            found["label"] += all(p.label != true.label for p in near)
    return found


def _tiou(first: Segment, second: Segment) -> float:
    start, end = first.start_seconds, first.end_seconds
    inter = min(end, second.end_seconds) - max(start, second.start_seconds)
    return inter / (max(end, second.end_seconds) - min(start, second.start_seconds))


def opened(path: Path, changes: Sequence[str], run: Path | None) -> Backbone:
    """Open the data and the backbone of a run, or one with pretrained weights alone."""
    config = load_config(path, changes)
    data = open_data(config.data, config.clip.interval_seconds)
    labels = Labels.of(data.actions, data.scenes, config.model)
    checkpoint = (
        untrained_checkpoint(config, labels) if run is None else load_checkpoint(run / "best.safetensors")
    )
    model, sha256 = checkpoint.model(), weights_sha256(checkpoint.weights)
    backend = TorchBackend(model, sigmoid=checkpoint.labels.head == "sigmoid")
    folder = FrameStore.of(config).folder / FEATURES
    cache = FeatureCache(backend, sha256, checkpoint.labels, config, folder)
    mirrored = mirrored_features(backend, sha256, checkpoint)
    return Backbone(checkpoint, data, sha256, backend, model.action_head, cache, mirrored)


def mirrored_features(backend: Backend, identity: str, checkpoint: Checkpoint) -> FeatureCache:
    """Return the means of the features of clips and of their mirror images."""
    config, labels = checkpoint.config, checkpoint.labels
    columns = mirrored_columns(labels.actions, config.augment.flip_pairs, config.augment.never_flip)
    folder = FrameStore.of(config).folder / FEATURES
    return FeatureCache(MirroredBackend(backend, columns), f"{identity} mirrored", labels, config, folder)


def row_of(
    backbone: Backbone, config: Config, heads: Sequence[HeadCheckpoint], test: str
) -> tuple[dict[str, Any], dict[str, list[Segment]]]:
    """Return the figures of a variant, and the segments that the mean of its heads gives, cross-validated."""
    metrics: dict[str, list[float]] = {}
    for head in heads:
        own = dict(head.metrics)
        if test:
            own |= {f"test_{k}": v for k, v in _tested(backbone, [head], head, test).items()}
        for name, value in own.items():
            metrics.setdefault(name, []).append(100 * value)
    row: dict[str, Any] = {name: round(statistics.mean(values), 1) for name, values in metrics.items()}
    row["spread"] = {
        name: round(statistics.stdev(values), 1)
        for name, values in metrics.items()
        if name.endswith("map") and len(values) > 1
    }
    mean = mean_frames([backbone.frames(head, backbone.judged) for head in heads])
    thresholds = tuple(np.mean([head.thresholds for head in heads], axis=0)) if heads[0].thresholds else ()
    fitted = backbone.fitted(mean, thresholds)
    row["mean"] = {name: round(100 * value, 1) for name, value in fitted.metrics.items()}
    row["mean"]["method"] = fitted.decoding.method
    flipped = mean_frames([backbone.frames(head, backbone.judged, mirrored=True) for head in heads])
    with_flips = backbone.fitted(flipped, thresholds).metrics
    row["mean_flipped"] = {name: round(100 * value, 1) for name, value in with_flips.items()}
    if test:
        chosen = replace(heads[0], decoding=fitted.decoding, thresholds=thresholds)
        row["mean"] |= {
            f"test_{k}": round(100 * v, 1) for k, v in _tested(backbone, heads, chosen, test).items()
        }
    segments = {
        video_id: decode_frames(frames, backbone.labels.actions, fitted.decoding, thresholds)
        for video_id, frames in mean.items()
    }
    return row, segments


def _tested(
    backbone: Backbone, heads: Sequence[HeadCheckpoint], chosen: HeadCheckpoint, test: str
) -> dict[str, float]:
    """Return the mAP of the mean of some heads on a subset that chose nothing."""
    videos = backbone.data.subset(test)
    frames = mean_frames([backbone.frames(head, videos) for head in heads])
    found = {
        key: decode_frames(value, backbone.labels.actions, chosen.decoding, chosen.thresholds)
        for key, value in frames.items()
    }
    return map_of(found, {video.video_id: video.segments for video in videos})


def mean_frames(parts: Sequence[Frames]) -> Frames:
    """Return the mean scores, actionness and distances of several heads."""

    def column(video_id: str, name: str) -> Any:
        return np.mean([getattr(frames[video_id], name) for frames in parts], axis=0, dtype=np.float32)

    names = ("action", "actionness", "distances")
    return {
        video_id: replace(frames, **{name: column(video_id, name) for name in names})
        for video_id, frames in parts[0].items()
    }


if __name__ == "__main__":
    main()
