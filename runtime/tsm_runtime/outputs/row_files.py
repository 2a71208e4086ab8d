"""One table for many videos, written during the run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from tsm_runtime.files import temporary_sibling, writing
from tsm_runtime.formats.csv_table import ExtraColumn, csv_cell, results_to_csv
from tsm_runtime.formats.json_lines import results_to_json_lines
from tsm_runtime.formats.names import Format
from tsm_runtime.formats.parquet import bundle_of, failure_row, require_pyarrow, rows_to_table, segment_rows
from tsm_runtime.formats.text import rounded
from tsm_runtime.outputs.base import Sink
from tsm_runtime.results import Result, ranked_scenes

_ROWS_IN_GROUP = 10_000

VIDEO_COLUMNS = ("video", "status", "segments", "scene", "scene_score", "duration", "bundle", "error")
"""Columns of the table beside a CSV, which has a row for each video, also for one without segments."""


class LineFile(Sink):
    """CSV or JSON lines that grow with each result; the file is always readable up to its last row.

    The first result replaces an earlier file.

    Args:
        path: path of the file.
        format_: `csv` or `jsonl`.
        external_data: names the bundle.
        videos: also write NAME.videos.csv, with a row for each video.
        columns: further columns of the CSV.
    """

    def __init__(
        self,
        path: Path,
        format_: Format,
        external_data: Mapping[str, object],
        *,
        videos: bool,
        columns: Sequence[ExtraColumn] = (),
    ) -> None:
        self._path, self._format = path, format_
        self._bundle, self._columns = bundle_of(external_data), columns
        self._videos = _Lines(path.with_name(f"{path.stem}.videos.csv")) if videos else None
        self._lines = _Lines(path)

    def add(self, result: Result) -> None:
        """Write the rows of one video."""
        if self._format == "jsonl":
            self._lines.write(results_to_json_lines([result]))
        else:
            text = results_to_csv([result], self._columns, csv_cell(self._bundle))
            _, rows = text.split("\n", 1)
            self._lines.write((rows if self._lines.begun else text).encode("utf-8", "backslashreplace"))
        if self._videos is not None:
            self._videos.write(self._video_row(_done_row(result, self._bundle)))

    def fail(self, video_id: str, reason: str) -> None:
        """Write the row of a video without a result."""
        if self._videos is not None:
            self._videos.write(self._video_row(failure_row(video_id, reason, self._bundle)))

    def close(self) -> None:
        """Close the files."""
        self._lines.close()
        if self._videos is not None:
            self._videos.close()

    def _video_row(self, row: Mapping[str, object]) -> bytes:
        begun = self._videos is not None and self._videos.begun
        header = "" if begun else ",".join(VIDEO_COLUMNS) + "\n"
        cells = (row.get(name) for name in VIDEO_COLUMNS)
        line = ",".join("" if c is None else csv_cell(c) if isinstance(c, str) else repr(c) for c in cells)
        return f"{header}{line}\n".encode("utf-8", "backslashreplace")


def _done_row(result: Result, bundle: str) -> dict[str, object]:
    best = ranked_scenes(result.scenes)[0] if result.scenes else None
    return {
        "video": result.video_id,
        "status": "done" if result.complete else "incomplete",
        "segments": len(result.segments),
        "scene": best and best.label,
        "scene_score": best and rounded(best.score),
        "duration": rounded(result.duration_seconds),
        "bundle": bundle,
    }


class _Lines:
    """A file that the first write opens and that grows by whole lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    @property
    def begun(self) -> bool:
        """Whether anything was written."""
        return self._file is not None

    def write(self, data: bytes) -> None:
        """Append bytes; on an error none of them stays in the file.

        Raises:
            RunError: the bytes cannot be written.
        """
        with writing(self._path):
            if self._file is None:
                self._file = self._path.open("wb", buffering=0)
            self._write(self._file, data)

    def _write(self, file: IO[bytes], data: bytes) -> None:
        start = file.tell() if file.seekable() else None
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            if start is not None:
                os.ftruncate(file.fileno(), start)
                file.seek(start)
            raise

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class ParquetFile(Sink):
    """A Parquet table, which is written on close, as its index is at its end.

    Raises:
        BackendError: pyarrow is not installed.
    """

    def __init__(self, path: Path, external_data: Mapping[str, object]) -> None:
        self._arrow = require_pyarrow()
        self._path = path
        self._bundle = bundle_of(external_data)
        self._temporary = temporary_sibling(Path(os.path.realpath(path)))
        self._rows: list[Mapping[str, object]] = []
        self._writer: Any = None

    def add(self, result: Result) -> None:
        """Add the rows of one video."""
        self._take(segment_rows(replace(result, scores=None, members=()), self._bundle))

    def fail(self, video_id: str, reason: str) -> None:
        """Add the row of a video without a result."""
        self._take([failure_row(video_id, reason, self._bundle)])

    def close(self) -> None:
        """Write the remaining rows, and move the file to its path."""
        try:
            with writing(self._path):
                self._flush()
                if self._writer is not None:
                    self._writer.close()
                    self._temporary.replace(os.path.realpath(self._path))
        finally:
            self._temporary.unlink(missing_ok=True)

    def _take(self, rows: Sequence[Mapping[str, object]]) -> None:
        self._rows += rows
        if len(self._rows) >= _ROWS_IN_GROUP:
            with writing(self._path):
                self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        table = rows_to_table(self._rows)
        if self._writer is None:
            self._writer = self._arrow.parquet.ParquetWriter(
                str(self._temporary), table.schema, compression="zstd"
            )
        self._writer.write_table(table)
        self._rows.clear()
