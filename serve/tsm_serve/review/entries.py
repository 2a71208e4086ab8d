"""One video's entry in the truth file: checked, stamped with who and when, and summarised."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from tsm_runtime.errors import UsageError
from tsm_runtime.results import BACKGROUND

Entry = dict[str, Any]
"""A value of the `database` object, with fields of other programs kept as they are."""

State = Literal["new", "draft", "checking", "done"]

UNFINISHED = "unfinished"
"""Subset of a video that is being checked: training reads only its own subsets, so it waits until then."""


class AnnotationEdit(msgspec.Struct, forbid_unknown_fields=True):
    """A segment as the page sends it; `by` and `at` are only echoed and are set by the server."""

    label: str
    segment: tuple[float, float]
    by: str = ""
    at: str = ""


class EntryEdit(msgspec.Struct, forbid_unknown_fields=True):
    """An edit of a video's annotation.

    `layer` names the annotator of a second, independent annotation; empty: the one that training reads.
    """

    annotations: list[AnnotationEdit]
    state: Literal["checking", "done"] = "checking"
    subset: str = "training"
    scene: str = ""
    comment: str = ""
    layer: str = ""


def etag_of(entry: Entry | None) -> str:
    """Return a hash of an entry's content; empty where there is none."""
    if entry is None:
        return ""
    text = json.dumps(entry, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def edited(entry: Entry | None, edit: EntryEdit, *, who: str, now: str, duration: float | None) -> Entry:
    """Return an entry with an edit applied; unchanged annotations keep their `by` and `at`.

    Raises:
        UsageError: a label or segment that training would refuse.
    """
    for number, annotation in enumerate(edit.annotations, start=1):
        _check(annotation, f"segment {number}")
    entry = dict(entry or {})
    review = dict(entry.get("review") or {})
    if edit.layer:
        others = dict(review.get("others") or {})
        others[edit.layer] = _stamped(others.get(edit.layer, ()), edit.annotations, who, now)
        review["others"] = others
    else:
        entry["annotations"] = _stamped(entry.get("annotations", ()), edit.annotations, who, now)
    entry.setdefault("annotations", [])
    subset = edit.subset.strip() or "training"
    entry["subset"] = subset if edit.state == "done" else UNFINISHED
    if duration is not None:
        entry.setdefault("duration", round(duration, 6))
    _set_or_drop(entry, "scene", edit.scene.strip())
    _set_or_drop(review, "comment", edit.comment)
    entry["review"] = {**review, "state": edit.state, "subset": subset, "by": who, "at": now}
    return entry


def _check(annotation: AnnotationEdit, where: str) -> None:
    start, end = annotation.segment
    if not annotation.label.strip():
        raise UsageError(f"{where}: empty label")
    if annotation.label == BACKGROUND:
        raise UsageError(f"{where}: label {BACKGROUND!r} is reserved; leave background unannotated")
    if not (math.isfinite(start) and math.isfinite(end) and 0 <= start < end):
        raise UsageError(f"{where}: [{start:g}, {end:g}]; expected 0 <= start < end, in seconds")


def _set_or_drop(target: Entry, key: str, value: str) -> None:
    if value:
        target[key] = value
    else:
        target.pop(key, None)


def _stamped(
    before: Iterable[object], edits: Sequence[AnnotationEdit], who: str, now: str
) -> list[dict[str, Any]]:
    known = {_key(old): old for old in before if isinstance(old, dict)}
    annotations = []
    for edit in sorted(edits, key=lambda each: (*each.segment, each.label)):
        new: dict[str, Any] = {"label": edit.label, "segment": [round(t, 6) for t in edit.segment]}
        annotations.append(known.get(_key(new)) or {**new, "by": who, "at": now})
    return annotations


def _key(annotation: Mapping[str, Any]) -> str:
    return json.dumps([annotation.get("label"), annotation.get("segment")])


def state_of(entry: Entry | None, *, has_draft: bool) -> State:
    """Return a video's state; an entry that another program wrote counts as done."""
    if entry is None:
        return "draft" if has_draft else "new"
    state = (entry.get("review") or {}).get("state")
    return "checking" if state == "checking" else "done"


def segments_of(entry: Entry | None, layer: str = "") -> list[tuple[str, float, float]]:
    """Return (label, start, end) of the entry's well-formed annotations, or of one annotator's layer."""
    if entry is None:
        return []
    review = entry.get("review") or {}
    raw = (review.get("others") or {}).get(layer, []) if layer else entry.get("annotations", [])
    found = []
    for annotation in raw if isinstance(raw, list) else []:
        try:
            edit = msgspec.convert({k: annotation[k] for k in ("label", "segment")}, AnnotationEdit)
            _check(edit, "")
        except (msgspec.ValidationError, UsageError, KeyError, TypeError):
            continue
        found.append((edit.label, *edit.segment))
    return found
