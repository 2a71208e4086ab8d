"""Where results go: a file, a folder with a file per video, standard output, or a table on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from tsm_runtime.errors import RunError, UsageError
from tsm_runtime.files import is_folder, write_whole
from tsm_runtime.inputs import VideoInput
from tsm_runtime.outputs import Result, results_to_csv, results_to_json
from tsm_runtime.tables import print_table
from tsm_runtime.terminal import is_terminal, write_stdout

__all__ = ["Format", "Sink", "check_output", "open_sink"]

Format = Literal["json", "csv"]


class Sink(Protocol):
    """Takes results as they come; what it writes appears whole or not at all."""

    def add(self, result: Result) -> None:
        """Take the result of one video."""
        ...

    def close(self) -> None:
        """Write what was held back."""
        ...


def check_output(output: str | None, inputs: Sequence[VideoInput]) -> None:
    """Check what `--output` says, before any work is done for it.

    Raises:
        UsageError: it is empty, its folder does not exist, or it is one of the videos.
    """
    if output is None or output == "-":
        return
    if not output:
        raise UsageError("--output is empty; give a file, a folder, or - for standard output")
    path = Path(output)
    if not _means_folder(output) and not is_folder(path.parent):
        raise UsageError(f"--output {output}: there is no folder {path.parent}")
    if any(path.resolve() == video.path.resolve() for video in inputs):
        raise UsageError(f"--output {output}: would replace the video; choose another name")


def open_sink(output: str | None, format_: Format | None, external_data: Mapping[str, object]) -> Sink:
    """Choose where results go.

    Args:
        output: a file, a folder (one that exists, or a name that ends with /), `-` for standard output, or
            None: a table where standard output is a terminal, else as `-`.
        format_: None: by the output's name, else JSON.
        external_data: where the results come from, for JSON.
    """
    if output is None and format_ is None and is_terminal(sys.stdout):
        return _Table()
    if output is None or output == "-":
        return _Stdout(format_ or "json", external_data)
    path = Path(output)
    if _means_folder(output):
        return _Folder(path, format_ or "json", external_data)
    return _File(path, format_ or ("csv" if path.suffix.lower() == ".csv" else "json"), external_data)


def _means_folder(output: str) -> bool:
    return output.endswith("/") or is_folder(Path(output))


def _encode(results: list[Result], format_: Format, external_data: Mapping[str, object]) -> bytes:
    if format_ == "csv":
        return results_to_csv(results).encode("utf-8", "backslashreplace")
    return results_to_json(results, external_data)


class _Folder:
    """A file per video, named by its id, written as soon as the video is done."""

    def __init__(self, folder: Path, format_: Format, external_data: Mapping[str, object]) -> None:
        self._folder, self._format, self._external_data = folder, format_, external_data

    def add(self, result: Result) -> None:
        path = self._folder / f"{result.video_id}.{self._format}"
        if not path.resolve().is_relative_to(self._folder.resolve()):
            raise UsageError(f"video id {result.video_id!r} would be written outside {self._folder}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path.parent}: cannot make this folder ({error.strerror})") from error
        write_whole(path, _encode([result], self._format, self._external_data))

    def close(self) -> None:
        """Nothing was held back."""


class _File:
    """One file for all videos."""

    def __init__(self, path: Path, format_: Format, external_data: Mapping[str, object]) -> None:
        self._path, self._format, self._external_data = path, format_, external_data
        self._results: list[Result] = []

    def add(self, result: Result) -> None:
        self._results.append(result)

    def close(self) -> None:
        if self._results:
            write_whole(self._path, _encode(self._results, self._format, self._external_data))


class _Stdout:
    """One document for all videos on standard output."""

    def __init__(self, format_: Format, external_data: Mapping[str, object]) -> None:
        self._format, self._external_data = format_, external_data
        self._results: list[Result] = []

    def add(self, result: Result) -> None:
        self._results.append(result)

    def close(self) -> None:
        if self._results:
            write_stdout(_encode(self._results, self._format, self._external_data))


class _Table:
    """A readable table per video, as soon as it is done."""

    def add(self, result: Result) -> None:
        print_table([result])

    def close(self) -> None:
        """Nothing was held back."""
