"""Writing of results in any format, and reading of segments."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tsm_runtime.errors import UsageError
from tsm_runtime.files import read_text
from tsm_runtime.formats.audacity import read_audacity, results_to_audacity
from tsm_runtime.formats.csv_table import read_csv, results_to_csv
from tsm_runtime.formats.detection_json import read_detections, results_to_json
from tsm_runtime.formats.eaf import read_eaf, results_to_eaf
from tsm_runtime.formats.json_lines import read_json_lines, results_to_json_lines
from tsm_runtime.formats.kaggle import ACTION_IDS, is_kaggle, read_kaggle, results_to_kaggle
from tsm_runtime.formats.names import Format, format_of
from tsm_runtime.formats.options import ReadOptions
from tsm_runtime.formats.parquet import read_parquet, results_to_parquet
from tsm_runtime.formats.result_file import ResultFile, results_of
from tsm_runtime.formats.subtitles import read_srt, read_vtt, results_to_srt, results_to_vtt
from tsm_runtime.formats.via import read_via, results_to_via
from tsm_runtime.results import Result, Segment

_NO_OPTIONS = ReadOptions()


def encode_results(
    results: Sequence[Result],
    format_: Format,
    *,
    external_data: Mapping[str, object] | None = None,
    media: Mapping[str, Path] | None = None,
    label_ids: Mapping[str, int | None] = ACTION_IDS,
    labels: Sequence[str] = (),
) -> bytes:
    """Return the content of one file with all results.

    Args:
        results: videos in the order of the file.
        format_: name of the format.
        external_data: origin of the results (json, parquet).
        media: video file by id (eaf, via).
        label_ids: class id by label (kaggle).
        labels: all classes of the models, found or not (via).

    Raises:
        UsageError: the format holds one video and there are several results, or a label has no id.
        ValueError: two results have the same video id.
    """
    if format_ == "json":
        return results_to_json(results, external_data or {})
    if format_ == "jsonl":
        return results_to_json_lines(results)
    if format_ == "parquet":
        return results_to_parquet(results, external_data or {})
    if format_ == "via":
        return results_to_via(results, media, labels)
    if format_ == "eaf":
        return results_to_eaf(results, (media or {}).get(results[0].video_id) if results else None)
    if format_ == "kaggle":
        return _utf8(results_to_kaggle(results, label_ids))
    return _utf8(_TEXT_WRITERS[format_](results))


_TEXT_WRITERS: dict[Format, Callable[[Sequence[Result]], str]] = {
    "csv": results_to_csv,
    "vtt": results_to_vtt,
    "srt": results_to_srt,
    "audacity": results_to_audacity,
}


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # a video id may hold lone surrogates


def read_segments(
    path: Path,
    *,
    label_ids: Mapping[str, int | None] = ACTION_IDS,
    options: ReadOptions | None = None,
) -> dict[str, list[Segment]]:
    """Read segments per video id from a file of any format that tsm-tal writes.

    The formats are: detection JSON of any ActivityNet tool, JSON lines, plain CSV, Kaggle CSV, WebVTT, SRT,
    ELAN, VIA 3 JSON, Audacity labels and Parquet of tsm-tal. The suffix decides; if it is shared or unknown,
    the content does.

    A video without segments has an empty list, except in the plain CSV, which cannot hold it. SRT and
    Audacity labels do not name their video: its id is the file's stem.

    Args:
        path: the file.
        label_ids: class id by label, for a Kaggle CSV.
        options: options for reading annotations.

    Raises:
        UsageError: an entry is wrong; the message names file and entry (from 1), or line, of the first fault.
    """
    if format_of(path.name) == "parquet":
        return read_parquet(path)
    segments, _ = _read(path, read_text(path), label_ids, options or ReadOptions())
    return segments


def read_results(path: Path, *, label_ids: Mapping[str, int | None] = ACTION_IDS) -> ResultFile:
    """Read a file as `read_segments` does, from detection JSON also scenes and provenance.

    Raises:
        UsageError: as `read_segments`, or a scene is wrong.
    """
    if format_of(path.name) == "parquet":
        segments, content = read_parquet(path), None
    else:
        segments, content = _read(path, read_text(path), label_ids)
    results, external_data = results_of(path, segments, content)
    return ResultFile(
        path=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        results=results,
        external_data=external_data,
    )


def _read(
    path: Path, text: str, label_ids: Mapping[str, int | None], options: ReadOptions = _NO_OPTIONS
) -> tuple[dict[str, list[Segment]], object]:
    """Return the segments by video id and, for a JSON file, the whole content."""
    format_ = format_of(path.name)
    if format_ in (None, "json", "csv", "audacity"):
        format_ = _format_by_content(text, format_)
    if format_ == "kaggle":
        return read_kaggle(path, text, label_ids), None
    if format_ in ("json", "via"):
        return _read_json_file(path, text)
    if format_ == "eaf":
        return read_eaf(path, text, options.tiers), None
    return _READERS[format_](path, text), None


_READERS: dict[Format, Callable[[Path, str], dict[str, list[Segment]]]] = {
    "csv": read_csv,
    "jsonl": read_json_lines,
    "vtt": read_vtt,
    "srt": read_srt,
    "audacity": read_audacity,
}


def _format_by_content(text: str, by_suffix: Format | None) -> Format:
    """Return the format by the beginning of a file, else that of the suffix."""
    first, *rest = re.split(r"\r\n|\r|\n", text.lstrip(), maxsplit=1)
    if by_suffix == "csv" or first.startswith("video,"):
        return "kaggle" if is_kaggle(first) else "csv"
    if first.startswith(("{", "[")):
        return "jsonl" if "".join(rest).strip() and _is_json_object(first) else "json"
    if by_suffix == "json":
        return "json"  # its reader raises the right error
    if first.startswith("WEBVTT"):
        return "vtt"
    if first.startswith("<"):
        return "eaf"
    if "-->" in text[:200] and not re.match(r"[^\n]*\t", text):
        return "srt"
    if is_kaggle(first):
        return "kaggle"
    return "audacity" if by_suffix == "audacity" or re.match(r"[0-9.]+\t", first) else "json"


def _is_json_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _read_json_file(path: Path, text: str) -> tuple[dict[str, list[Segment]], object]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {error}") from error
    if isinstance(content, dict) and "metadata" in content and "results" not in content:
        return read_via(path, content), content
    return read_detections(path, content), content
