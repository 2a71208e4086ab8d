"""Validation through the runtime's own path: decoding, clips, merging and evaluation as in deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from tsm_runtime.backends.base import BlockingBackend, Scores
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.evaluation.protocol import evaluate, scene_accuracy
from tsm_runtime.formats.ground_truth import VideoAnnotation
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run
from tsm_runtime.results import Result
from tsm_runtime.segments.rules import SegmentRules
from tsm_train.data.video import TrainingVideo
from tsm_train.model.tsm import TSM, Probabilities
from tsm_train.samples.clips import Labels

TIOU_THRESHOLDS = (0.5, 0.75, 0.95)
"""The thresholds of the challenge's score (paper, 4.1)."""

_BATCH_SIZE = 8


class TorchBackend(BlockingBackend):
    """A PyTorch model behind the runtime's backend protocol."""

    name = "torch"

    def __init__(self, model: TSM, *, sigmoid: bool = False) -> None:
        self._model = Probabilities(model, sigmoid=sigmoid)
        self._device = next(model.parameters()).device

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Score a (N, T, size, size, 3) uint8 batch; the model's mode is the caller's affair."""
        wrapped, model = self._model, self._model.model
        with torch.inference_mode():
            features = model.frame_features(torch.from_numpy(frames).to(self._device))
            dropped = model.dropout(features)
            action, *scene = wrapped.scores(*model.classify(dropped.mean(1)))
            logits = model.action_head(dropped).float()
            of_frames = logits.sigmoid() if wrapped.sigmoid else logits.softmax(2)
        return Scores(
            action.cpu().numpy(),
            scene[0].cpu().numpy() if scene else None,
            of_frames.cpu().numpy(),
            features.float().cpu().numpy(),
        )


def predict(
    model: TSM,
    video: Path,
    video_id: str,
    labels: Labels,
    spec: ClipSpec,
    rules: SegmentRules | None = None,
    rate: float | None = None,
) -> Result:
    """Run one video through the runtime's pipeline with a PyTorch model in evaluation mode.

    Of a sigmoid head whose rules have no thresholds yet the scores are what counts, not the segments: see
    `thresholds.apply_rules`.
    """
    member = Member(
        backend=TorchBackend(model, sigmoid=labels.head == "sigmoid"),
        spec=spec,
        action_labels=labels.actions,
        scene_labels=labels.scenes,
        rules=rules or SegmentRules(),
    )
    return run(video, member, Options(batch_size=_BATCH_SIZE, rate=rate), video_id=video_id)


def score_results(
    truth: Sequence[TrainingVideo | VideoAnnotation], results: Mapping[str, Result]
) -> dict[str, float]:
    """Score results as the challenge does.

    Returns:
        `map` (mean over the thresholds), `map_0.5` and so on, and `scene_top1` where there are scenes;
        0 to 1.
    """
    evaluation = evaluate(
        {video.video_id: video.segments for video in truth},
        {video_id: result.segments for video_id, result in results.items()},
        TIOU_THRESHOLDS,
    )
    metrics = {"map": evaluation.average_map}
    for threshold, value in zip(TIOU_THRESHOLDS, evaluation.map_per_tiou, strict=True):
        metrics[f"map_{threshold:g}"] = float(value)
    scenes = {video.video_id: video.scene for video in truth if video.scene is not None}
    found = {key: result.scenes[0].label for key, result in results.items() if result.scenes}
    if scenes and found:
        metrics["scene_top1"] = scene_accuracy(scenes, found)
    return metrics
