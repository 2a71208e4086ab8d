"""The report of `tsm-inspect` as plain text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tsm_runtime.terminal import printable
from tsm_runtime.wording import counted
from tsm_train.data.inspection import Report, SubsetCount

_MOST_PAIRS = 8


def report_to_text(report: Report) -> str:
    """Return tables of videos, classes and scenes by subset, then the problems, errors first."""
    subsets = report.subsets
    lines = [f"format {report.format}, intervals of {report.interval_seconds:g} s", ""]
    lines += columns(("subset", *_TOTALS), (_totals(subset) for subset in subsets))
    lines += _lengths(subsets)
    lines += ["", "actions, in the order of the model's outputs (then background):", ""]
    for subset in subsets:
        lines += [f"{subset.subset}:", *_classes(subset, report.actions), ""]
    if any(scene.scene is not None for subset in subsets for scene in subset.scenes):
        header = ("subset", "scene", "captures", "videos", "seconds", "instances", "intervals")
        lines += [*columns(header, _scenes(subsets), num_texts=2), ""]
    lines += _overlaps(subsets)
    lines += _problems(report)
    return "\n".join(lines) + "\n"


_TOTALS = ("captures", "videos", "seconds", "instances", "labelled s", "overlap s", "intervals", "background")


def _totals(subset: SubsetCount) -> tuple[object, ...]:
    numbers = (subset.captures, subset.videos, subset.seconds, subset.instances, subset.labelled_seconds)
    return (subset.subset, *numbers, subset.overlap_seconds, subset.intervals, subset.background_intervals)


def _lengths(subsets: Sequence[SubsetCount]) -> Iterator[str]:
    for subset in subsets:
        sources = subset.lengths_from
        if sources:
            counts = ", ".join(f"{number} by the {source}" for source, number in sorted(sources.items()))
            views = ", ".join(f"{number} {view}" for view, number in sorted(subset.views.items()))
            yield f"{subset.subset}: lengths {counts}" + (f"; views: {views}" if views else "")


def _classes(subset: SubsetCount, actions: Sequence[str]) -> list[str]:
    by_label = {entry.label: entry for entry in subset.classes}
    ordered = [*actions, *sorted(by_label.keys() - set(actions))]
    rows = []
    for label in ordered:
        entry = by_label.get(label)
        if entry is None:
            rows.append((label, 0, 0, 0.0, 0, 0))
            continue
        counts = (entry.videos, entry.instances, entry.seconds, entry.intervals, entry.covered_intervals)
        rows.append((label, *counts))
    header = ("label", "videos", "instances", "seconds", "intervals", "half or more covered")
    return columns(header, rows)


def _scenes(subsets: Sequence[SubsetCount]) -> Iterator[tuple[object, ...]]:
    for subset in subsets:
        for entry in subset.scenes:
            counts = (entry.captures, entry.videos, entry.seconds, entry.instances, entry.intervals)
            yield (subset.subset, entry.scene or "(unknown)", *counts)


def _overlaps(subsets: Sequence[SubsetCount]) -> list[str]:
    rows = [
        (subset.subset, f"{entry.labels[0]} + {entry.labels[1]}", entry.seconds)
        for subset in subsets
        for entry in subset.overlaps[:_MOST_PAIRS]
    ]
    if not rows:
        return []
    return [*columns(("subset", "at the same time", "seconds"), rows, num_texts=2), ""]


def _problems(report: Report) -> Iterator[str]:
    for problem in report.problems:
        yield printable(f"{problem['severity']} [{problem['kind']}] {problem['message']}")
    errors = sum(problem["severity"] == "error" for problem in report.problems)
    yield f"{counted(errors, 'error')}, {counted(len(report.problems) - errors, 'warning')}"


def columns(header: Sequence[str], rows: Iterable[Sequence[object]], num_texts: int = 1) -> list[str]:
    """Lines of a table: the first columns left, numbers right, seconds with one decimal."""
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return [
        "  ".join(
            text.ljust(width) if i < num_texts else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _cell(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else printable(str(value))
