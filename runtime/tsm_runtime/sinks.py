"""Where results go: a file, a folder with a file per video, standard output, or a table on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from tsm_runtime.errors import RunError, UsageError
from tsm_runtime.files import write_whole
from tsm_runtime.outputs import Result, print_table, results_to_csv, results_to_json

__all__ = ["Format", "Sink", "open_sink"]

Format = Literal["json", "csv"]


class Sink(Protocol):
    """Takes results as they come; what it writes appears whole or not at all."""

    def add(self, result: Result) -> None:
        """Take the result of one video."""
        ...

    def close(self) -> None:
        """Write what was held back."""
        ...


def open_sink(output: str | None, format_: Format | None, external_data: Mapping[str, object]) -> Sink:
    """Choose where results go.

    Args:
        output: a file, a folder (one that exists, or a name that ends with /), `-` for standard output, or None:
            a table where standard output is a terminal, else as `-`.
        format_: None: by the output's name, else JSON.
        external_data: where the results come from, for JSON.

    Raises:
        UsageError: the output's folder does not exist.
    """
    if output is None and format_ is None and sys.stdout.isatty():
        return _Table()
    if output is None or output == "-":
        return _Stdout(format_ or "json", external_data)
    path = Path(output)
    if output.endswith("/") or path.is_dir():
        return _Folder(path, format_ or "json", external_data)
    if not path.parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {path.parent}")
    return _File(path, format_ or ("csv" if path.suffix.lower() == ".csv" else "json"), external_data)


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
            sys.stdout.buffer.write(_encode(self._results, self._format, self._external_data))
            sys.stdout.buffer.flush()


class _Table:
    """A readable table per video, as soon as it is done."""

    def add(self, result: Result) -> None:
        print_table([result])

    def close(self) -> None:
        """Nothing was held back."""
