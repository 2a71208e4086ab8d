"""`train_head`: features, training, choice of the decoding."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from tsm_runtime.backends.base import Backend
from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.results import FrameScores, IntervalScores, Segment
from tsm_runtime.segments.decoding.decode import decode_frames
from tsm_train.config import Config
from tsm_train.data.video import TrainingVideo
from tsm_train.head.checkpoint import HeadCheckpoint
from tsm_train.head.decoding_fit import fit_decoding, length_priors, map_of
from tsm_train.head.features import FeatureCache, FrameSequence, Piece
from tsm_train.head.fit import fit_heads
from tsm_train.head.network import AnyHead, HeadProbabilities
from tsm_train.samples.clips import Labels
from tsm_train.samples.frame_store import FrameStore
from tsm_train.samples.store_videos import open_stored, store_videos
from tsm_train.samples.stored_video import StoredVideo
from tsm_train.sections.after_backbone import HeadConfig
from tsm_train.training.thresholds import thresholds_of_scores

_log = logging.getLogger("tsm_runtime")

FEATURES = "features"
"""Folder of the features, beside the stored frames."""


def train_head(
    config: Config,
    labels: Labels,
    training: Sequence[TrainingVideo],
    validation: Sequence[TrainingVideo],
    backend: Backend,
    frame_head: nn.Linear,
    backbone_sha256: str,
    *,
    cache: FeatureCache | None = None,
    seed: int | None = None,
    features_sha256: str | None = None,
    show_progress: bool = False,
) -> HeadCheckpoint:
    """Train the temporal head of a backbone, and choose how its scores become segments.

    Args:
        config: of the run, with a `[head]` section.
        labels: names of the outputs.
        training: videos to learn from.
        validation: videos that choose the decoding; without any the training videos do, and then no figure
            of `metrics` holds for new videos.
        backend: the trained backbone, which gives features.
        frame_head: its linear action head.
        backbone_sha256: of its weights; a bundle ties the head to it.
        cache: of the features, of backbone and sound branch; None: those of the backbone.
        features_sha256: of the weights that its features depend on, by which these are kept; None: of all.
        seed: of weights, windows and dropout; None: that of the run, of which the features depend.
        show_progress: draw bars.

    Raises:
        UsageError: there is no `[head]` section, or no training video as long as one interval.
        VideoError: no training video can be read.
        RunError: the loss is not finite, or a file cannot be written.
    """
    if config.head is None:
        raise UsageError(f"{config.name}: there is no [head] section to train a temporal head by")
    store = FrameStore.of(config)
    cache = cache or FeatureCache(
        backend, features_sha256 or backbone_sha256, labels, config, store.folder / FEATURES
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not show_progress) as bars:
        sequences = _sequences(config.head, cache, store, training, bars)

        def fit(chosen: Sequence[FrameSequence]) -> AnyHead:
            task = bars.add_task("temporal head", total=None)
            return fit_heads(
                chosen,
                frame_head,
                labels,
                cache.frame_seconds,
                config.head or HeadConfig(),
                seed=config.train.seed if seed is None else seed,
                progress=lambda done, steps: bars.update(task, completed=done, total=steps),
            )

        head = fit(sequences)
        judged = validation or training
        frames = _frame_scores(head, cache, labels, judged, bars)
        held_out: dict[str, FrameScores] = {}
        for own, others in _held_out(training, sequences, config.head.folds):
            held_out |= _frame_scores(fit(others), cache, labels, own, bars)
    chosen_on = _Scored(training, held_out) if held_out else _Scored(judged, frames)
    tested = _Scored(judged, frames) if held_out and validation else None
    feature_dim = sequences[0].features.shape[1]
    return _checkpoint(config.head, head, labels, training, chosen_on, tested, feature_dim, backbone_sha256)


@dataclass(frozen=True, slots=True)
class _Scored:
    """Annotated videos, and the scores of the frames of those that have any."""

    videos: Sequence[TrainingVideo]
    frames: dict[str, FrameScores]

    @property
    def truth(self) -> dict[str, Sequence[Segment]]:
        return {video.video_id: video.segments for video in self.videos}


def _held_out(
    videos: Sequence[TrainingVideo], sequences: Sequence[FrameSequence], count: int
) -> Iterator[tuple[list[TrainingVideo], list[FrameSequence]]]:
    """Yield the videos of each fold, and the passes over all others."""
    for fold in _folds(videos, count):
        own = [video for video in videos if video.video_id in fold]
        yield own, [sequence for sequence in sequences if sequence.video_id not in fold]


def _folds(videos: Sequence[TrainingVideo], count: int) -> list[frozenset[str]]:
    """Share out the recordings; both eyes, and all views of one, are in one fold."""
    captures = list(dict.fromkeys(video.capture for video in videos))
    if count and len(captures) < max(2, count):
        raise UsageError(
            f"head.folds {count}: expected 2 or more, and no more than the {len(captures)} training"
            " recordings"
        )
    groups = [set(captures[number::count]) for number in range(count)]
    return [frozenset(v.video_id for v in videos if v.capture in group) for group in groups]


def _sequences(
    config: HeadConfig,
    cache: FeatureCache,
    store: FrameStore,
    videos: Sequence[TrainingVideo],
    bars: Progress,
) -> list[FrameSequence]:
    """Return all passes over the training videos."""
    stored: dict[str, StoredVideo] = {}
    if config.passes > 1:
        store_videos(store, videos)
        stored = {video.video_id: frames for video, frames in open_stored(store, videos)}
    found: list[FrameSequence] = []
    tasks = [(video, number) for number in range(config.passes) for video in videos]
    for video, number in bars.track(tasks, description="features"):
        if number and video.video_id not in stored:
            continue
        try:
            found += cache.sequences(video, stored.get(video.video_id), number)
        except VideoError as error:
            _log.warning(f"the temporal head does without this video: {error}")
    return found


def _frame_scores(
    head: AnyHead,
    cache: FeatureCache,
    labels: Labels,
    videos: Sequence[TrainingVideo],
    bars: Progress,
) -> dict[str, FrameScores]:
    """Return the head's scores of every video that can be read and has an interval."""
    found: dict[str, FrameScores] = {}
    for video in bars.track(list(videos), description="scores"):
        try:
            pieces = cache.deployed(video)
        except VideoError as error:
            _log.warning(f"validation counts this video as one where nothing is found: {error}")
            continue
        if pieces:
            found[video.video_id] = score_pieces(head, pieces, sigmoid=labels.head == "sigmoid")
    return found


