"""What would spoil a training, looked for before it begins."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from tsm_runtime.clips.spec import count_intervals
from tsm_runtime.wording import counted
from tsm_train.data.annotated import Source
from tsm_train.data.interval_labels import interval_labels
from tsm_train.data.problems import Problems
from tsm_train.data.video import TrainingVideo
from tsm_train.sections.data import DataConfig

_HEAD_BYTES = 2**20


def check_sources(sources: Sequence[Source], data: DataConfig, problems: Problems) -> None:
    """Check how captures are divided, files that are the same, and entries that repeat."""
    _check_subsets_exist(sources, data, problems)
    _check_captures(sources, data, problems)
    _check_same_files(sources, problems)
    for source in sources:
        counts = Counter((s.label, s.start_seconds, s.end_seconds) for s in source.segments)
        for (label, start, end), count in counts.items():
            if count > 1:
                problems.add(
                    "same-instance-twice",
                    f"{source.entry}: {label!r} [{start:g}, {end:g}] is there {counted(count, 'time')}",
                )


def check_subsets(
    training: Sequence[TrainingVideo],
    validation: Sequence[TrainingVideo],
    data: DataConfig,
    interval_seconds: float,
    problems: Problems,
) -> None:
    """Check that both subsets have instances, intervals and common labels."""
    where = data.split or data.annotations or data.root
    has_subsets = all(problem.kind != "no-subset" for problem in problems.found)
    for name, videos in ((data.training_subset, training), (data.validation_subset, validation)):
        if has_subsets and not any(video.segments for video in videos):
            what = f"no action in its {counted(len(videos), 'video')}" if videos else "no video to be used"
            problems.add("no-instance", f"{where}: no instance matches subset {name!r}: {what}")
    trained, scored = _labels(training), _labels(validation)
    for label in sorted(scored - trained) if trained else ():
        problems.add(
            "only-in-validation",
            f"{where}: {label!r} is in validation and not in training: it cannot be learnt",
        )
    scenes = {video.scene for video in training}
    for video in validation:
        if video.scene is not None and video.scene not in scenes and scenes != {None}:
            problems.add("scene", f"{where}: scene {video.scene!r} is in validation and not in training")
    _check_scenes_known((*training, *validation), where, problems)
    _check_intervals(training, interval_seconds, where, problems)


def _check_subsets_exist(sources: Sequence[Source], data: DataConfig, problems: Problems) -> None:
    names = sorted({source.subset for source in sources if source.subset})
    there = f"; subsets in the annotations: {', '.join(map(repr, names))}" if names else ""
    for name in dict.fromkeys((data.training_subset, data.validation_subset)):
        if name not in names:
            problems.add(
                "no-subset",
                f"{data.split or data.annotations or data.root}: no video of subset {name!r}{there}; divide"
                ' them with: tsm-inspect CONFIG --write-split split.json, then data.split = "split.json"',
            )


def _check_captures(sources: Sequence[Source], data: DataConfig, problems: Problems) -> None:
    where = data.split or data.annotations or data.root
    if data.training_subset == data.validation_subset and not data.split:
        problems.add(
            "capture-in-two-subsets",
            f"{where}: training and validation are both the subset {data.training_subset!r}: what is learnt"
            " by heart would be scored",
        )
    subsets: defaultdict[str, set[str]] = defaultdict(set)
    for source in sources:
        subsets[source.capture].add(source.subset)
    for capture, names in subsets.items():
        if len(names) > 1:
            listed = " and ".join(repr(name) for name in sorted(names))
            problems.add("capture-in-two-subsets", f"{where}: capture {capture!r} is in {listed}")


def _check_same_files(sources: Iterable[Source], problems: Problems) -> None:
    """Report files of equal size and equal first megabyte: copies under other names."""
    by_size: defaultdict[int, list[Source]] = defaultdict(list)
    for source in sources:
        if source.path is not None:
            by_size[source.path.stat().st_size].append(source)
    for alike in by_size.values():
        by_head: defaultdict[str, list[Source]] = defaultdict(list)
        for source in alike if len(alike) > 1 else ():
            assert source.path is not None
            by_head[_head(source.path)].append(source)
        for same in by_head.values():
            first = same[0]
            for other in same[1:]:
                if other.subset != first.subset:
                    problems.add(
                        "same-video-twice",
                        f"{other.path} ({other.subset or 'no subset'}) holds the same video as {first.path}"
                        f" ({first.subset or 'no subset'})",
                    )


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.sha256(file.read(_HEAD_BYTES)).hexdigest()
    except OSError:  # decoding reports it
        return str(path)


def _labels(videos: Iterable[TrainingVideo]) -> set[str]:
    return {segment.label for video in videos for segment in video.segments}


def _check_scenes_known(videos: Sequence[TrainingVideo], where: str, problems: Problems) -> None:
    unknown = sorted({video.capture for video in videos if video.scene is None})
    if unknown and len(unknown) < len({video.capture for video in videos}):
        listed = ", ".join(map(repr, unknown[:3])) + (" ..." if len(unknown) > 3 else "")
        problems.add("scene", f"{where}: no scene is known of {counted(len(unknown), 'capture')}: {listed}")


def _check_intervals(videos: Sequence[TrainingVideo], t: float, where: str, problems: Problems) -> None:
    learnt: set[str] = set()
    for video in videos:
        count = count_intervals(video.duration_seconds or 0.0, t)
        if not count:
            problems.add(
                "too-short", f"{video.path}: shorter than one interval of {t:g} s; nothing is learnt of it"
            )
        learnt.update(interval_labels(video.segments, count, t))
    for label in sorted(_labels(videos) - learnt):
        problems.add(
            "never-an-interval",
            f"{where}: no training interval of {t:g} s has the label {label!r}: its instances are too short,"
            " or others cover them; choose a smaller clip.interval_seconds",
        )
