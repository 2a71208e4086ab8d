"""Files of arrays by video (.npz), or tables with a row for each interval or frame (.csv, .parquet).

A file grows on disk during the run, without a name, and appears at its path when it is complete.
"""

from __future__ import annotations

import csv
import io
import tempfile
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Any

import numpy as np

from tsm_runtime.files import write_whole, writing
from tsm_runtime.formats.parquet import require_pyarrow
from tsm_runtime.outputs.array_content import ArrayContent, Arrays
from tsm_runtime.results import Result


class ArrayFile(ABC):
    """A file that grows with each result.

    Args:
        path: where it appears when it is closed.
        content: what of a result it holds.

    Raises:
        RunError: the folder cannot be written.
    """

    def __init__(self, path: Path, content: ArrayContent) -> None:
        self._path, self._content = path, content
        with writing(path):
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115
            self._begin()

    def add(self, result: Result) -> None:
        """Append the arrays or rows of one video.

        Raises:
            RunError: they cannot be written.
        """
        with writing(self._path):
            self._append(result)

    def close(self) -> None:
        """Complete the file and copy it to its path.

        Raises:
            RunError: it cannot be written.
        """
        with writing(self._path):
            self._finish()
            self._file.seek(0)
        with self._file:
            write_whole(self._path, self._file)

    @abstractmethod
    def _begin(self) -> None:
        """Write what stands before the first result."""

    @abstractmethod
    def _append(self, result: Result) -> None:
        """Write the arrays or rows of one video."""

    def _finish(self) -> None:  # noqa: B027 - a table of rows has nothing there
        """Write what stands after the last result."""


class Npz(ArrayFile):
    """Arrays named VIDEO/NAME, as `numpy.savez_compressed` writes them."""

    def _begin(self) -> None:
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED)
        self._write(self._content.common)

    def _append(self, result: Result) -> None:
        arrays = self._content.arrays(result)
        self._write({f"{result.video_id}/{name}": array for name, array in arrays.items()})

    def _write(self, arrays: Arrays) -> None:
        for name, array in arrays.items():
            with self._zip.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.ascontiguousarray(array), allow_pickle=False)

    def _finish(self) -> None:
        self._zip.close()


class Csv(ArrayFile):
    """A row for each interval or frame; numbers have six decimals."""

    def _begin(self) -> None:
        self._write([self._content.header])

    def _append(self, result: Result) -> None:
        self._write(
            [cell if isinstance(cell, str) else round(cell, 6) for cell in row]
            for row in self._content.rows(result)
        )

    def _write(self, rows: Any) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode("utf-8", "backslashreplace"))


class Parquet(ArrayFile):
    """A row for each interval or frame, a row group for each video; without any result an empty file."""

    def _begin(self) -> None:
        self._arrow = require_pyarrow()
        self._writer: Any = None

    def _append(self, result: Result) -> None:
        table = self._content.table(result)
        if self._writer is None:
            self._writer = self._arrow.parquet.ParquetWriter(self._file, table.schema, compression="zstd")
        self._writer.write_table(table)

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.close()


KINDS: dict[str, type[ArrayFile]] = {".npz": Npz, ".csv": Csv, ".parquet": Parquet}
"""The kind of file by its suffix."""
