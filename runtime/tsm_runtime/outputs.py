"""Results as files: detection JSON and CSV; and reading segments back."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tsm_runtime.errors import UsageError
from tsm_runtime.files import read_json, read_text
from tsm_runtime.segments import Segment

__all__ = [
    "Result",
    "SceneScore",
    "ranked_scenes",
    "read_segments",
    "results_to_csv",
    "results_to_json",
]

_VERSION = "tsm-tal 1"
_CSV_COLUMNS = ("video", "label", "start", "end", "score")
_LINE_LENGTH = 110

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""Start of a cell that a spreadsheet would run as a formula, or of one that was already made harmless."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneScore:
    """Probability of one scene label for a whole video."""

    label: str
    score: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.score):
            raise ValueError(f"scene {self.label!r}: score {self.score} is not finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was found in one video.

    Args:
        segments: actions in order of time.
        scenes: scene scores in any order; empty for a model without scene head.
        interval_seconds: t, the length of the classified intervals.
        num_intervals: intervals that were classified.
        duration_seconds: L, from the frames.
        complete: False when the video broke off and only its first part was analysed.
        gaps: [start, end) in seconds where the video has no frame for longer than t.
        corrupt_frames: frames that the decoder marked as damaged.
        warnings: one line each, for a person.
    """

    video_id: str
    segments: tuple[Segment, ...]
    scenes: tuple[SceneScore, ...]
    interval_seconds: float
    num_intervals: int
    duration_seconds: float
    complete: bool
    gaps: tuple[tuple[float, float], ...]
    corrupt_frames: int
    warnings: tuple[str, ...]


# --- JSON -----------------------------------------------------------------------------------------


def results_to_json(results: Sequence[Result], external_data: Mapping[str, object]) -> bytes:
    """ActivityNet detection JSON, the same bytes for the same results.

    Args:
        results: videos in the order they shall have in the file.
        external_data: JSON values that tell where the results come from; "videos" is added to it.

    Returns:
        UTF-8; times and scores rounded to six decimals; scenes by falling score.

    Raises:
        ValueError: two results have the same video id, or a number is not finite.
    """
    _check_ids(results)
    document = {
        "version": _VERSION,
        "results": {r.video_id: [_detection(segment) for segment in r.segments] for r in results},
        "scenes": {
            r.video_id: [{"label": s.label, "score": _rounded(s.score)} for s in ranked_scenes(r.scenes)]
            for r in results
        },
        "external_data": {**external_data, "videos": {r.video_id: _provenance(r) for r in results}},
    }
    # A video id may hold lone surrogates (a file name that is not UTF-8): their escape is valid JSON.
    return (_layout(document, 0) + "\n").encode("utf-8", "backslashreplace")


def _check_ids(results: Sequence[Result]) -> None:
    seen: set[str] = set()
    for result in results:
        if result.video_id in seen:
            raise ValueError(f"two results have the video id {result.video_id!r}")
        seen.add(result.video_id)


def _detection(segment: Segment) -> dict[str, object]:
    bounds = [_rounded(segment.start_seconds), _rounded(segment.end_seconds)]
    return {"label": segment.label, "segment": bounds, "score": _rounded(segment.score)}


def _provenance(result: Result) -> dict[str, object]:
    return {
        "duration": _rounded(result.duration_seconds),
        "intervals": result.num_intervals,
        "complete": result.complete,
        "gaps": [[_rounded(start), _rounded(end)] for start, end in result.gaps],
        "corrupt_frames": result.corrupt_frames,
    }


def ranked_scenes(scenes: Iterable[SceneScore]) -> list[SceneScore]:
    """Return scenes by falling score, equal ones by name."""
    return sorted(scenes, key=lambda scene: (-scene.score, scene.label))


def _rounded(value: float) -> float:
    return round(float(value), 6) + 0.0  # + 0.0 turns -0.0 into 0.0


def _layout(value: object, depth: int) -> str:
    """JSON text that breaks a list or object over lines only when it does not fit on one."""
    flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
    inner = " " * (depth + 1)
    if depth > 0 and len(flat) + depth <= _LINE_LENGTH:
        return flat
    if isinstance(value, Mapping) and value:
        keys = [json.dumps(str(key), ensure_ascii=False) for key in value]
        values = [_layout(item, depth + 1) for item in value.values()]
        lines = [f"{inner}{key}: {text}" for key, text in zip(keys, values, strict=True)]
        return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"
    if isinstance(value, list | tuple) and value:
        lines = [inner + _layout(item, depth + 1) for item in value]
        return "[\n" + ",\n".join(lines) + "\n" + " " * depth + "]"
    return flat


