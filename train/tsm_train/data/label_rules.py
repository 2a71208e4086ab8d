"""Labels come from the data; the configuration may rename, merge, drop or order them."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tsm_runtime.errors import UsageError
from tsm_runtime.results import BACKGROUND, Segment
from tsm_train.data.annotated import Source
from tsm_train.data.problems import Problems
from tsm_train.data.video import TrainingVideo
from tsm_train.sections.data import DataConfig


def apply_label_rules(sources: Sequence[Source], data: DataConfig, problems: Problems) -> list[Source]:
    """Return the sources with the labels of `data.label_map`, without those that are not to be learnt.

    Raises:
        UsageError: a new name is the reserved `background`.
    """
    if BACKGROUND in (*data.label_map.values(), *data.labels):
        raise UsageError(
            f"data.labels or data.label_map names {BACKGROUND!r}, which is reserved;"
            ' to drop a label map it to ""'
        )
    sources = [_writable(source, problems) for source in sources]
    there = Counter(segment.label for source in sources for segment in source.segments)
    _tell_not_found("data.label_map", data.label_map, there, problems)
    renamed = Counter({data.label_map.get(label, label): 0 for label in there})
    for label, count in there.items():
        renamed[data.label_map.get(label, label)] += count
    _tell_not_found("data.labels", data.labels, renamed, problems)
    _tell_dropped(data, there, renamed, problems)
    _tell_similar((label for label in renamed if _is_kept(data, label)), problems)
    return [replace(source, segments=tuple(_kept(source.segments, data))) for source in sources]


def _writable(source: Source, problems: Problems) -> Source:
    """Without labels and scene that no file can hold: JSON can spell half a character."""
    texts = {segment.label for segment in source.segments} | {source.scene or ""}
    bad = {text for text in texts if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)}
    for text in sorted(bad):
        problems.add("annotation", f"{source.entry}: {text!r} holds half a character (a lone surrogate)")
    return replace(
        source,
        segments=tuple(segment for segment in source.segments if segment.label not in bad),
        scene=None if source.scene in bad else source.scene,
    )


def order_labels(videos: Iterable[TrainingVideo], data: DataConfig) -> tuple[str, ...]:
    """Labels in the order of the model's outputs: `data.labels`, else sorted by code point.

    That order depends on the names alone, not on the order of files or entries.
    """
    there = {segment.label for video in videos for segment in video.segments}
    return tuple(label for label in data.labels if label in there) if data.labels else tuple(sorted(there))


def _is_kept(data: DataConfig, label: str) -> bool:
    return bool(label) and (not data.labels or label in data.labels)


def _kept(segments: Iterable[Segment], data: DataConfig) -> Iterable[Segment]:
    for segment in segments:
        label = data.label_map.get(segment.label, segment.label)
        if _is_kept(data, label):
            yield replace(segment, label=label)


def _tell_not_found(key: str, names: Iterable[str], there: Iterable[str], problems: Problems) -> None:
    known = set(there)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            problems.add("label-not-found", f"{key}: no instance is labelled {name!r}{hint}")


def _tell_dropped(data: DataConfig, there: Counter[str], renamed: Counter[str], problems: Problems) -> None:
    mapped = [label for label in sorted(there) if data.label_map.get(label) == ""]
    others = [label for label in sorted(renamed) if label and not _is_kept(data, label)]
    for key, counts, labels in (("data.label_map", there, mapped), ("data.labels", renamed, others)):
        if labels:
            listed = ", ".join(f"{label!r} ({counts[label]})" for label in labels)
            problems.add("dropped-label", f"{key}: left out, with their instances: {listed}")


def _tell_similar(labels: Iterable[str], problems: Problems) -> None:
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for label in sorted(labels):
        alike[" ".join(label.replace("_", " ").split()).casefold()].append(label)
    for names in alike.values():
        if len(names) > 1:
            listed = ", ".join(map(repr, names))
            problems.add("similar-labels", f"{listed}: one label or several? data.label_map merges them")
