"""Every save as one line of JSON, on the disk before the truth file is replaced."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tsm_runtime.errors import RunError

_TAIL_BYTES = 8_000_000
"""The last record is looked for in so many bytes at the end; a video of 50,000 segments fits."""


class Journal:
    """An append-only file of saves: the history of the annotation, and the save that a crash interrupted.

    Args:
        path: the file, made with its folder by the first save.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: dict[str, Any]) -> None:
        """Write a record and wait until the disk has it.

        Raises:
            RunError: it could not be written, for example because the disk is full; half a line may be left,
                which `last` ignores.
        """
        line = json.dumps(record, ensure_ascii=True) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                begins_anew = file.tell() > 0 and not _ends_a_line(self.path)
                file.write((b"\n" if begins_anew else b"") + line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(f"cannot write {self.path}: {error.strerror or error}") from error

    def last(self) -> dict[str, Any] | None:
        """Return the last whole record, or None where there is none."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES))
                lines = file.read(min(size, _TAIL_BYTES)).split(b"\n")
        except OSError:
            return None
        for line in reversed(lines):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                return record
        return None


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
