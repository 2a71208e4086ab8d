"""Accuracy of other precisions: mAP, scene top-1 and agreement with fp32 on annotated videos."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tsm_export.footage import Validation
from tsm_export.graphs.session import open_session
from tsm_runtime.backends.base import Backend, BlockingBackend, Scores
from tsm_runtime.bundle.reports import AccuracyReport
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import CheckError, VideoError
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.run import run
from tsm_runtime.results import Result
from tsm_runtime.segments.rules import SegmentRules
from tsm_train.samples.clips import Labels
from tsm_train.training.validation import score_results

_log = logging.getLogger("tsm_runtime")

Results = Mapping[str, Mapping[str, Result]]
"""Results by model and video id."""


class OnnxBackend(BlockingBackend):
    """An ONNX file outside a bundle as a backend of the runtime.

    Args:
        data: the file.
        num_threads: of onnxruntime; default: all cores.
    """

    name = "onnxruntime"

    def __init__(self, data: bytes, num_threads: int | None = None) -> None:
        self._session = open_session(data, num_threads)
        self._outputs = [output.name for output in self._session.get_outputs()]

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Score a (N, T, size, size, 3) uint8 batch."""
        found = dict(zip(self._outputs, self._session.run(self._outputs, {"frames": frames}), strict=True))
        return Scores.of(found)


def run_models(
    models: Mapping[str, Backend],
    labels: Labels,
    spec: ClipSpec,
    validation: Validation,
    rules: SegmentRules | None = None,
) -> Results:
    """Run models on videos through the runtime's pipeline; each video is decoded once for all of them.

    A video that cannot be read is logged, and counts as one without segments.
    """
    members = [
        Member(
            backend=backend,
            spec=spec,
            action_labels=labels.actions,
            scene_labels=labels.scenes,
            rules=rules or SegmentRules(),
            name=name,
        )
        for name, backend in models.items()
    ]
    found: dict[str, dict[str, Result]] = {name: {} for name in models}
    for video, path in validation.videos:
        try:
            result = run(path, members, video_id=video.video_id)
        except VideoError as error:
            _log.warning(f"accuracy counts this video as one where nothing is found: {error}")
            continue
        for name, of_model in zip(models, result.members or (result,), strict=True):
            if of_model is not None:
                found[name][video.video_id] = of_model
    return found


def accuracy_reports(
    models: Mapping[str, Backend],
    labels: Labels,
    spec: ClipSpec,
    validation: Validation,
    rules: SegmentRules | None = None,
) -> dict[str, AccuracyReport]:
    """Run models on annotated videos and compare them with the first of them.

    Args:
        models: by name, fp32 first.
        labels: of their scores.
        spec: what they take.
        validation: the videos.
        rules: how their scores become segments.

    Returns:
        A report for each model but the first.

    Raises:
        CheckError: no video gave a result.
        RunError: a model gave scores that are not numbers.
    """
    return compare_results(run_models(models, labels, spec, validation, rules), validation)


def compare_results(results: Results, validation: Validation) -> dict[str, AccuracyReport]:
    """Compare what models found with what the first of them found; see `accuracy_reports`."""
    reference, *others = results.values()
    truth = [video for video, _ in validation.videos]
    if not reference:
        raise CheckError(
            f"none of the {len(truth)} validation videos gave a result, so accuracy is not known;"
            " look at the videos, or export without --validate"
        )
    fp32_scores = score_results(truth, reference)
    return {
        name: AccuracyReport(
            subset=validation.subset,
            num_videos=len(reference),
            num_clips=sum(result.num_intervals for result in reference.values()),
            scores=score_results(truth, other),
            fp32_scores=fp32_scores,
            top1_agreement={
                head: float((a.argmax(axis=1) == b.argmax(axis=1)).mean())
                for head, (a, b) in _paired_scores(reference, other).items()
            },
            same_segments=_same_segments(reference, other),
        )
        for name, other in zip(list(results)[1:], others, strict=True)
    }


def _same_segments(reference: Mapping[str, Result], other: Mapping[str, Result]) -> float | None:
    """Return the share of segments that both have; None where neither found one."""
    first, second = (
        {
            (video_id, segment.label, segment.start_seconds, segment.end_seconds)
            for video_id, result in results.items()
            for segment in result.segments
        }
        for results in (reference, other)
    )
    both = len(first) + len(second)
    return 2 * len(first & second) / both if both else None


def mean_differences(reference: Mapping[str, Result], other: Mapping[str, Result]) -> dict[str, float]:
    """Return, per head, the probability that passes from one label to another, mean over clips."""
    return {
        head: float(np.abs(a - b).sum(axis=1).mean()) / 2
        for head, (a, b) in _paired_scores(reference, other).items()
    }


def _paired_scores(
    reference: Mapping[str, Result], other: Mapping[str, Result]
) -> dict[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Probabilities (N, labels) of both models for the same clips, by the name of the output."""
    columns: dict[str, tuple[list[npt.NDArray[np.float32]], ...]] = {}
    for video_id, result in reference.items():
        a, b = result.scores, other[video_id].scores
        assert a is not None  # the pipeline keeps the scores of what it has run
        assert b is not None
        for head, pair in (("action_scores", (a.action, b.action)), ("scene_scores", (a.scene, b.scene))):
            if pair[0] is not None and pair[1] is not None:
                first, second = columns.setdefault(head, ([], []))
                first.append(pair[0])
                second.append(pair[1])
    return {head: (np.concatenate(a), np.concatenate(b)) for head, (a, b) in columns.items()}
