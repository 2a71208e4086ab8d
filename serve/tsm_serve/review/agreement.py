"""Agreement of two annotators: temporal IoU per class, and Cohen's kappa over moments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tsm_runtime.results import BACKGROUND

Annotated = Sequence[tuple[str, float, float]]
"""(label, start, end) in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Agreement of two annotations of the same video.

    Args:
        tiou: per class, seconds that both gave it over seconds that any gave it; None is not in it.
        kappa: Cohen's kappa, 1 for equal annotations; None where chance alone explains all (one class only).
        num_frames: moments that were compared.
    """

    tiou: dict[str, float]
    kappa: float | None
    num_frames: int


def agreement(first: Annotated, second: Annotated, frame_starts: Sequence[float]) -> Agreement:
    """Compare two annotations.

    Args:
        first: one annotation of a video.
        second: the other one.
        frame_starts: presentation times of its frames; a frame has the labels of the segments it begins in.
            Frames under several labels count as having the set of them as one category.
    """
    labels = sorted({label for label, *_ in (*first, *second)})
    tiou = {label: _tiou(_spans(first, label), _spans(second, label)) for label in labels}
    pairs = list(zip(_categories(first, frame_starts), _categories(second, frame_starts), strict=True))
    return Agreement(tiou=tiou, kappa=cohens_kappa(pairs), num_frames=len(pairs))


def cohens_kappa(pairs: Sequence[tuple[object, object]]) -> float | None:
    """(observed - expected agreement) / (1 - expected agreement); Cohen 1960, equation 1.

    >>> cohens_kappa([("a", "a"), ("a", "b"), ("b", "b"), ("b", "b")])
    0.5
    """
    if not pairs:
        return None
    count = len(pairs)
    observed = sum(one == other for one, other in pairs) / count
    ones, others = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    expected = sum(ones[value] * others[value] for value in ones) / count**2
    return None if expected >= 1 else (observed - expected) / (1 - expected)


def _spans(annotated: Annotated, label: str) -> list[tuple[float, float]]:
    """Return the union of a label's segments as spans that do not overlap."""
    spans: list[tuple[float, float]] = []
    for start, end in sorted((start, end) for name, start, end in annotated if name == label):
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return spans


def _tiou(first: Iterable[tuple[float, float]], second: Iterable[tuple[float, float]]) -> float:
    one, other = list(first), list(second)
    both = sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in one for b in other)
    total = sum(end - start for start, end in (*one, *other)) - both
    return both / total if total > 0 else 0.0


def _categories(annotated: Annotated, frame_starts: Sequence[float]) -> list[tuple[str, ...]]:
    changes = sorted(
        [(start, 1, label) for label, start, _ in annotated]
        + [(end, 0, label) for label, _, end in annotated]
    )
    open_labels: Counter[str] = Counter()
    categories, position = [], 0
    for moment in frame_starts:
        while position < len(changes) and changes[position][0] <= moment + 1e-9:
            _, begins, label = changes[position]
            open_labels[label] += 1 if begins else -1
            position += 1
        categories.append(tuple(sorted(name for name, n in open_labels.items() if n > 0)) or (BACKGROUND,))
    return categories
