"""Warnings about truth and predictions that can be evaluated but look wrong."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tsm_runtime.evaluation.modes import Mode
from tsm_runtime.formats.ground_truth import GroundTruth
from tsm_runtime.results import Segment
from tsm_runtime.wording import counted, first_of

SHOWN = 5

Predictions = dict[str, list[Segment]]
"""Predicted segments per video id."""


def dropped_instances(truth: GroundTruth, mode: Mode, path: Path) -> list[str]:
    """Return a warning about instances of length zero, if the default mode leaves them out."""
    empty = [(video.video_id, entry) for video in truth.videos for entry in video.empty_entries]
    if mode.takes_any_bounds or not empty:
        return []
    video, entry = empty[0]
    return [
        f"{path}: {counted(len(empty), 'instance')} of length zero left out, the first in video {video!r},"
        f" entry {entry}; --mode activitynet counts such as missed"
    ]


def dropped_predictions(path: Path, found: Predictions) -> list[str]:
    """Return a warning for each kind of predictions whose bounds are invalid."""
    every = [
        (f"video {video!r}, entry {number}", segment)
        for video, segments in found.items()
        for number, segment in enumerate(segments, start=1)
    ]
    kinds = (
        ("start below 0", [where for where, s in every if s.start_seconds < 0]),
        (
            "have no length",
            [where for where, s in every if s.start_seconds >= 0 and s.end_seconds <= s.start_seconds],
        ),
    )
    return [
        f"{path}: {counted(len(places), 'prediction')} left out, which {kind}; the first: {places[0]}"
        for kind, places in kinds
        if places
    ]


def check_videos(
    predictions: Mapping[str, Sequence[Segment]], truth: GroundTruth, others: set[str], mode: Mode, path: Path
) -> list[str]:
    """Return a warning about predictions in videos of other subsets, and one about unknown videos."""
    judged = {video.video_id for video in truth.videos}
    treated = "ignored" if mode.unknown_videos == "ignore" else "counted as false"
    lines = []
    for kind, names in (
        ("of another subset", [v for v in predictions if v in others and v not in judged]),
        ("that the truth does not have", [v for v in predictions if v not in others and v not in judged]),
    ):
        count = sum(len(predictions[name]) for name in names)
        if count:
            lines.append(
                f"{path}: {counted(count, 'prediction')} {treated}: in {counted(len(names), 'video')} {kind}:"
                f" {listed(names)}"
            )
    if not judged & set(predictions):
        lines.append(f"{path}: no video is among those of the truth; are the ids spelt as there?")
    return lines


def check_case(labels: Sequence[str], path: Path) -> list[str]:
    """Return warnings about true labels that differ only in case, spaces or Unicode composition."""
    first: dict[str, str] = {}
    pairs = [
        (first[spelling(label)], label)
        for label in labels
        if first.setdefault(spelling(label), label) != label
    ]
    return [
        f"{path}: labels {a!r} and {b!r} are two classes; is one of them misspelt?" for a, b in pairs[:SHOWN]
    ]


def unknown_labels(
    predictions: Mapping[str, Sequence[Segment]], known: set[str], judged: set[str], path: Path
) -> dict[str, tuple[str, int]]:
    """Return for each unknown label a description of its first prediction, and how many it has."""
    by_case = {spelling(label): label for label in sorted(known)}
    found: dict[str, tuple[str, int]] = {}
    for video, segments in predictions.items():
        if video not in judged:
            continue
        for number, segment in enumerate(segments, start=1):
            label = segment.label
            if label in known:
                continue
            where, count = found.get(label, ("", 0))
            if not count:
                near = by_case.get(spelling(label))
                hint = f" (probably {near!r} misspelt)" if near else ""
                where = f"{path}: video {video!r}, entry {number}: label {label!r} is not in the truth{hint}"
            found[label] = (where, count + 1)
    return found


def spelling(label: str) -> str:
    """Return a key that is equal for labels that look alike."""
    return " ".join(unicodedata.normalize("NFKC", label).replace("_", " ").split()).casefold()


def listed(names: Sequence[str]) -> str:
    """Return the first names in quotes."""
    return first_of(list(map(repr, sorted(names))), SHOWN)


def brief(lines: Iterable[str]) -> list[str]:
    """Return the first lines, and the number of further ones."""
    every = list(lines)
    more = len(every) - SHOWN
    return every if more <= 0 else [*every[:SHOWN], f"... and {more} more like the last"]
