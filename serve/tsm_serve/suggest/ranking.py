"""Which videos, or which moments of them, to label next: by doubt, disagreement, novelty and rare classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from tsm_runtime.results import BACKGROUND
from tsm_serve.suggest.evidence import Evidence, disagreement, entropy, margin_doubt

MOMENT_SECONDS = 10.0
"""Moments are parts of so many seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Weight of each reason; benchmarks/suggest.py compares them."""

    entropy: float = 1.0
    margin: float = 0.5
    disagreement: float = 1.0
    novelty: float = 0.5
    rarity: float = 0.5


class Suggestion(msgspec.Struct, frozen=True, kw_only=True):
    """A part to label, and the reasons.

    Args:
        value: the sum of the weighted reasons.
        reasons: each reason's part of the value, largest first.
        moments: the parts of it that count most, as [start, end].
    """

    video_id: str
    start_seconds: float
    end_seconds: float
    value: float
    reason: str
    reasons: dict[str, float]
    moments: list[tuple[float, float]]


def suggest(
    videos: Sequence[Evidence],
    *,
    budget_seconds: float = float("inf"),
    weights: Weights | None = None,
    by_moment: bool = False,
) -> list[Suggestion]:
    """Rank what is not labelled, best first, until the budget is used up.

    The novelty of the others is computed again after each choice: the list does not repeat one kind of video.

    Args:
        videos: all videos, the labelled ones too, which determine the novelty of the others.
        budget_seconds: length of the parts together; a part that no longer fits is left out.
        weights: of the reasons.
        by_moment: rank parts of `MOMENT_SECONDS`, not whole videos.
    """
    weights = weights or Weights()
    rare = _rarity(videos)
    parts = [part for video in videos if not video.is_labelled for part in _parts(video, by_moment)]
    fixed = [_fixed_reasons(part, weights, rare) for part in parts]
    known = [_signature(video) for video in videos if video.is_labelled]
    signatures = [_signature(part) for part in parts]
    chosen: list[Suggestion] = []
    left = budget_seconds
    open_parts = [n for n, part in enumerate(parts) if _length(part) <= budget_seconds]
    nearest = np.array([_distance(signature, known) for signature in signatures])
    while open_parts:
        values = [sum(fixed[n].values()) + weights.novelty * nearest[n] for n in open_parts]
        best = open_parts.pop(int(np.argmax(values)))
        if _length(parts[best]) <= left:
            left -= _length(parts[best])
            reasons = {**fixed[best], "novelty": weights.novelty * float(nearest[best])}
            chosen.append(_suggestion(parts[best], reasons))
            for n in open_parts:
                nearest[n] = min(nearest[n], _distance(signatures[n], [signatures[best]]))
    return chosen


def _parts(video: Evidence, by_moment: bool) -> list[Evidence]:
    if not len(video.starts):
        return []
    if not by_moment:
        return [video]
    numbers = (video.starts // MOMENT_SECONDS).astype(int)
    return [_rows(video, np.flatnonzero(numbers == number)) for number in np.unique(numbers)]


def _rows(video: Evidence, rows: npt.NDArray[np.intp]) -> Evidence:
    return Evidence(
        video_id=video.video_id,
        views=[view[rows] for view in video.views],
        starts=video.starts[rows],
        cell_seconds=video.cell_seconds,
        labels=video.labels,
        features=None if video.features is None else video.features[rows],
    )


def _length(part: Evidence) -> float:
    return float(part.starts[-1] + part.cell_seconds - part.starts[0])


def _fixed_reasons(part: Evidence, weights: Weights, rare: dict[str, float]) -> dict[str, float]:
    """Return the reasons that do not depend on what else is chosen; means over the intervals."""
    mean = part.mean
    rarity = np.array([rare.get(label, 0.0) for label in part.labels])
    return {
        "entropy": weights.entropy * float(entropy(mean).mean()),
        "margin": weights.margin * float(margin_doubt(mean).mean()),
        "disagreement": weights.disagreement * float(disagreement(part.views).mean()),
        "rare class": weights.rarity * float((mean.astype(np.float64) @ rarity).max()),
    }


def _rarity(videos: Sequence[Evidence]) -> dict[str, float]:
    """Return for each class 1 - its share of the commonest class's expected intervals, so from 0 to 1."""
    counts: Counter[str] = Counter()
    for video in videos:
        for label, total in zip(video.labels, video.mean.sum(0), strict=True):
            counts[label] += float(total)  # type: ignore[assignment]  # a Counter of floats
    counts.pop(BACKGROUND, None)
    most = max(counts.values(), default=0)
    return {label: 1 - count / most for label, count in counts.items()} if most else {}


def _signature(part: Evidence) -> npt.NDArray[np.float64]:
    """Return the mean feature of a part, or without features its mean and highest scores, normalised."""
    if part.features is not None:
        mean = part.features.astype(np.float64).mean(0)
    else:
        scores = part.mean.astype(np.float64)
        mean = np.concatenate([scores.mean(0), scores.max(0)]) if len(scores) else np.ones(1)
    return np.asarray(mean / max(1e-12, float(np.linalg.norm(mean))))


def _distance(signature: npt.NDArray[np.float64], others: Sequence[npt.NDArray[np.float64]]) -> float:
    """Return the smallest cosine distance, from 0 to 1; 1 where there is nothing to compare with."""
    return min((1 - max(0.0, float(signature @ other)) for other in others), default=1.0)


_WORDS = {
    "entropy": "the model does not know what it is",
    "margin": "two classes are equally likely",
    "disagreement": "the models disagree",
    "novelty": "nothing labelled looks like it",
    "rare class": "it may show a class with few examples",
}


def _suggestion(part: Evidence, reasons: dict[str, float]) -> Suggestion:
    ordered = dict(sorted(((k, round(v, 4)) for k, v in reasons.items()), key=lambda pair: -pair[1]))
    return Suggestion(
        video_id=part.video_id,
        start_seconds=round(float(part.starts[0]), 3),
        end_seconds=round(float(part.starts[-1] + part.cell_seconds), 3),
        value=round(sum(reasons.values()), 4),
        reason=_WORDS[next(iter(ordered))],
        reasons=ordered,
        moments=_moments(part),
    )


def _moments(part: Evidence, most: int = 3) -> list[tuple[float, float]]:
    """Return the intervals of the largest doubt, neighbours joined, in order of time."""
    doubt = entropy(part.mean) + margin_doubt(part.mean) + disagreement(part.views)
    picked = np.sort(np.argsort(-doubt, kind="stable")[: 2 * most])
    spans: list[tuple[float, float]] = []
    for start in part.starts[picked]:
        if spans and start <= spans[-1][1] + 1e-6:
            spans[-1] = (spans[-1][0], round(float(start + part.cell_seconds), 3))
        else:
            spans.append((round(float(start), 3), round(float(start + part.cell_seconds), 3)))
    return spans[:most]
