"""What a run will be trained on, in numbers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise

import msgspec

from tsm_runtime.clips.spec import count_intervals
from tsm_runtime.results import BACKGROUND, Segment
from tsm_train.data.dataset import TrainingData
from tsm_train.data.interval_labels import interval_coverage, interval_labels
from tsm_train.data.video import TrainingVideo


class ClassCount(msgspec.Struct, frozen=True, kw_only=True):
    """A label in a subset."""

    label: str
    videos: int
    """Videos with an instance of it."""
    instances: int
    seconds: float
    """Sum of the instances' lengths."""
    intervals: int
    """Intervals whose one label it is, as a softmax head learns them; without time jitter."""
    covered_intervals: int
    """Intervals of which it covers at least half, whatever else happens in them."""


class SceneCount(msgspec.Struct, frozen=True, kw_only=True):
    """A scene in a subset; None: unknown."""

    scene: str | None
    captures: int
    videos: int
    seconds: float
    instances: int
    intervals: int


class OverlapCount(msgspec.Struct, frozen=True, kw_only=True):
    """Two labels that are there at the same time."""

    labels: tuple[str, str]
    seconds: float


class SubsetCount(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a subset. Both eyes of a binocular video count as two videos."""

    subset: str
    captures: int
    videos: int
    views: dict[str, int]
    """Videos by view; empty for a data set without views."""
    lengths_from: dict[str, int]
    """How many lengths are the container's word, and how many come from the frames."""
    seconds: float
    labelled_seconds: float
    """With at least one label."""
    overlap_seconds: float
    """With two labels or more."""
    instances: int
    intervals: int
    background_intervals: int
    classes: tuple[ClassCount, ...]
    scenes: tuple[SceneCount, ...]
    overlaps: tuple[OverlapCount, ...]
    """By falling seconds."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    format: str
    interval_seconds: float
    actions: tuple[str, ...]
    """In the order of the model's outputs, without background."""
    scenes: tuple[str, ...]
    subsets: tuple[SubsetCount, ...]
    unreadable_videos: dict[str, int]
    """Skipped, by subset."""
    problems: tuple[dict[str, str], ...]
    """`severity` (error, warning), `kind` and `message` of each."""


def inspect_data(data: TrainingData, interval_seconds: float) -> Report:
    """Count what `open_data` found, at the interval length t of the run."""
    used = (data.config.training_subset, data.config.validation_subset)
    others = sorted({video.subset for video in data.videos} - set(used))
    names = dict.fromkeys((*used, *others))
    return Report(
        format=data.config.format,
        interval_seconds=interval_seconds,
        actions=data.actions,
        scenes=data.scenes,
        subsets=tuple(_subset(name, data.subset(name), data, interval_seconds) for name in names),
        unreadable_videos=dict(data.unreadable),
        problems=tuple(
            {
                "severity": "error" if problem.is_error else "warning",
                "kind": problem.kind,
                "message": problem.message,
            }
            for problem in (*data.problems.errors, *data.problems.warnings)
        ),
    )


def _subset(name: str, videos: Sequence[TrainingVideo], data: TrainingData, t: float) -> SubsetCount:
    intervals = Counter(label for video in videos for label in _interval_labels(video, t))
    overlaps = [_overlap(video.segments) for video in videos]
    pairs: Counter[tuple[str, str]] = Counter()
    for _, _, by_pair in overlaps:
        pairs.update(by_pair)
    return SubsetCount(
        subset=name or "(none)",
        captures=len({video.capture for video in videos}),
        videos=len(videos),
        views=dict(Counter(video.view for video in videos if video.view)),
        lengths_from=dict(Counter(data.lengths[video.path].source for video in videos)),
        seconds=_seconds(videos),
        labelled_seconds=sum(labelled for labelled, _, _ in overlaps),
        overlap_seconds=sum(double for _, double, _ in overlaps),
        instances=sum(len(video.segments) for video in videos),
        intervals=sum(intervals.values()),
        background_intervals=intervals[BACKGROUND],
        classes=tuple(_classes(videos, intervals, t)),
        scenes=tuple(_scenes(videos, t)),
        overlaps=tuple(
            OverlapCount(labels=labels, seconds=seconds)
            for labels, seconds in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
        ),
    )


def _seconds(videos: Iterable[TrainingVideo]) -> float:
    return sum(video.duration_seconds or 0.0 for video in videos)


def _interval_labels(video: TrainingVideo, t: float) -> list[str]:
    return interval_labels(video.segments, count_intervals(video.duration_seconds or 0.0, t), t)


def _classes(videos: Sequence[TrainingVideo], intervals: Counter[str], t: float) -> Iterable[ClassCount]:
    instances: defaultdict[str, list[Segment]] = defaultdict(list)
    there: Counter[str] = Counter()
    covered: Counter[str] = Counter()
    for video in videos:
        for segment in video.segments:
            instances[segment.label].append(segment)
        there.update({segment.label for segment in video.segments})
        covered.update(_covered(video, t))
    for label in sorted(instances):
        yield ClassCount(
            label=label,
            videos=there[label],
            instances=len(instances[label]),
            seconds=sum(s.end_seconds - s.start_seconds for s in instances[label]),
            intervals=intervals[label],
            covered_intervals=covered[label],
        )


def _covered(video: TrainingVideo, t: float) -> Counter[str]:
    """Number of intervals that each label covers by half or more."""
    covered: Counter[str] = Counter()
    by_label: defaultdict[str, list[Segment]] = defaultdict(list)
    for segment in video.segments:
        by_label[segment.label].append(segment)
    for label, segments in by_label.items():
        # Alone, a label is given to just the intervals that it covers by half.
        found = interval_labels(segments, count_intervals(video.duration_seconds or 0.0, t), t)
        covered[label] = found.count(label)
    return covered


def _scenes(videos: Sequence[TrainingVideo], t: float) -> Iterable[SceneCount]:
    by_scene: defaultdict[str | None, list[TrainingVideo]] = defaultdict(list)
    for video in videos:
        by_scene[video.scene].append(video)
    for scene in sorted(by_scene, key=lambda name: (name is None, name or "")):
        shown = by_scene[scene]
        yield SceneCount(
            scene=scene,
            captures=len({video.capture for video in shown}),
            videos=len(shown),
            seconds=_seconds(shown),
            instances=sum(len(video.segments) for video in shown),
            intervals=sum(count_intervals(video.duration_seconds or 0.0, t) for video in shown),
        )


def _overlap(segments: Sequence[Segment]) -> tuple[float, float, Counter[tuple[str, str]]]:
    """Seconds with a label, seconds with two or more, and seconds of each pair of labels."""
    borders = sorted({bound for s in segments for bound in (s.start_seconds, s.end_seconds)})
    labelled = double = 0.0
    pairs: Counter[tuple[str, str]] = Counter()
    for start, end in pairwise(borders):
        labels = sorted(interval_coverage(segments, start, end))
        labelled += (end - start) * (len(labels) > 0)
        double += (end - start) * (len(labels) > 1)
        for pair in combinations(labels, 2):
            pairs[pair] += end - start  # type: ignore[assignment]  # a Counter of seconds
    return labelled, double, pairs