def score_pieces(head: AnyHead, pieces: Sequence[Piece], *, sigmoid: bool) -> FrameScores:
    """Run a head over the pieces of a video, of which there is one at least."""
    model, step = HeadProbabilities(head, sigmoid=sigmoid), head.frame_seconds
    parts, indices, breaks = [], [], []
    for piece in pieces:
        with torch.inference_mode():
            outputs = model(torch.from_numpy(piece.features[None].astype(np.float32)))
        parts.append([output[0].numpy() for output in outputs])
        first = round(piece.start_seconds / step)
        indices.append(np.arange(first, first + len(piece.features), dtype=np.int64))
        breaks.append(first)
    action, actionness, distances = (np.concatenate(column) for column in zip(*parts, strict=True))
    return FrameScores(
        indices=np.concatenate(indices),
        step_seconds=step,
        action=action,
        actionness=actionness,
        distances=distances,
        breaks=frozenset(breaks[1:]),
    )


def _checkpoint(
    config: HeadConfig,
    head: AnyHead,
    labels: Labels,
    training: Sequence[TrainingVideo],
    chosen_on: _Scored,
    tested: _Scored | None,
    feature_dim: int,
    backbone_sha256: str,
) -> HeadCheckpoint:
    """Choose thresholds and decoding, and evaluate them on the videos that chose nothing, if any."""
    thresholds: tuple[float, ...] = ()
    if labels.head == "sigmoid":
        cells = {k: IntervalScores(indices=f.indices, action=f.action) for k, f in chosen_on.frames.items()}
        thresholds = thresholds_of_scores(chosen_on.videos, cells, labels.actions, head.frame_seconds)
    lengths = length_priors(segment for video in training for segment in video.segments)
    fitted = fit_decoding(chosen_on.frames, chosen_on.truth, labels.actions, lengths, thresholds)
    metrics = fitted.metrics
    if tested is not None:
        found = {
            video: decode_frames(scores, labels.actions, fitted.decoding, thresholds)
            for video, scores in tested.frames.items()
        }
        metrics = metrics | {f"validation_{k}": v for k, v in map_of(found, tested.truth).items()}
    return HeadCheckpoint(
        config=config,
        labels=labels,
        frame_seconds=head.frame_seconds,
        feature_dim=feature_dim,
        backbone_sha256=backbone_sha256,
        metrics=metrics,
        weights=head.state_dict(),
        decoding=fitted.decoding,
        thresholds=thresholds,
    )
