"""The sound branch of a run: trained once its backbone is, and kept beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tsm_runtime.audio.patches import SoundTrack
from tsm_runtime.evaluation.protocol import evaluate
from tsm_runtime.results import IntervalScores, Segment
from tsm_runtime.segments.find import find_segments
from tsm_runtime.segments.rules import SegmentRules
from tsm_train.audio.checkpoint import SOUND_FILE, SoundCheckpoint, load_sound, save_sound
from tsm_train.audio.fit import fit_branch
from tsm_train.audio.intervals import Intervals, VideoIntervals, read_intervals
from tsm_train.audio.network import SoundBranchNet, SoundProbabilities
from tsm_train.config import Config
from tsm_train.data.dataset import TrainingData
from tsm_train.head.checkpoint import weights_sha256
from tsm_train.head.features import FeatureCache
from tsm_train.head.train import FEATURES
from tsm_train.samples.clips import Labels
from tsm_train.samples.frame_store import FrameStore
from tsm_train.sections.after_backbone import AudioConfig
from tsm_train.training.checkpoint import load_checkpoint
from tsm_train.training.thresholds import thresholds_of_scores
from tsm_train.training.validation import TIOU_THRESHOLDS, TorchBackend


def train_run_sound(config: Config, folder: Path, data: TrainingData) -> dict[str, float]:
    """Train the sound branch of a finished run on features of its best epoch; write `audio.safetensors`.

    A branch that is there already, of the same backbone and the same `[audio]` section, is kept.

    Args:
        config: of the run, with an `[audio]` section.
        folder: of the run.
        data: its videos.

    Returns:
        Its metrics, each name with `audio_` before it.

    Raises:
        UsageError: there is no sound to learn from, or `audio.pretrained` does not fit.
        RunError: the loss is not finite, or a file cannot be written.
    """
    if config.audio is None or config.sound_branch is None:
        raise ValueError("no [audio] section beside pictures")
    backbone = load_checkpoint(folder / "best.safetensors")
    identity, path = weights_sha256(backbone.weights), folder / SOUND_FILE
    kept = load_sound(path) if path.exists() else None
    if kept is None or kept.backbone_sha256 != identity or kept.config != config.audio:
        model = backbone.model()
        backend = TorchBackend(model, sigmoid=backbone.labels.head == "sigmoid")
        features = FrameStore.of(config).folder / FEATURES
        cache = FeatureCache(backend, identity, backbone.labels, config, features)
        read = [
            read_intervals(videos, cache, config.audio.spec, config.clip.num_frames)
            for videos in (data.training, data.validation or data.training)
        ]
        kept = train_sound(
            config,
            config.audio,
            backbone.labels,
            read[0],
            read[1],
            (model.action_head, model.scene_head),
            backbone.segment_rules,
            identity,
        )
        save_sound(path, kept)
    return {f"audio_{name}": value for name, value in kept.metrics.items()}


def train_sound(
    config: Config,
    audio: AudioConfig,
    labels: Labels,
    training: Sequence[VideoIntervals],
    judged: Sequence[VideoIntervals],
    heads: tuple[nn.Linear, nn.Linear | None],
    rules: SegmentRules,
    backbone_sha256: str,
) -> SoundCheckpoint:
    """Train a branch, fit it to the picture model's thresholds, and score it with sound and without.

    Args:
        config: of the run.
        audio: its `[audio]` section.
        labels: names of the outputs.
        training: intervals to learn from.
        judged: intervals of the validation videos.
        heads: action head and scene head of the picture model.
        rules: how the picture model's scores become segments.
        backbone_sha256: of its weights.
    """
    t = config.clip.interval_seconds
    start = dict(load_sound(Path(audio.pretrained)).weights) if audio.pretrained else None
    branch = fit_branch(
        Intervals.of(training, labels, t),
        heads,
        labels,
        audio,
        seed=config.train.seed,
        scene_weight=config.train.scene_loss_weight,
        start=start,
    )
    judge = JudgedBranch(branch, labels, config, rules)
    if labels.head == "sigmoid" and rules.thresholds:
        judge.fit_thresholds(judged)
    metrics = {
        **judge.metrics(judged),
        **{f"muted_{name}": value for name, value in judge.metrics(judged, muted=True).items()},
    }
    return SoundCheckpoint(
        config=audio,
        labels=labels,
        feature_dim=branch.mean.numel(),
        backbone_sha256=backbone_sha256,
        metrics=metrics,
        weights=branch.state_dict(),
    )


@dataclass(frozen=True, slots=True)
class JudgedBranch:
    """A branch and what its scores mean.

    Args:
        branch: trained.
        labels: names of its outputs.
        config: of the run.
        rules: how scores become segments, with the picture model's thresholds.
    """

    branch: SoundBranchNet
    labels: Labels
    config: Config
    rules: SegmentRules

    def scores(self, each: VideoIntervals, *, muted: bool = False) -> IntervalScores:
        """Return the scores of a video's intervals; muted: as if it had no sound."""
        track = SoundTrack.silent(each.track.spec) if muted else each.track
        patches = track.patches(each.middles)
        sigmoid, scenes = self.labels.head == "sigmoid", bool(self.labels.scenes)
        model = SoundProbabilities(self.branch, sigmoid=sigmoid, has_scenes=scenes)
        inputs = (each.features, patches.log_mel, patches.is_heard)
        with torch.inference_mode():
            action, *scene, _ = model(*map(torch.from_numpy, inputs))
        jumps = np.flatnonzero(np.diff(each.indices) != 1) + 1
        return IntervalScores(
            indices=each.indices,
            action=action.numpy(),
            scene=scene[0].numpy() if scene else None,
            breaks=frozenset(each.indices[jumps].tolist()),
        )

    def fit_thresholds(self, judged: Sequence[VideoIntervals]) -> None:
        """Move the logits of heard intervals so that the picture model's thresholds are the best for them."""
        found = {each.video.video_id: self.scores(each) for each in judged}
        videos = [each.video for each in judged]
        t = self.config.clip.interval_seconds
        best = thresholds_of_scores(videos, found, self.labels.actions, t)
        old, new = (torch.tensor(values).clamp(1e-6, 1 - 1e-6) for values in (self.rules.thresholds, best))
        self.branch.heard_bias[: len(best)] += torch.logit(old) - torch.logit(new)

    def segments(self, each: VideoIntervals, *, muted: bool = False) -> list[Segment]:
        """Return the segments of a video."""
        scores = self.scores(each, muted=muted)
        found, _ = find_segments(scores, self.labels.actions, self.config.clip_spec, self.rules)
        return found

    def metrics(self, judged: Sequence[VideoIntervals], *, muted: bool = False) -> dict[str, float]:
        """Return mAP, as `score_results` does."""
        truth = {each.video.video_id: each.video.segments for each in judged}
        found = {each.video.video_id: self.segments(each, muted=muted) for each in judged}
        evaluation = evaluate(truth, found, TIOU_THRESHOLDS)
        return {"map": evaluation.average_map, "map_0.5": float(evaluation.map_per_tiou[0])}
