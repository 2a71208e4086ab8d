"""The CSV of the BinEgo-360 challenge on Kaggle: detections in bins of 10 s, and the scene track's one-hot.

The rules are those of the 360+x kit (`s7_tal_golden_in_10s.py`, `s7_gen_tal_sample_submission.py`): a row per
bin, `id` = `<video id>_<start>_<end>`, `prediction` = `[[class, start, end, score], ...]` with seconds of the
whole video; a segment is cut at the multiples of 10 s, and a part is kept only from 0.5 s on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tsm_runtime.errors import UsageError
from tsm_runtime.files import read_json
from tsm_runtime.formats.csv_table import csv_cell, csv_rows, without_apostrophe
from tsm_runtime.formats.text import check_ids, rounded, segment_at
from tsm_runtime.results import Result, Segment, ranked_scenes

_BIN_SECONDS = 10
_SHORTEST_SECONDS = 0.5
_TOLERANCE_SECONDS = 1e-6
_LARGEST = 1e15

_ACTIONS = (
    *("walking", "operating phone", "pouring", "eating", "playing card games", "opening", "housekeeping"),
    *("moving things", "dressing", "workout", "drinking", "speaking", "operating computer", "standing"),
    *("playing instrument", "sitting", "laughing", "coughing", "preparing food", "cooking", "firework"),
    *("flashing", "playing", "reading", "farming", "dancing", "smoking", "driving", "clapping", "running"),
    *("hygiene practices", "photographing", "selling", "pushing"),
)

ACTION_IDS: Mapping[str, int] = {label: number for number, label in enumerate(_ACTIONS, start=1)}
"""The kit's 34 actions; 0 is "no action"."""

SCENE_LABELS = (
    *("Indoor Residential Spaces", "Indoor Entertainment Venues", "Transportation Interiors", "Kitchen"),
    *("Nature", "Indoor sports venues", "Indoor Shops & Retail& Commercial", "Dining & Food Outlets"),
    *("Bars & Nightlife", "Outdoor Residences & Living", "Agriculture & Rural"),
    *("Urban Constructions & street", "Outdoor Transportation", "Open Public Spaces"),
    *("Outdoor Commercial & Markets", "Outdoor Sports & Athletic Fields", "Parks & Recreational Areas"),
    *("Campus", "Indoor Educational Spaces", "Artistic Spaces", "Public Gathering & Conference Spaces"),
    *("Hotel & Temporary Stay", "Waterfronts & Water Bodies", "Historic & Religious Sites"),
    *("Scientific interior space", "Workspaces", "Storage & Utility", "Elevators & Escalators&Stairs"),
)
"""The kit's 28 scenes by id, in its spelling."""

_ID = re.compile(r"(.+)_([0-9]+)_([0-9]+)", re.DOTALL)
_LISTS = ("prediction", "label")
"""Columns of a submission, and of the challenge's own truth, whose entries have no score."""


# --- label ids ------------------------------------------------------------------------------------


def read_label_map(path: Path) -> dict[str, int | None]:
    """Read class ids by action label from a JSON object `{"walking": 1, ...}`; null leaves a label out.

    Raises:
        UsageError: the file holds something else, or two labels have the same id.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise UsageError(f'{path}: expected a JSON object of ids by label, as {{"walking": 1}}')
    owners: dict[int, str] = {}
    for label, number in content.items():
        if number is None:
            continue
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise UsageError(f"{path}: the id of {label!r} is {number!r}; expected 0, 1, 2 ... or null")
        if owners.setdefault(number, label) != label:
            raise UsageError(f"{path}: {owners[number]!r} and {label!r} have the same id {number}")
    return content


def check_class_ids(labels: Iterable[str], ids: Mapping[str, int | None]) -> None:
    """Check that each label has an id, or None to be left out.

    Raises:
        UsageError: a label has no id; the message names all such labels.
    """
    missing = [repr(label) for label in labels if label not in ids]
    if missing:
        raise UsageError(
            f"no class id for {', '.join(missing)}; give --label-map FILE with the ids of all labels"
            ' as JSON, {"label": 1} (null leaves a label out)'
        )


# --- writing --------------------------------------------------------------------------------------


def results_to_kaggle(results: Sequence[Result], ids: Mapping[str, int | None] = ACTION_IDS) -> str:
    """Return the submission: a row for every bin of 10 s of every video, `[]` for a bin without segments.

    Times are rounded to 0.1 s, scores to six decimals.

    Args:
        results: results of the videos, whose ids become the first part of the rows' ids.
        ids: class id by label; None leaves a label out.

    Raises:
        UsageError: a label has no id.
        ValueError: two results have the same video id.
    """
    check_ids(results)
    check_class_ids(dict.fromkeys(s.label for result in results for s in result.segments), ids)
    lines = ["id,prediction"]
    for result in results:
        kept = [(number, s) for s in result.segments if (number := ids[s.label]) is not None]
        for start in range(0, _num_bins(result) * _BIN_SECONDS, _BIN_SECONDS):
            entries = [entry for number, s in kept for entry in _part(number, s, start)]
            row_id = f"{result.video_id}_{start}_{start + _BIN_SECONDS}"
            lines.append(f"{csv_cell(row_id)},{csv_cell(json.dumps(entries))}")
    return "\n".join(lines) + "\n"


def _num_bins(result: Result) -> int:
    end = max([result.duration_seconds, *(segment.end_seconds for segment in result.segments)])
    return math.ceil((end - _TOLERANCE_SECONDS) / _BIN_SECONDS)


def _part(number: int, segment: Segment, bin_start: int) -> Iterator[list[float]]:
    """Yield [class, start, end, score] of a segment's part in a bin, if it is long enough."""
    start = max(segment.start_seconds, bin_start)
    end = min(segment.end_seconds, bin_start + _BIN_SECONDS)
    if end - start >= _SHORTEST_SECONDS - _TOLERANCE_SECONDS:
        yield [number, round(float(start), 1), round(float(end), 1), rounded(segment.score)]