# --- CSV ------------------------------------------------------------------------------------------


def results_to_csv(results: Sequence[Result]) -> str:
    """One line per segment: `video,label,start,end,score`; times in seconds, six decimals.

    A video id or label that a spreadsheet would run as a formula gets an apostrophe in front, which
    `read_segments` takes away again.

    Raises:
        ValueError: two results have the same video id.
    """
    _check_ids(results)
    lines = [",".join(_CSV_COLUMNS)]
    for result in results:
        for segment in result.segments:
            numbers = (segment.start_seconds, segment.end_seconds, segment.score)
            texts = (_csv_cell(result.video_id), _csv_cell(segment.label))
            lines.append(",".join((*texts, *(repr(_rounded(number)) for number in numbers))))
    return "\n".join(lines) + "\n"


def _csv_cell(text: str) -> str:
    # By hand: with "\n" line ends the csv module of Python 3.11 leaves a carriage return unquoted.
    harmless = f"'{text}" if _FORMULA.match(text) else text
    if re.search(r'[,"\r\n]', harmless) or harmless != harmless.strip():
        return '"' + harmless.replace('"', '""') + '"'
    return harmless


# --- reading --------------------------------------------------------------------------------------


class _Detection(msgspec.Struct):
    label: str
    segment: tuple[float, float]
    score: float


def read_segments(path: Path) -> dict[str, list[Segment]]:
    """Read segments per video id from detection JSON (of any ActivityNet tool) or, by its suffix, our CSV.

    A video without segments is there in JSON, with an empty list; a CSV cannot tell it.

    Raises:
        UsageError: names file, video and entry (counted from 1), or the line of a CSV, of the first fault.
    """
    found: dict[str, list[Segment]] = {}
    if path.suffix.lower() == ".csv":
        for where, video_id, cells in _csv_rows(path):
            found.setdefault(video_id, []).append(_csv_segment(where, cells))
        return found
    for video_id, entries in _json_videos(path):
        where = f"{path}: video {video_id!r}, entry"
        found[video_id] = [_json_segment(f"{where} {n}", raw) for n, raw in enumerate(entries, start=1)]
    return found


def _json_videos(path: Path) -> Iterator[tuple[str, list[object]]]:
    content = read_json(path)
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict):
        raise UsageError(f'{path}: no "results" object; expected ActivityNet detections')
    for video_id, entries in results.items():
        if not isinstance(entries, list):
            raise UsageError(f"{path}: video {video_id!r}: expected a list of detections")
        yield video_id, entries


def _json_segment(where: str, raw: object) -> Segment:
    try:
        detection = msgspec.convert(raw, _Detection)
    except (msgspec.ValidationError, OverflowError) as error:
        raise UsageError(f"{where}: {error}") from error
    return _segment(where, detection.label, *detection.segment, detection.score)


def _csv_rows(path: Path) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Place, video id and cells by column name of each row."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = next(reader, [])
        missing = [name for name in _CSV_COLUMNS if name not in header]
        if missing:
            expected = ",".join(_CSV_COLUMNS)
            raise UsageError(f"{path}: no column {', '.join(missing)}; expected the header {expected}")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if not row:
                continue
            if len(row) != len(header):
                raise UsageError(f"{where}: {len(row)} cells, the header has {len(header)}")
            cells = dict(zip(header, row, strict=True))
            video_id = _without_apostrophe(cells["video"])
            yield f"{where} (video {video_id!r})", video_id, cells
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: not CSV: {error}") from error


def _csv_segment(where: str, cells: Mapping[str, str]) -> Segment:
    numbers = []
    for name in ("start", "end", "score"):
        try:
            numbers.append(float(cells[name]))
        except ValueError:
            raise UsageError(f"{where}: {name} is {cells[name]!r}; expected a number") from None
    return _segment(where, _without_apostrophe(cells["label"]), *numbers)


def _without_apostrophe(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _segment(where: str, label: str, start: float, end: float, score: float) -> Segment:
    if not label.strip():
        raise UsageError(f"{where}: empty label")
    try:
        return Segment(label=label, start_seconds=start, end_seconds=end, score=score)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
