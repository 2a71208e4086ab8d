"""Evidence of videos, by running models on them, each also on mirrored pictures if wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tsm_runtime.api import Model
from tsm_runtime.backends.base import BlockingBackend, Scores
from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.models.member import Member
from tsm_runtime.results import Result
from tsm_runtime.video.finding import VideoInput
from tsm_serve.suggest.evidence import Evidence


class _Mirrored(BlockingBackend):
    """A model that sees its pictures mirrored."""

    def __init__(self, backend: Any) -> None:
        self.name, self.device, self.best_batch = backend.name, backend.device, backend.best_batch
        self._backend = backend

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        scores: Scores = self._backend.infer(np.ascontiguousarray(frames[:, :, :, ::-1]))
        return scores


@dataclass(frozen=True, slots=True)
class ScoredVideo:
    """A video's evidence, or why there is none."""

    video_id: str
    evidence: Evidence | None = None
    error: str = ""


def score_videos(
    videos: Sequence[VideoInput], models: Sequence[Model], *, mirror: bool, labelled: frozenset[str]
) -> Iterator[ScoredVideo]:
    """Run the models on each video, decoding once.

    Args:
        videos: what to look at.
        models: of the same action labels and interval.
        mirror: each model sees the mirrored pictures too.
        labelled: ids of videos that a person labelled.

    Raises:
        UsageError: the models do not fit together.
    """
    from tsm_runtime.pipeline.run import run

    members = [member for model in models for member in _views(model, mirror)]
    first = members[0]
    for member in members:
        if member.action_labels != first.action_labels or member.spec != first.spec:
            raise UsageError(
                "the models differ in labels or intervals; suggestions compare scores of the same"
            )
    for video in videos:
        try:
            result = run(video.path, members, video_id=video.video_id)
        except VideoError as error:
            yield ScoredVideo(video.video_id, error=str(error))
            continue
        evidence = _evidence(result, first.action_labels, video.video_id in labelled)
        yield ScoredVideo(video.video_id, evidence)


def _views(model: Model, mirror: bool) -> list[Member]:
    member = model.member()
    return [member, replace(member, backend=_Mirrored(member.backend))] if mirror else [member]


def _evidence(result: Result, labels: tuple[str, ...], is_labelled: bool) -> Evidence:
    parts = [part for part in (result.members or (result,)) if part is not None and part.scores is not None]
    scores = [part.scores for part in parts if part.scores is not None]
    return Evidence(
        video_id=result.video_id,
        views=[one.action for one in scores],
        starts=scores[0].indices.astype(np.float64) * parts[0].cell_seconds,
        cell_seconds=parts[0].cell_seconds,
        labels=labels,
        is_labelled=is_labelled,
    )
