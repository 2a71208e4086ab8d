"""The table as Markdown and JSON, with notes that say what was chosen on what."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from tsm_runtime.wording import counted
from tsm_train.ablation.config import Ablation
from tsm_train.ablation.paper import NOTES, SOURCE, PaperRow
from tsm_train.ablation.rows import REPLICATES, Row, Span
from tsm_train.ablation.videos import Footage


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """All of it; the differences are to the first row."""

    name: str
    config: str
    """Name of its file."""
    subset: str
    """What is reported on."""
    validation_subset: str
    """What epochs, weights and settings are chosen on."""
    videos: int
    instances: int
    actions: tuple[str, ...]
    scenes: tuple[str, ...]
    rows: tuple[Row, ...]
    not_trained: tuple[str, ...]
    notes: tuple[str, ...]
    paper: tuple[PaperRow, ...]


def notes_of(
    rows: Sequence[Row], footage: Footage, missing: Sequence[str], ablation: Ablation
) -> tuple[str, ...]:
    """Return what a reader of the numbers has to know."""
    validation, count = footage.validation_subset, len(footage.videos(footage.reported_subset))
    notes = []
    if footage.is_held_out:
        notes.append(
            f"Videos of {footage.reported_subset!r} are reported; those of {validation!r} chose the epoch of"
            " each member, the weights and the settings."
        )
    else:
        notes.append(
            f"The videos of {validation!r} chose the epoch of each member and the weights of the ensemble,"
            " and are also what is reported: all scores are somewhat too high. A subset 'test' would be"
            " reported instead."
        )
    notes.append(
        f"Differences are to the first row, with the 95 % interval over {REPLICATES} resamples of the {count}"
        " videos" + ("; with so few videos the intervals themselves are rough." if count < 10 else ".")
        if count > 1
        else "One video only: no intervals."
    )
    notes += [line for row in rows for line in _row_notes(row)]
    if missing:
        notes.append(f"Not trained yet: {', '.join(missing)}.")
    absent = [name for name in ablation.fused_names if name in missing]
    if ablation.ensemble is not None and absent:
        notes.append("There is no ensemble until all of its members are trained.")
    if len(footage.finest.scenes) == 1:
        notes.append("There is one scene only: a scene head learns nothing here.")
    return tuple(notes)


def _row_notes(row: Row) -> list[str]:
    if row.name != "ensemble-fitted":
        if not isinstance(weights := row.detail.get("weights"), dict):
            return []
        shown = ", ".join(f"{name} {weight:.3g}" for name, weight in weights.items())
        return [] if row.name == "ensemble-equal" else [f"{row.name}: weights {shown}."]
    weights, over = row.detail["weights"], row.detail["over_best_member"]
    assert isinstance(weights, dict)
    assert isinstance(over, dict)
    shown = ", ".join(f"{name} {weight:.3g}" for name, weight in weights.items())
    crossed = float(str(row.detail["cross_validated_map"]))
    sample = " its row is on the videos that it was fitted to," if row.in_sample else ""
    return [
        f"ensemble-fitted: weights {shown};{sample} cross-validated on the validation videos it has"
        f" {_percent(crossed)} % mAP, {100 * over['value']:+.1f} ({100 * over['low']:+.1f} to"
        f" {100 * over['high']:+.1f}) against the best member there."
    ]


def table_to_json(table: Table) -> str:
    """One JSON object; scores 0 to 1, rounded to six decimals."""
    content = {**msgspec.to_builtins(table), "paper_source": SOURCE, "paper_notes": NOTES}
    return json.dumps(_rounded(content), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


def table_to_markdown(table: Table) -> str:
    """Tables and notes; scores in percent."""
    lines = [
        f"# {table.name}",
        "",
        f"mAP in % on {counted(table.videos, 'video')} of {table.subset!r} with"
        f" {counted(table.instances, 'instance')} of {counted(len(table.actions), 'action')}.",
        "",
        *_own(table),
        "",
        *(f"- {_text(note)}" for note in table.notes),
    ]
    if settings := [row for row in table.rows if row.kind == "post-processing"]:
        lines += ["", "## Settings after the scores", "", *_settings(settings)]
    lines += ["", "## The paper's table", "", f"{SOURCE}, in %.", "", *_paper(table.paper), ""]
    return "\n".join([*lines, *(f"- {note}" for note in NOTES)]) + "\n"


def _own(table: Table) -> list[str]:
    thresholds = list(table.rows[0].tiou)
    has_paper = any(row.paper for row in table.rows)
    header = ["", "task", "backbone", "t", "shift", "mAP", *thresholds, "difference", "scene", "minutes"]
    header += ["clips/s", *(["paper"] if has_paper else [])]
    rows = []
    for row in table.rows:
        cells = [
            row.name + (" (in sample)" if row.in_sample else ""),
            row.task,
            row.backbone,
            "" if row.interval_seconds is None else f"{row.interval_seconds:g} s",
            {None: "", True: "yes", False: "no"}[row.shift],
            _percent(row.map),
            *map(_percent, row.tiou.values()),
            _difference(row.difference, row.difference_interval),
            "" if row.scene_top1 is None else _percent(row.scene_top1),
            "" if row.minutes is None else f"{row.minutes:.1f}",
            "" if row.clips_per_second is None else f"{row.clips_per_second:.1f}",
        ]
        paper = " / ".join(map(_percent, row.paper.scores)) if row.paper else ""
        rows.append([*cells, *([paper] if has_paper else [])])
    lines = _markdown(header, rows, num_texts=5)
    if has_paper:
        lines += [
            "",
            "paper: first round public / private / extended round public / private, on other videos.",
        ]
    return lines


def _settings(rows: Sequence[Row]) -> list[str]:
    header = ["", "window", "stride", "smoothing", "shortest", "chosen by"]
    keys = ("window_seconds", "stride_seconds", "smoothing_seconds", "min_duration_seconds")
    cells = [
        [row.name, *(_as_text(row.detail.get(key)) for key in keys), _as_text(row.detail["by"])]
        for row in rows
    ]
    return _markdown(header, cells, num_texts=6)


def _as_text(value: object) -> str:
    """Return a number of seconds, or the distinct ones that videos have."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_as_text, value))
    return f"{value:g} s" if isinstance(value, float) else str(value)


def _paper(rows: Sequence[PaperRow]) -> list[str]:
    header = ["", "first round, public", "private", "extended round, public", "private"]
    return _markdown(header, [[row.name, *map(_percent, row.scores)] for row in rows], num_texts=1)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]], *, num_texts: int) -> list[str]:
    rule = ["---" if column < num_texts else "---:" for column in range(len(header))]
    return [f"| {' | '.join(map(_text, cells))} |" for cells in (header, rule, *rows)]


def _text(text: str) -> str:
    """Return text that stays in its cell and line."""
    return " ".join(text.split()).replace("|", "\\|")


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _difference(value: float | None, interval: Span | None) -> str:
    if value is None:
        return ""
    span = "" if interval is None else f" ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"
    return f"{100 * value:+.1f}{span}"
