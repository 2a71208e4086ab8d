"""Sinks of results: a file, a folder with a file per video, standard output, or a table on a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tsm_runtime.errors import RunError
from tsm_runtime.files import write_whole
from tsm_runtime.formats.csv_table import ExtraColumn
from tsm_runtime.formats.editors import require_otio
from tsm_runtime.formats.kaggle import ACTION_IDS, SCENE_LABELS, scenes_to_kaggle
from tsm_runtime.formats.names import Format
from tsm_runtime.formats.read_write import encode_results
from tsm_runtime.outputs.base import Sink, without_arrays
from tsm_runtime.outputs.output_names import means_folder, result_path
from tsm_runtime.outputs.row_files import LineFile, ParquetFile
from tsm_runtime.outputs.table import print_table
from tsm_runtime.results import Result, ranked_scenes
from tsm_runtime.terminal import is_terminal, write_stdout

_log = logging.getLogger("tsm_runtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """Encoding of results: the arguments of `encode_results`."""

    format: Format = "json"
    external_data: Mapping[str, object] = field(default_factory=dict)
    media: Mapping[str, Path] = field(default_factory=dict)
    label_ids: Mapping[str, int | None] = field(default_factory=lambda: ACTION_IDS)
    labels: Sequence[str] = ()
    columns: Sequence[ExtraColumn] = ()
    frame_rate: float | None = None

    def write(self, path: Path, results: Sequence[Result]) -> None:
        """Write a file; for Kaggle also NAME_scenes.csv beside it, if all scenes are those of 360+x."""
        write_whole(path, self.encode(results))
        if self.format == "kaggle" and any(result.scenes for result in results):
            self._write_scenes(path.with_name(f"{path.stem}_scenes{path.suffix}"), results)

    def encode(self, results: Sequence[Result]) -> bytes:
        """Return the bytes of one file with all results."""
        return encode_results(
            results,
            self.format,
            external_data=self.external_data,
            media=self.media,
            label_ids=self.label_ids,
            labels=self.labels,
            columns=self.columns,
            frame_rate=self.frame_rate,
        )

    def _write_scenes(self, path: Path, results: Sequence[Result]) -> None:
        best = {ranked_scenes(result.scenes)[0].label for result in results if result.scenes}
        if unknown := best.difference(SCENE_LABELS):
            _log.warning(f"no {path}: scene {min(unknown)!r} is none of the 28 of 360+x")
            return
        write_whole(path, scenes_to_kaggle([result for result in results if result.scenes]))


def open_sink(output: str | None, format_: Format | None, encoding: Encoding) -> Sink:
    """Open the sink for the results.

    Args:
        output: a file, a folder (one that exists, or a name that ends with /), `-` for standard output, or
            None: a table if standard output is a terminal, else as `-`.
        format_: the requested format; if it is None and standard output is a terminal, a table is shown.
        encoding: encoding of results; its format is that of `choose_format`.

    Raises:
        BackendError: a library of the format is not installed.
    """
    if output is None and format_ is None and is_terminal(sys.stdout):
        return _Table()
    if encoding.format == "otio":
        require_otio()
    if output is None or output == "-":
        return _Whole(lambda results: write_stdout(encoding.encode(results)))
    if means_folder(output):
        return _Folder(Path(output), encoding)
    path = Path(output)
    if encoding.format in ("csv", "jsonl"):
        several = encoding.format == "csv" and len(encoding.media) > 1
        return LineFile(
            path, encoding.format, encoding.external_data, videos=several, columns=encoding.columns
        )
    if encoding.format == "parquet":
        return ParquetFile(path, encoding.external_data)
    return _Whole(partial(encoding.write, path))


class _Folder(Sink):
    """A file per video, named by its id, written when the video is done."""

    def __init__(self, folder: Path, encoding: Encoding) -> None:
        self._folder, self._encoding = folder, encoding

    def add(self, result: Result) -> None:
        path = result_path(self._folder, result.video_id, self._encoding.format)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path.parent}: cannot make this folder ({error.strerror})") from error
        self._encoding.write(path, [result])


class _Whole(Sink):
    """One document for all videos, written at the end."""

    def __init__(self, write: Callable[[Sequence[Result]], None]) -> None:
        self._write = write
        self._results: list[Result] = []

    def add(self, result: Result) -> None:
        self._results.append(without_arrays(result))

    def close(self) -> None:
        if self._results:
            self._write(self._results)


class _Table(Sink):
    """A table per video, printed when the video is done."""

    def add(self, result: Result) -> None:
        print_table([result])
