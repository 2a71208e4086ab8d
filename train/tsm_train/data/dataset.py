"""`open_data`: from the `[data]` section of a configuration to videos that can be trained on."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.results import Segment
from tsm_runtime.video.crop import Crop
from tsm_runtime.video.finding import EGOCENTRIC, PANORAMIC
from tsm_runtime.video.panorama import Projection, windows_of
from tsm_train.data.annotated import Source, read_sources
from tsm_train.data.checks import check_sources, check_subsets
from tsm_train.data.label_rules import apply_label_rules, order_labels
from tsm_train.data.lengths import Length, look_up_length
from tsm_train.data.places import resolve_places
from tsm_train.data.problems import Problems
from tsm_train.data.split import Split, read_split
from tsm_train.data.video import TrainingVideo
from tsm_train.data.x360 import read_x360
from tsm_train.sections.data import DataConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """What a run learns from and is scored on, and all that was noticed on the way.

    Args:
        config: with the format and the places found out, and the names of subsets that the split has.
        videos: of all subsets, in the order of the annotations; one that does not decode is not among them.
        actions: labels in the order of the model's outputs, without background: `data.labels`, else those of
            the training videos, sorted by code point.
        scenes: of the training videos, sorted by code point.
        lengths: of each file.
        unreadable: number of videos by subset that were skipped because they do not decode.
        problems: errors and warnings.
    """

    config: DataConfig
    videos: tuple[TrainingVideo, ...]
    actions: tuple[str, ...]
    scenes: tuple[str, ...]
    lengths: dict[Path, Length]
    unreadable: Mapping[str, int]
    problems: Problems

    @property
    def training(self) -> tuple[TrainingVideo, ...]:
        """Videos to learn from."""
        return self.subset(self.config.training_subset)

    @property
    def validation(self) -> tuple[TrainingVideo, ...]:
        """Videos to score on."""
        return self.subset(self.config.validation_subset)

    def subset(self, name: str) -> tuple[TrainingVideo, ...]:
        """Videos of a subset."""
        return tuple(video for video in self.videos if video.subset == name)


def open_data(
    data: DataConfig,
    interval_seconds: float,
    *,
    projection: Projection = "",
    split: Split | None = None,
    exact_lengths: bool = False,
    on_video: Callable[[int, int], None] = lambda done, total: None,
) -> TrainingData:
    """Read annotations, find the videos, divide them, and check all of it.

    Args:
        data: the section.
        interval_seconds: t; a rest of a cut-off segment shorter than t/2 is dropped.
        projection: `clip.projection`: panoramas give a video for each window.
        split: instead of `data.split`.
        exact_lengths: decode every video for its length.
        on_video: called with the number of videos looked at and their total.

    Raises:
        UsageError: a file cannot be read at all, or the split does not fit. What else is wrong is among the
            problems of the result: see `Problems.raise_errors`.
    """
    data, sources, problems = read_labelled_sources(data)
    if split is None and data.split:
        split = read_split(Path(data.split), data.fold)
    if split is None and data.fold:
        raise UsageError(f"data.fold = {data.fold}, but data.split names no file")
    if split is not None:
        seen = {source.capture for source in sources if source.path is not None}
        data = _with_subsets_of_a_split(data)
        split.check(seen, {source.capture for source in sources})
        _check_offsets(split, sources, data)
        subset_of = split.subset_of()
        sources = [replace(source, subset=subset_of.get(source.capture, "")) for source in sources]
    check_sources(sources, data, problems)
    lengths = _look_up_all(sources, exact_lengths, problems, on_video, data.rate or None)
    videos = [
        video
        for source in sources
        for video in _videos(source, data, split, lengths, interval_seconds, problems, projection)
    ]
    training = [video for video in videos if video.subset == data.training_subset]
    opened = TrainingData(
        config=data,
        videos=tuple(videos),
        actions=order_labels(training, data),
        scenes=tuple(sorted({video.scene for video in training if video.scene is not None})),
        lengths=lengths,
        unreadable=Counter(s.subset for s in sources if s.path is not None and s.path not in lengths),
        problems=problems,
    )
    check_subsets(opened.training, opened.validation, data, interval_seconds, problems)
    return opened


def resolve_section(data: DataConfig) -> DataConfig:
    """Return the section as `open_data` does, without reading the annotations.

    Raises:
        UsageError: see `resolve_places`.
    """
    data = resolve_places(data)
    return _with_subsets_of_a_split(data) if data.split else data


def _with_subsets_of_a_split(data: DataConfig) -> DataConfig:
    return msgspec.structs.replace(data, training_subset="training", validation_subset="validation")


def read_labelled_sources(data: DataConfig) -> tuple[DataConfig, list[Source], Problems]:
    """Read the annotations; labels are those to be learnt.

    Returns:
        The section with format and places found out, the sources, and what is wrong so far.

    Raises:
        UsageError: a file cannot be read at all.
    """
    problems = Problems(data.accept)
    data = resolve_places(data)
    sources = read_x360(data, problems) if data.format == "x360" else read_sources(data, problems)
    return data, apply_label_rules(sources, data, problems), problems


def _check_offsets(split: Split, sources: Sequence[Source], data: DataConfig) -> None:
    """Raise for an offset of a missing clip in one of the configured views."""
    there = {source.video_id for source in sources if source.path is not None}
    views = EGOCENTRIC.intersection(data.views)
    for clip in split.offsets:
        if clip.split("/")[0] in views and clip not in there:
            near = difflib.get_close_matches(clip, there, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"{split.where}: offset of {clip!r}: there is no such clip in {data.root}{hint}")


def _look_up_all(
    sources: Sequence[Source],
    exact: bool,
    problems: Problems,
    on_video: Callable[[int, int], None],
    rate: float | None,
) -> dict[Path, Length]:
    lengths: dict[Path, Length] = {}
    for number, source in enumerate(sources, start=1):
        if source.path is None:
            continue
        # The end of an egocentric clip says nothing on segments that are on another clock.
        last = max((s.end_seconds for s in source.segments), default=0.0)
        try:
            lengths[source.path] = length = look_up_length(
                source.path,
                last_end_seconds=0.0 if source.view in EGOCENTRIC else last,
                declared_seconds=source.declared_seconds,
                exact=exact,
                rate=rate,
            )
        except VideoError as error:
            problems.add("unreadable-video", f"{error}; skipped")
        else:
            if length.failure:
                problems.add(
                    "breaks-off", f"{source.path}: breaks off after {length.seconds:.2f} s: {length.failure}"
                )
        on_video(number, len(sources))
    return lengths


def _videos(
    source: Source,
    data: DataConfig,
    split: Split | None,
    lengths: dict[Path, Length],
    interval_seconds: float,
    problems: Problems,
    projection: Projection,
) -> Iterator[TrainingVideo]:
    """Yield what is seen of a source: nothing where it cannot be used, a video for each eye or window."""
    if source.path is None or source.path not in lengths:
        return
    seconds, offset = lengths[source.path].seconds, 0.0
    if source.view in EGOCENTRIC:
        known = None if split is None else split.offsets.get(source.video_id)
        if known is None:
            problems.add("no-offset", _no_offset(source, data))
            return
        offset = known
    else:
        _check_ends(source, seconds, problems)
    segments = tuple(_on_the_clip(source.segments, offset, seconds, interval_seconds / 2))
    for crop, mark in _crops(source.view, data, projection):
        yield TrainingVideo(
            video_id=f"{source.video_id}{mark}",
            path=source.path,
            capture=source.capture,
            view=source.view,
            subset=source.subset,
            segments=segments,
            scene=source.scene,
            offset_seconds=offset,
            crop=crop,
            rate=data.rate or None,
            duration_seconds=seconds,
        )


def _no_offset(source: Source, data: DataConfig) -> str:
    file = data.split or "the split file (tsm-inspect --write-split)"
    return (
        f"{source.path}: clips of glasses carry no time of the 360-degree video; left out until {file} has"
        f' its beginning in seconds: "offsets": {{"{source.video_id}": ...}}'
    )


def _check_ends(source: Source, seconds: float, problems: Problems) -> None:
    slack = 0.5
    for segment in source.segments:
        start, end = segment.start_seconds, segment.end_seconds
        if start >= seconds or end > seconds + slack:
            verb = "starts" if start >= seconds else "ends"
            problems.add(
                "segment-beyond-end",
                f"{source.entry}: {segment.label!r} [{start:g}, {end:g}] {verb} after the end of"
                f" {source.path} ({seconds:.2f} s)",
            )
    if source.declared_seconds is not None and abs(source.declared_seconds - seconds) > slack:
        problems.add(
            "duration",
            f"{source.entry}: duration {source.declared_seconds:g} s, but {source.path} has {seconds:.2f} s",
        )


def _on_the_clip(
    segments: Sequence[Segment], offset: float, seconds: float, least: float
) -> Iterator[Segment]:
    """Yield segments in seconds of a file that begins at `offset` and lasts `seconds`.

    Of one that is cut off by the beginning or the end, a rest of less than `least` seconds is dropped: no
    interval could be given its label.
    """
    for segment in segments:
        start, end = segment.start_seconds - offset, segment.end_seconds - offset
        cut = (max(start, 0.0), min(end, seconds))
        if cut == (start, end) or cut[1] - cut[0] >= least:
            yield replace(segment, start_seconds=cut[0], end_seconds=cut[1])


def _crops(view: str, data: DataConfig, projection: Projection) -> Sequence[tuple[Crop, str]]:
    if projection and view in ("", PANORAMIC):
        return tuple((window, f"@{window.rpartition('_')[2]}") for window in windows_of(projection))
    if view != "binocular":
        return (("", ""),)
    eyes: dict[str, tuple[tuple[Crop, str], ...]] = {
        "left": (("left", "@left"),),
        "right": (("right", "@right"),),
        "both": (("left", "@left"), ("right", "@right")),
    }
    return eyes[data.eyes]
