"""Records of an archive run: content, settings and outcome of each video.

The records are in OUT/.tsm-run, in one append-only file of JSON lines for each shard. A line that was cut off
by a crash is skipped: its video is run again, and gives the same bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from tsm_runtime.archive.shard import Shard
from tsm_runtime.files import writing

RECORDS_FOLDER = ".tsm-run"


class Content(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Identity of a video file's content.

    Args:
        size, mtime_ns: values of the file system; 0 if a cloud store has neither.
        version: a cloud store's own tag of the content.
        sha256: SHA-256 of the file, with `--checksum`.
    """

    size: int
    mtime_ns: int = 0
    version: str = ""
    sha256: str = ""

    def same(self, other: Content, *, by_checksum: bool) -> bool:
        """Return whether both are the same content: by checksum only, or by size, time and version."""
        if by_checksum:
            return bool(self.sha256) and self.sha256 == other.sha256
        return (self.size, self.mtime_ns, self.version) == (other.size, other.mtime_ns, other.version)


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Outcome of one video or capture.

    Args:
        contents: contents of its videos, in order.
        settings: hash of bundles and options, see `settings.settings_hash`.
        output_sha256: SHA-256 of the result's file.
        reason: reason of a failure.
        when: time in UTC, for information only.
    """

    id: str
    contents: tuple[Content, ...]
    settings: str
    status: Literal["done", "failed"]
    when: str
    output_sha256: str = ""
    seconds: float = 0.0
    reason: str = ""


def content_of(path: Path, *, checksum: bool = False) -> Content:
    """Return the identity of a file's content.

    Raises:
        OSError: the file cannot be read.
    """
    status = path.stat()
    return Content(
        size=status.st_size, mtime_ns=status.st_mtime_ns, sha256=file_sha256(path) if checksum else ""
    )


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_records(folder: Path) -> dict[str, list[Record]]:
    """Return the records of all runs and shards in a folder of records, by id."""
    found: dict[str, list[Record]] = {}
    for path in sorted(folder.glob("records*.jsonl")):
        for record in read_lines(path, Record):
            found.setdefault(record.id, []).append(record)
    return found


def read_lines(path: Path, kind: type[Record]) -> Iterator[Record]:
    """Yield the records of a file; incomplete or damaged lines are skipped."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return
    for line in lines:
        try:
            yield msgspec.json.decode(line, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue


class RecordWriter:
    """Appends JSON lines to a file; each line is on disk when `write` returns.

    Raises:
        RunError: the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with writing(path):
            self._number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            size = os.fstat(self._number).st_size
            if size and os.pread(self._number, 1, size - 1) != b"\n":
                os.write(self._number, b"\n")  # after a line that a crash cut off

    def write(self, line: msgspec.Struct | dict[str, object]) -> None:
        """Append one line."""
        data = msgspec.json.encode(line) + b"\n"
        with writing(self._path):
            written = os.write(self._number, data)
            if written < len(data):  # a full disk takes a part
                raise OSError(28, "No space left on device")
            os.fsync(self._number)

    def close(self) -> None:
        """Close the file."""
        os.close(self._number)


def records_path(folder: Path, shard: Shard) -> Path:
    """Return the file of a shard's records."""
    return folder / f"records{shard.suffix}.jsonl"


def find_done(
    records: Iterable[Record], settings: str, contents: tuple[Content, ...], *, checksum: bool
) -> Record | None:
    """Return a record of the same content and settings, preferably a successful one."""
    same = [
        record
        for record in records
        if record.settings == settings
        and len(record.contents) == len(contents)
        and all(a.same(b, by_checksum=checksum) for a, b in zip(record.contents, contents, strict=True))
    ]
    return next((record for record in reversed(same) if record.status == "done"), same[-1] if same else None)