def scenes_to_kaggle(results: Sequence[Result]) -> str:
    """Return the scene track's submission: a row per video, 1 in the column of its best scene.

    Raises:
        UsageError: a video has no scene, or one that is not in `SCENE_LABELS`.
    """
    lines = [",".join(["id", *map(str, range(len(SCENE_LABELS)))])]
    for result in results:
        best = ranked_scenes(result.scenes)[0].label if result.scenes else None
        if best not in SCENE_LABELS:
            raise UsageError(f"video {result.video_id!r}: scene {best!r} is none of the 28 of 360+x")
        one_hot = ["1" if label == best else "0" for label in SCENE_LABELS]
        lines.append(",".join([csv_cell(result.video_id), *one_hot]))
    return "\n".join(lines) + "\n"


# --- reading --------------------------------------------------------------------------------------


def is_kaggle(header: str) -> bool:
    """Return whether a CSV's first line is that of a submission, or of the challenge's truth."""
    columns = [name.strip('"') for name in header.strip().split(",")]
    return "id" in columns and any(name in columns for name in _LISTS)


def read_kaggle(
    path: Path, text: str, ids: Mapping[str, int | None] = ACTION_IDS
) -> dict[str, list[Segment]]:
    """Return the segments per video as in the bins, at most 10 s long; class 0 is left out.

    Raises:
        UsageError: an entry is wrong; the message names file, line and entry.
    """
    labels = {number: label for label, number in ids.items() if number is not None}
    labels.setdefault(0, "")
    columns = text.split("\n", 1)[0].strip().split(",")
    column = next((name for name in _LISTS if name in columns), _LISTS[0])
    found: dict[str, list[Segment]] = {}
    for where, cells in csv_rows(path, text, ("id", column)):
        match = _ID.fullmatch(without_apostrophe(cells["id"]))
        if match is None:
            raise UsageError(f"{where}: id is {cells['id']!r}; expected <video id>_<start>_<end>")
        found.setdefault(match[1], []).extend(_read_bin(where, cells[column], labels))
    return found


def _read_bin(where: str, cell: str, labels: Mapping[int, str]) -> Iterator[Segment]:
    try:
        entries = json.loads(cell)
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list):
        raise UsageError(f"{where}: expected [[class, start, end, score], ...], got {cell[:60]!r}")
    for number, entry in enumerate(entries, start=1):
        place = f"{where}, entry {number}"
        if not _is_entry(entry):
            raise UsageError(f"{place}: expected [class, start, end, score], got {json.dumps(entry)[:60]}")
        if entry[0] not in labels:
            raise UsageError(f"{place}: class {entry[0]} has no label; known are {min(labels)}-{max(labels)}")
        if labels[entry[0]]:
            yield segment_at(place, labels[entry[0]], *map(float, entry[1:]))


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) in (3, 4)
        and all(isinstance(value, int | float) and not isinstance(value, bool) for value in entry)
        and not any(abs(value) >= _LARGEST for value in entry)  # nan is refused later
    )
