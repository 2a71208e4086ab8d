"""Writing of results in any format, and reading of segments: the one table of formats."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tsm_runtime.errors import UsageError
from tsm_runtime.files import Faults, read_text
from tsm_runtime.formats.audacity import read_audacity, results_to_audacity
from tsm_runtime.formats.boris import read_boris, results_to_boris
from tsm_runtime.formats.boris_tables import read_boris_table
from tsm_runtime.formats.columns import read_columns, read_epic
from tsm_runtime.formats.csv_table import ExtraColumn, csv_cell, read_csv, results_to_csv
from tsm_runtime.formats.cvat import read_cvat
from tsm_runtime.formats.detection_json import read_detection, read_detections, results_to_json
from tsm_runtime.formats.eaf import read_eaf, results_to_eaf
from tsm_runtime.formats.editors import (
    results_to_chapters,
    results_to_edl,
    results_to_fcpxml,
    results_to_otio,
)
from tsm_runtime.formats.frame_labels import (
    read_frame_labels,
    read_one_hot,
    results_to_frame_labels,
    results_to_one_hot,
)
from tsm_runtime.formats.json_lines import read_json_lines, results_to_json_lines
from tsm_runtime.formats.kaggle import ACTION_IDS, read_kaggle, results_to_kaggle
from tsm_runtime.formats.label_studio import read_label_studio, results_to_label_studio
from tsm_runtime.formats.names import IN_FRAMES, Format, ToolFormat, format_of
from tsm_runtime.formats.options import ReadOptions
from tsm_runtime.formats.parquet import bundle_of, read_parquet, results_to_parquet
from tsm_runtime.formats.rates import frame_rates
from tsm_runtime.formats.recognise import json_format, recognise_format
from tsm_runtime.formats.result_file import ResultFile, results_of
from tsm_runtime.formats.subtitles import read_srt, read_vtt, results_to_srt, results_to_vtt
from tsm_runtime.formats.thumos import read_thumos
from tsm_runtime.formats.tool_file import Segments, ToolFile
from tsm_runtime.formats.via import read_via, results_to_via
from tsm_runtime.formats.via2 import read_via2
from tsm_runtime.results import Result, Segment

# --- writing --------------------------------------------------------------------------------------


def encode_results(
    results: Sequence[Result],
    format_: Format,
    *,
    external_data: Mapping[str, object] | None = None,
    media: Mapping[str, Path] | None = None,
    label_ids: Mapping[str, int | None] = ACTION_IDS,
    labels: Sequence[str] = (),
    columns: Sequence[ExtraColumn] = (),
    frame_rate: float | None = None,
) -> bytes:
    """Return the content of one file with all results.

    Args:
        results: videos in the order of the file.
        format_: name of the format.
        external_data: origin of the results (json, parquet).
        media: video file by id (boris, eaf, via, and the formats that count frames).
        label_ids: class id by label (kaggle).
        labels: all classes of the models, found or not (via).
        columns: further columns (csv).
        frame_rate: frames per second, for the formats that count frames; None: that of the video file.

    Raises:
        UsageError: the format holds one video and there are several results, a label has no id, or the frame
            rate is unknown.
        ValueError: two results have the same video id.
    """
    files = media or {}
    if format_ in IN_FRAMES:
        return _in_frames(results, format_, files, frame_rates(results, format_, files, frame_rate))
    if format_ == "json":
        return results_to_json(results, external_data or {})
    if format_ == "jsonl":
        return results_to_json_lines(results)
    if format_ == "parquet":
        return results_to_parquet(results, external_data or {})
    if format_ == "via":
        return results_to_via(results, media, labels)
    if format_ == "boris":
        return results_to_boris(results, media)
    if format_ == "eaf":
        return results_to_eaf(results, files.get(results[0].video_id) if results else None)
    if format_ == "kaggle":
        return _utf8(results_to_kaggle(results, label_ids))
    if format_ == "csv":
        return _utf8(results_to_csv(results, columns, csv_cell(bundle_of(external_data or {}))))
    return _utf8(_TEXT_WRITERS[format_](results))


_TEXT_WRITERS: dict[Format, Callable[[Sequence[Result]], str]] = {
    "vtt": results_to_vtt,
    "srt": results_to_srt,
    "audacity": results_to_audacity,
    "chapters": results_to_chapters,
}


def _in_frames(
    results: Sequence[Result], format_: Format, media: Mapping[str, Path], rates: Mapping[str, float]
) -> bytes:
    if format_ == "label-studio":
        return results_to_label_studio(results, rates, media)
    if format_ == "fcpxml":
        return results_to_fcpxml(results, rates, media)
    if format_ == "otio":
        return results_to_otio(results, rates, media)
    if format_ == "edl":
        return _utf8(results_to_edl(results, rates, media))
    write = results_to_frame_labels if format_ == "frame-labels" else results_to_one_hot
    return _utf8(write(results, rates))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # a video id may hold lone surrogates


# --- reading --------------------------------------------------------------------------------------


_TEXT_READERS: dict[Format | ToolFormat, Callable[[Path, str], Segments]] = {
    "csv": read_csv,
    "jsonl": read_json_lines,
    "vtt": read_vtt,
    "srt": read_srt,
    "audacity": read_audacity,
}

_TOOL_READERS: dict[Format | ToolFormat, Callable[[ToolFile], Segments]] = {
    "boris": read_boris,
    "boris-table": read_boris_table,
    "label-studio": read_label_studio,
    "cvat": read_cvat,
    "via2": read_via2,
    "frame-labels": read_frame_labels,
    "one-hot": read_one_hot,
    "thumos": read_thumos,
    "epic": read_epic,
    "columns": read_columns,
}


def read_segments(
    path: Path,
    *,
    label_ids: Mapping[str, int | None] = ACTION_IDS,
    options: ReadOptions | None = None,
) -> dict[str, list[Segment]]:
    """Read segments per video id from a file of any format of docs/formats.md, as drafts.

    The suffix decides; if it is shared or unknown, the content does. A video without segments has an empty
    list, except in a CSV that cannot hold it; a video that a project lists without any entry is left out.
    Formats that do not name their video have the file's stem as its id.

    Args:
        path: the file.
        label_ids: class id by label, for a Kaggle CSV.
        options: options for reading annotations.

    Raises:
        UsageError: an entry is wrong; the message names file and entry (from 1), or line, of the first fault.
    """
    return read_source(path, label_ids=label_ids, options=options, as_drafts=True)[0]


def read_results(
    path: Path, *, label_ids: Mapping[str, int | None] = ACTION_IDS, options: ReadOptions | None = None
) -> ResultFile:
    """Read a file as `read_segments` does, from detection JSON also scenes and provenance.

    Raises:
        UsageError: as `read_segments`, or a scene is wrong.
    """
    segments, content = read_source(path, label_ids=label_ids, options=options, as_drafts=True)
    results, external_data = results_of(path, segments, content)
    return ResultFile(
        path=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        results=results,
        external_data=external_data,
    )


def read_source(
    path: Path,
    *,
    label_ids: Mapping[str, int | None] = ACTION_IDS,
    options: ReadOptions | None = None,
    faults: Faults = None,
    unannotated: list[str] | None = None,
    as_drafts: bool = False,
) -> tuple[Segments, object]:
    """Return the segments by video id and, for JSON, the value of the file.

    Args:
        path: the file.
        label_ids: class id by label, for a Kaggle CSV.
        options: options for reading.
        faults: collects the faults of entries of other tools' files, which are then left out.
        unannotated: collects videos that a project of another tool lists without any entry.
        as_drafts: drafts of a model are read in the place of missing annotations.

    Raises:
        UsageError: the file or an entry is wrong.
    """
    options = options or ReadOptions()
    if format_of(path.name) == "parquet":
        return read_parquet(path), None
    text = read_text(path)
    format_ = "columns" if options.columns else recognise_format(path.name, text)
    content = _parse_json(path, text) if format_ in ("json", "boris", "via") else None
    format_ = json_format(content) if format_ == "json" else format_
    if (read := _TOOL_READERS.get(format_)) is not None:
        file = ToolFile(
            path=path,
            text=text,
            content=content,
            options=options,
            faults=faults,
            unannotated=[] if unannotated is None else unannotated,
            as_drafts=as_drafts,
        )
        return read(file), None
    if format_ == "kaggle":
        return read_kaggle(path, text, label_ids), None
    if format_ == "eaf":
        return read_eaf(path, text, options.tiers), None
    if content is not None or format_ == "json":
        if format_ == "via":
            return read_via(path, content), content
        return read_detections(path, content, read_detection), content
    if format_ not in _TEXT_READERS:
        raise UsageError(f"{path}: files of format {format_} are written for editors, and not read")
    return _TEXT_READERS[format_](path, text), None


def _parse_json(path: Path, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {error}") from error
