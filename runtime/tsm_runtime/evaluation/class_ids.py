"""Class ids, and the collisions of ids that ActionFormer's evaluator has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.oddities import SHOWN, Predictions, listed
from tsm_runtime.files import read_json_or_none


def collide(
    predictions: Predictions, known: set[str], unknown: set[str], truth_path: Path, warnings: list[str]
) -> tuple[Predictions, list[str]]:
    """Assign predictions of a class without truth to the class whose position equals their class id.

    ActionFormer's evaluator behaves so: it replaces the ids of true classes by their positions among the
    sorted ids, and leaves other ids unchanged.
    """
    ids = {label: int(label) for label in unknown if label.isdecimal()} | class_ids(truth_path)
    missing = sorted(label for label in known | unknown if label not in ids)
    if missing:
        why = f'{truth_path}: no "label_id" for {listed(missing)}: collisions of ids are not imitated'
        return predictions, [*warnings, why]
    positions = sorted(known, key=lambda label: ids[label])
    new = {label: positions[ids[label]] for label in unknown if 0 <= ids[label] < len(positions)}
    moved = {
        video: [replace(s, label=new[s.label]) if s.label in new else s for s in segments]
        for video, segments in predictions.items()
    }
    pairs = ", ".join(f"{label!r} as {new[label]!r}" for label in sorted(new)[:SHOWN])
    taken = [f"class ids collide, as in the evaluator that is imitated: {pairs}"] if new else []
    return moved, [*(line for line in warnings if new.keys() != unknown), *taken]


class _Labelled(msgspec.Struct):
    label: str
    label_id: int | str | None = None


def class_ids(path: Path) -> dict[str, int]:
    """Return the class id of each label in all subsets' annotations; a whole number is its own id."""
    content = read_json_or_none(path)
    database = content.get("database", {}) if isinstance(content, dict) else {}
    ids: dict[str, int] = {}
    for video_id, video in database.items():
        for number, raw in enumerate(video.get("annotations", ()), start=1):
            where = f"{path}: video {video_id!r}, entry {number}"
            try:
                entry = msgspec.convert(raw, _Labelled)
            except msgspec.ValidationError as error:
                raise UsageError(f"{where}: {error}") from error
            own = int(entry.label) if entry.label.isdecimal() else None
            value = own if entry.label_id is None else _class_id(where, entry.label_id)
            if value is not None and ids.setdefault(entry.label, value) != value:
                raise UsageError(
                    f"{where}: label {entry.label!r} has the class ids {ids[entry.label]} and {value};"
                    " give it one"
                )
    return ids


def _class_id(where: str, value: int | str) -> int:
    try:
        return int(value)
    except ValueError:
        raise UsageError(f"{where}: label_id is {value!r}; expected a whole number") from None
