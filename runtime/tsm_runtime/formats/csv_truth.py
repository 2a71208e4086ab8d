"""Ground truth as CSV: `video,label,start,end[,subset]`, and scenes as `video,scene`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tsm_runtime.errors import UsageError
from tsm_runtime.files import Faults, noting, read_text
from tsm_runtime.formats.csv_table import csv_rows, without_apostrophe
from tsm_runtime.formats.ground_truth import check_labels
from tsm_runtime.formats.numbers import parse_seconds
from tsm_runtime.formats.text import segment_at
from tsm_runtime.results import Segment

CSV_TRUTH_COLUMNS = ("video", "label", "start", "end")
_SCENE_COLUMNS = ("video", "scene")


def read_csv_truth(
    path: Path, faults: Faults, subsets: dict[str, str], found: dict[str, list[Segment]]
) -> None:
    """Add the segments per video; a row with only a video stands for a video without actions.

    Args:
        path: the file.
        faults: collects the faults of rows.
        subsets: filled with the subset of each video, if there is such a column.
        found: gets the segments.

    Raises:
        UsageError: a row is wrong; the message names file and line.
    """
    for where, cells in csv_rows(path, read_text(path), CSV_TRUTH_COLUMNS, faults):
        video_id = without_apostrophe(cells["video"])
        with noting(faults):
            if not video_id.strip():
                raise UsageError(f"{where}: empty video")
            segments = found.setdefault(video_id, [])
            _note_subset(where, video_id, cells.get("subset", "").strip(), subsets)
            if any(cells[name].strip() for name in CSV_TRUTH_COLUMNS[1:]):
                segment = _csv_segment(f"{where} (video {video_id!r})", cells)
                segments += check_labels(where, [segment], None)


def _note_subset(where: str, video_id: str, subset: str, subsets: dict[str, str]) -> None:
    if subset and subsets.setdefault(video_id, subset) != subset:
        raise UsageError(f"{where}: video {video_id!r} is in subset {subset!r} and in {subsets[video_id]!r}")


def _csv_segment(where: str, cells: Mapping[str, str]) -> Segment:
    bounds = []
    for name in ("start", "end"):
        try:
            bounds.append(parse_seconds(cells[name], decimal_comma=True))
        except ValueError:
            raise UsageError(f"{where}: {name} is {cells[name]!r}; expected seconds") from None
    return segment_at(where, without_apostrophe(cells["label"]), bounds[0], bounds[1])


def read_scenes(path: Path, *, faults: Faults = None) -> dict[str, str]:
    """Return the scene by video id from a CSV `video,scene`; other columns are ignored.

    Raises:
        UsageError: a line is wrong; the message names file and line.
    """
    scenes: dict[str, str] = {}
    for where, cells in csv_rows(path, read_text(path), _SCENE_COLUMNS, faults):
        video_id, scene = (without_apostrophe(cells[name]) for name in _SCENE_COLUMNS)
        with noting(faults):
            if not video_id.strip() or not scene.strip():
                raise UsageError(f"{where}: empty {'scene' if video_id.strip() else 'video'}")
            if scenes.get(video_id, scene) != scene:
                raise UsageError(f"{where}: video {video_id!r} has the scene {scenes[video_id]!r} already")
            scenes[video_id] = scene
    return scenes
