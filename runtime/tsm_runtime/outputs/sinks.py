"""Sinks of results: a file, a folder with a file per video, standard output, or a table on a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from tsm_runtime.errors import RunError, UsageError
from tsm_runtime.files import is_folder, temporary_sibling, write_whole
from tsm_runtime.formats.csv_table import ExtraColumn
from tsm_runtime.formats.editors import require_otio
from tsm_runtime.formats.kaggle import (
    ACTION_IDS,
    SCENE_LABELS,
    check_class_ids,
    read_label_map,
    scenes_to_kaggle,
)
from tsm_runtime.formats.names import PER_VIDEO, SUFFIXES, Format, known_format_of
from tsm_runtime.formats.read_write import encode_results
from tsm_runtime.outputs.row_files import LineFile, ParquetFile
from tsm_runtime.outputs.table import print_table
from tsm_runtime.results import BACKGROUND, Result, ranked_scenes
from tsm_runtime.terminal import is_terminal, write_stdout
from tsm_runtime.video.finding import VideoInput

_log = logging.getLogger("tsm_runtime")


class Sink(Protocol):
    """Receives results during the run; files are written completely or not at all."""

    def add(self, result: Result) -> None:
        """Add the result of one video."""
        ...

    def fail(self, video_id: str, reason: str) -> None:
        """Record a video without a result, if the output can hold that."""
        ...

    def close(self) -> None:
        """Write buffered results."""
        ...


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


def choose_format(output: str | None, format_: Format | None) -> Format:
    """Return the requested format, else the one of the output's suffix, else JSON.

    Raises:
        UsageError: the suffix belongs to no format.
    """
    if format_ is not None:
        return format_
    if output is None or output == "-" or means_folder(output):
        return "json"
    return known_format_of(output) or "json"


def label_ids_for(
    format_: Format, label_map: Path | None, action_labels: Sequence[str]
) -> Mapping[str, int | None]:
    """Return the class ids that the Kaggle format needs, checked before the run.

    Args:
        format_: the chosen format.
        label_map: file of `--label-map`, or None.
        action_labels: all labels that the model may find.

    Raises:
        UsageError: the label map is for another format, is wrong, or lacks a label.
    """
    if format_ != "kaggle":
        if label_map is not None:
            raise UsageError(f"--label-map is for --format kaggle only, not {format_}")
        return ACTION_IDS
    ids = ACTION_IDS if label_map is None else read_label_map(label_map)
    check_class_ids([label for label in action_labels if label != BACKGROUND], ids)
    return ids


def check_output(output: str | None, inputs: Sequence[VideoInput], format_: Format | None = None) -> None:
    """Check `--output` and `--format` before the run.

    Raises:
        UsageError: the output is empty, its folder does not exist, it is one of the videos, or it is one file
            for several videos in a format that holds one.
    """
    if output == "":
        raise UsageError("--output is empty; give a file, a folder, or - for standard output")
    path = Path(output or "-")
    if any(path.resolve() == video.path.resolve() for video in inputs):
        raise UsageError(f"--output {output}: would replace the video; choose another name")
    _check_one_file(output, len(inputs), choose_format(output, format_))
    if output is None or output == "-":
        return
    if not means_folder(output) and not is_folder(path.parent):
        raise UsageError(f"--output {output}: there is no folder {path.parent}")


def check_second_output(
    flag: str, path: Path, suffixes: Sequence[str], inputs: Sequence[VideoInput], output: str | None
) -> None:
    """Check the name of a file that is written besides `--output`, before the run.

    Raises:
        UsageError: another suffix, no such folder, or the name of a video or of `--output`.
    """
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"{flag} {path}: expected a name that ends in {', '.join(suffixes)}")
    if is_folder(path) or not is_folder(path.parent):
        raise UsageError(f"{flag} {path}: is a folder, or there is no folder {path.parent}")
    taken = [video.path for video in inputs] + ([] if output in (None, "-", "") else [Path(str(output))])
    if any(path.resolve() == other.resolve() for other in taken):
        raise UsageError(f"{flag} {path}: would replace the video or --output; choose another name")


def _check_one_file(output: str | None, num_videos: int, format_: Format) -> None:
    in_folder = output is not None and output != "-" and means_folder(output)
    if format_ in PER_VIDEO and num_videos > 1 and not in_folder:
        raise UsageError(
            f"a file of format {format_} holds one video, but {num_videos} were given;"
            " choose a folder: --output FOLDER/"
        )


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
        return _Stdout(encoding)
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
    return _File(path, encoding)


def result_path(folder: Path, video_id: str, format_: Format) -> Path:
    """Return the file of a video's result in an output folder.

    Raises:
        UsageError: the file would lie outside of the folder.
    """
    path = folder / f"{video_id}{SUFFIXES[format_]}"
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"video id {video_id!r} would be written outside {folder}")
    return path


def check_writable(output: str | None) -> None:
    """Check before the run that `--output` can be opened for writing; its content does not change.

    Raises:
        RunError: the output cannot be written.
    """
    if output is None or output == "-":
        return
    path = Path(output)
    try:
        if means_folder(output):
            path.mkdir(parents=True, exist_ok=True)
        elif path.exists():
            with path.open("ab"):
                return
        trial = temporary_sibling(path / "trial" if means_folder(output) else path)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise RunError(f"cannot write {output}: {error.strerror or error}") from error


def means_folder(output: str) -> bool:
    """Return whether an output is a folder: one that exists, or a name that ends with /."""
    return output.endswith("/") or is_folder(Path(output))


class _Folder:
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

    def fail(self, video_id: str, reason: str) -> None:
        """Do nothing: the output cannot hold failures."""

    def close(self) -> None:
        """Do nothing: everything is already written."""


def without_arrays(result: Result) -> Result:
    """Return a result without its arrays, which no file holds, to save memory."""
    members = tuple(member and without_arrays(member) for member in result.members)
    return replace(result, scores=None, frames=None, features=None, members=members)


class _File:
    """One file for all videos."""

    def __init__(self, path: Path, encoding: Encoding) -> None:
        self._path, self._encoding = path, encoding
        self._results: list[Result] = []

    def add(self, result: Result) -> None:
        self._results.append(without_arrays(result))

    def fail(self, video_id: str, reason: str) -> None:
        """Do nothing: the output cannot hold failures."""

    def close(self) -> None:
        if self._results:
            self._encoding.write(self._path, self._results)


class _Stdout:
    """One document for all videos on standard output."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._results: list[Result] = []

    def add(self, result: Result) -> None:
        self._results.append(without_arrays(result))

    def fail(self, video_id: str, reason: str) -> None:
        """Do nothing: the output cannot hold failures."""

    def close(self) -> None:
        if self._results:
            write_stdout(self._encoding.encode(self._results))


class _Table:
    """A table per video, printed when the video is done."""

    def add(self, result: Result) -> None:
        print_table([result])

    def fail(self, video_id: str, reason: str) -> None:
        """Do nothing: the output cannot hold failures."""

    def close(self) -> None:
        """Do nothing: everything is already written."""
