"""The joint model of a run: trained once its backbone is, and kept beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tsm_runtime.evaluation.protocol import evaluate
from tsm_runtime.results import IntervalScores, Segment
from tsm_runtime.segments.find import find_segments
from tsm_runtime.segments.rules import SegmentRules
from tsm_train.config import Config
from tsm_train.data.dataset import TrainingData
from tsm_train.fitting import fit_one_cycle
from tsm_train.head.checkpoint import weights_sha256
from tsm_train.head.features import FeatureCache
from tsm_train.head.train import FEATURES
from tsm_train.samples.clips import Labels
from tsm_train.samples.frame_store import FrameStore
from tsm_train.sections.after_backbone import ViewsConfig
from tsm_train.training.checkpoint import load_checkpoint
from tsm_train.training.losses import action_loss, scene_loss
from tsm_train.training.validation import TIOU_THRESHOLDS, TorchBackend
from tsm_train.views.checkpoint import VIEWS_FILE, ViewsCheckpoint, load_views, save_views
from tsm_train.views.moments import CaptureMoments, Moments, read_moments
from tsm_train.views.network import STD_FLOOR, ViewJoinNet, ViewProbabilities


def train_run_views(config: Config, folder: Path, data: TrainingData) -> dict[str, float]:
    """Train the joint model of a finished run on features of its best epoch; write `views.safetensors`.

    A model that is there already, of the same backbone and the same `[views]` section, is kept.

    Returns:
        Its metrics, each name with `views_` before it.

    Raises:
        UsageError: no moment has two views.
        RunError: the loss is not finite, or a file cannot be written.
    """
    if config.views is None:
        raise ValueError("no [views] section")
    backbone = load_checkpoint(folder / "best.safetensors")
    identity, path = weights_sha256(backbone.weights), folder / VIEWS_FILE
    kept = load_views(path) if path.exists() else None
    if kept is None or kept.backbone_sha256 != identity or kept.config != config.views:
        model = backbone.model()
        backend = TorchBackend(model, sigmoid=backbone.labels.head == "sigmoid")
        features = FrameStore.of(config).folder / FEATURES
        cache = FeatureCache(backend, identity, backbone.labels, config, features)
        training, judged = (
            read_moments(videos, cache, config.clip.num_frames)
            for videos in (data.training, data.validation or data.training)
        )
        heads = [head for head in (model.action_head, model.scene_head) if head is not None]
        network = fit_views(
            Moments.of(training, backbone.labels, config.clip.interval_seconds),
            heads,
            backbone.labels,
            config.views,
            seed=config.train.seed,
            scene_weight=config.train.scene_loss_weight,
        )
        judge = JudgedViews(network, backbone.labels, config, backbone.segment_rules)
        kept = ViewsCheckpoint(
            config=config.views,
            labels=backbone.labels,
            feature_dim=network.mean.numel(),
            backbone_sha256=identity,
            metrics=judge.metrics(judged) | judge.single_metrics(judged),
            weights=network.state_dict(),
        )
        save_views(path, kept)
    return {f"views_{name}": value for name, value in kept.metrics.items()}


def fit_views(
    moments: Moments,
    heads: Sequence[nn.Linear],
    labels: Labels,
    config: ViewsConfig,
    *,
    seed: int = 0,
    scene_weight: float = 0.5,
) -> ViewJoinNet:
    """Train a joint model; views are left out at random, so that it does without any of them.

    Args:
        moments: to learn from.
        heads: action head and, if there is one, scene head of the picture model.
        labels: names of the outputs.
        config: `[views]` of the configuration.
        seed: of weights, order and dropout.
        scene_weight: of the scene loss.

    Returns:
        The network, in evaluation mode.

    Raises:
        RunError: the loss is not finite.
    """
    rng = np.random.default_rng((seed, 3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _new(moments, heads, labels, config)
        per_epoch = math.ceil(len(moments.scenes) / config.batch_size)
        order = np.arange(len(moments.scenes))

        def loss_of(step: int) -> Tensor:
            nonlocal order
            if step % per_epoch == 0:
                order = rng.permutation(len(moments.scenes))
            begin = step % per_epoch * config.batch_size
            rows = torch.from_numpy(order[begin : begin + config.batch_size])
            present = _left_out(moments.present[rows], config.view_dropout, rng)
            actions, scenes = network(moments.features[rows], present)
            loss = action_loss(actions, moments.actions[rows])
            return loss + scene_weight * scene_loss(scenes, moments.scenes[rows]) if scenes.shape[1] else loss

        fit_one_cycle(
            network,
            loss_of,
            per_epoch * config.epochs,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            what="joint model of views",
            option="views.learning_rate",
        )
    return network


def _new(moments: Moments, heads: Sequence[nn.Linear], labels: Labels, config: ViewsConfig) -> ViewJoinNet:
    network = ViewJoinNet(
        moments.features.shape[2],
        len(labels.actions),
        len(labels.scenes),
        join=config.join,
        hidden=config.hidden,
        dropout=config.dropout,
    )
    seen = moments.features[moments.present > 0]
    with torch.no_grad():
        network.picture_head.weight.copy_(torch.cat([head.weight for head in heads]))
        network.picture_head.bias.copy_(torch.cat([head.bias for head in heads]))
        network.mean.copy_(seen.mean(0))
        network.std.copy_(seen.std(0) + STD_FLOOR)
    return network


def _left_out(present: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Return which views are given: each is left out with a probability, but one of a moment stays."""
    chance = torch.from_numpy(rng.random(tuple(present.shape), np.float32)) * present
    kept = present * (chance >= share)
    best = torch.zeros_like(present).scatter_(1, chance.argmax(1, keepdim=True), 1.0)
    return torch.maximum(kept, best * present)


