"""Atomic writing of files and folders, and reading of files written by users."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import stat
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import IO

from tsm_runtime.errors import RunError, UsageError
from tsm_runtime.signatures import describe_start

_GZIP = b"\x1f\x8b"
"""First bytes of a gzip file; no UTF-8 text begins with them."""

_START_LETTERS = 256
_MOST_TEXT_BYTES = 512 * 2**20
"""Size limit in bytes; the largest public annotation file, of Kinetics-700, has about 60 MiB."""


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, optionally gzipped or with byte order mark; line ends are kept.

    Raises:
        UsageError: the file cannot be read, is larger than any annotation file, or is not UTF-8.
    """
    data = b""
    try:
        data = _bounded_bytes(path)
        return data.decode("utf-8-sig")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: damaged gzip file: {error}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        what = describe_start(data) or f"{error.reason} at byte {error.start}; save it as UTF-8"
        raise UsageError(f"{path}: not UTF-8 text ({what})") from error


def _bounded_bytes(path: Path) -> bytes:
    """Return the uncompressed content of a file; the size limit stops devices and gzip bombs."""
    with path.open("rb") as file:
        data = file.read(_MOST_TEXT_BYTES + 1)
        if data.startswith(_GZIP):
            with gzip.open(BytesIO(data)) as packed:
                data = packed.read(_MOST_TEXT_BYTES + 1)
    if len(data) > _MOST_TEXT_BYTES:
        raise UsageError(
            f"{path}: more than {_MOST_TEXT_BYTES >> 20} MiB of text; expected annotations or settings"
        )
    return data


def read_json(path: Path, faults: Faults = None) -> object:
    """Return the value of a JSON file.

    Duplicate keys of an object are added to `faults` if it is a list (Python silently keeps the last value).

    NaN and Infinity, which Python programs write, are accepted: the caller sees the number and can name its
    entry, whereas a strict parser could only name a byte offset.

    Raises:
        UsageError: the file cannot be read or is not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=None if faults is None else _pairs_hook(path, faults))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {_why_no_json(text) or error}") from error


def _why_no_json(text: str) -> str | None:
    """Return what a text is that is not JSON; None where the place of the first error says more."""
    if not text.strip():
        return "the file is empty"
    if re.match(r"[\[{\s]*'", text):
        return "single quotes, as Python prints a dictionary; write it with json.dump"
    return describe_start(text[:_START_LETTERS].encode("utf-8", "replace"))


def read_json_or_none(path: Path, faults: Faults = None) -> object:
    """Return what `read_json` does, or None where the file is not JSON."""
    try:
        return read_json(path, faults)
    except UsageError:
        return None


def _pairs_hook(path: Path, faults: list[str]) -> Callable[[list[tuple[str, object]]], dict[str, object]]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        values = dict(pairs)
        if len(values) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            faults.extend(
                f"{path}: key {key!r} is there {n} times; only the last counts"
                for key, n in counts.items()
                if n > 1
            )
        return values

    return unique


@contextmanager
def writing(what: object) -> Iterator[None]:
    """Raise errors of the system in the block as a `RunError` that names what could not be written."""
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write {what}: {error.strerror or error}") from error


def made_folder(path: Path, *, shown: Path | None = None) -> Path:
    """Make a folder, where it is not there, and return it; messages name `shown` in its place.

    Raises:
        RunError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write to {shown or path}: {error.strerror}") from error
    return path


def write_whole(path: Path, data: bytes | str | IO[bytes]) -> None:
    """Write a file atomically: `path` holds either all of `data` or its previous content.

    Args:
        path: target; links are followed, permissions of an existing file are kept.
        data: bytes, text, which is written as UTF-8, or a file, which is copied from its position to its end.

    Raises:
        RunError: the file could not be written; no temporary file is left.
    """
    # File names that are not UTF-8 contain lone surrogates; escaping them keeps the output valid UTF-8.
    content = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    with writing(path):
        _write(Path(os.path.realpath(path)), content)


def _write(target: Path, content: bytes | IO[bytes]) -> None:
    source = BytesIO(content) if isinstance(content, bytes) else content
    if target.exists() and not target.is_file():
        # /dev/stdout and pipes cannot be replaced; for a folder this raises the right error.
        with target.open("wb") as file:
            shutil.copyfileobj(source, file)
        return
    temporary = temporary_sibling(target)
    try:
        with temporary.open("xb") as file:
            shutil.copyfileobj(source, file)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError, PermissionError):
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        temporary.replace(target)
        _sync_folder(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Flush a folder to disk, so that a new file name survives a power failure, where supported."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def is_folder(path: Path) -> bool:
    """Return whether the path is a folder; False if the system cannot look it up."""
    try:
        return path.is_dir()
    except OSError:  # name too long, or parent folder not readable
        return False


@contextmanager
def whole_folder(path: Path, *, marker: str = "manifest.json") -> Iterator[Path]:
    """Yield an empty temporary folder beside `path` that replaces it when the block succeeds.

    Args:
        path: target. An existing folder is replaced only if it is empty or of the same kind, so that a
            mistyped `--output` never deletes other files.
        marker: name of a file that every folder of this kind contains.

    Raises:
        UsageError: `path` exists and is something else.
        RunError: a file or folder could not be written; the previous content is kept.
    """
    target = Path(os.path.realpath(path))
    temporary = temporary_sibling(target)
    try:
        _check_replaceable(target, path, marker)
        temporary.mkdir()
        yield temporary
        old = temporary_sibling(target)
        exchange_folder(temporary, target, old)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise RunError(f"cannot write folder {path}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_replaceable(target: Path, shown: Path, marker: str) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError(f"{shown} exists and is not a folder; choose another output")
    if any(target.iterdir()) and not (target / marker).is_file():
        raise UsageError(f"{shown} holds other files (no {marker}); choose another output or an empty folder")


def exchange_folder(new: Path, target: Path, old: Path) -> None:
    """Rename `target` to `old` and `new` to `target`; when that fails, `target` is restored.

    Args:
        new: the complete folder.
        target: its final path; may be missing.
        old: a free path on the same file system. The caller removes it.

    Raises:
        OSError: a folder could not be renamed.
    """
    if not target.exists():
        new.rename(target)
        return
    target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        old.rename(target)
        raise


def temporary_sibling(target: Path) -> Path:
    """Return an unused path in the folder of `target`."""
    # Not derived from the target's name, which may already have the maximum length.
    return target.parent / f".tsm-{uuid.uuid4().hex}.tmp"


Faults = list[str] | None
"""Collects the messages of faulty entries, which are skipped; None: the first fault is raised."""


@contextmanager
def noting(faults: Faults) -> Iterator[None]:
    """Append a UsageError of the block to the list and suppress it; without a list it propagates.

    >>> faults = []
    >>> with noting(faults):
    ...     raise UsageError("line 2: empty label")
    >>> faults
    ['line 2: empty label']
    """
    try:
        yield
    except UsageError as error:
        if faults is None:
            raise
        faults.append(str(error))