@dataclass(frozen=True, slots=True)
class JudgedViews:
    """A joint model and what its scores mean.

    Args:
        network: trained.
        labels: names of its outputs.
        config: of the run.
        rules: how scores become segments.
    """

    network: ViewJoinNet
    labels: Labels
    config: Config
    rules: SegmentRules

    def segments(self, moments: CaptureMoments) -> list[Segment]:
        """Return the segments of a capture."""
        sigmoid, scenes = self.labels.head == "sigmoid", bool(self.labels.scenes)
        model = ViewProbabilities(self.network, sigmoid=sigmoid, has_scenes=scenes)
        with torch.inference_mode():
            action, *_ = model(torch.from_numpy(moments.features), torch.from_numpy(moments.present))
        jumps = np.flatnonzero(np.diff(moments.indices) != 1) + 1
        breaks = frozenset(moments.indices[jumps].tolist())
        scores = IntervalScores(indices=moments.indices, action=action.numpy(), breaks=breaks)
        return find_segments(scores, self.labels.actions, self.config.clip_spec, self.rules)[0]

    def metrics(self, judged: Sequence[CaptureMoments]) -> dict[str, float]:
        """Return mAP, as `score_results` does."""
        truth = {each.capture: each.segments for each in judged}
        found = {each.capture: self.segments(each) for each in judged}
        evaluation = evaluate(truth, found, TIOU_THRESHOLDS)
        return {"map": evaluation.average_map, "map_0.5": float(evaluation.map_per_tiou[0])}

    def single_metrics(self, judged: Sequence[CaptureMoments]) -> dict[str, float]:
        """Return the mean of `metrics` over the views, each given alone."""
        num_views = judged[0].present.shape[1] if judged else 0
        alone = [
            self.metrics([one for each in judged if (one := each.only(view)) is not None])
            for view in range(num_views)
            if any(each.present[:, view].any() for each in judged)
        ]
        return {f"single_{name}": float(np.mean([each[name] for each in alone])) for name in alone[0]}
