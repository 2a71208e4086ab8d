"""Files that appear whole or not at all, and reading of files that a user wrote."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import stat
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

from tsm_runtime.errors import RunError, UsageError

_GZIP = b"\x1f\x8b"
"""First bytes of a gzip file; no UTF-8 text begins with them."""


_MOST_TEXT_BYTES = 512 * 2**20
"""The largest annotation file of the field, of Kinetics-700, has some 60 MiB."""


def read_text(path: Path) -> str:
    """Text of a UTF-8 file, with or without byte order mark, gzipped or not; line ends stay as they are.

    Raises:
        UsageError: the file cannot be read, is larger than any annotation file, or is not UTF-8.
    """
    try:
        return _bounded_bytes(path).decode("utf-8-sig")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: damaged gzip file: {error}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def _bounded_bytes(path: Path) -> bytes:
    """Return the content of a file, unpacked, and stop at one without end (a device, a gzip bomb)."""
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
    """Value of a JSON file.

    Where `faults` collects, it gets the keys that an object has twice (Python keeps the last without a word).

    The standard reader also takes NaN and Infinity, which Python programs write: so the caller sees the
    number and can name its entry, where a strict reader could only name a byte.

    Raises:
        UsageError: the file cannot be read or is not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=None if faults is None else _pairs_hook(path, faults))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {error}") from error


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


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a file so that `path` holds all of `data` or what it held before.

    Args:
        path: target; a link is followed, the permissions of an existing file are kept.
        data: bytes, or text to be written as UTF-8.

    Raises:
        RunError: it could not be written; no temporary file is left.
    """
    # A file name that is not UTF-8 reaches text as lone surrogates; escaped, the output stays valid UTF-8.
    content = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    try:
        _write(Path(os.path.realpath(path)), content)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


def _write(target: Path, content: bytes) -> None:
    if target.exists() and not target.is_file():
        # /dev/stdout or a pipe cannot be replaced, and a folder gives the right error here.
        target.write_bytes(content)
        return
    temporary = temporary_sibling(target)
    try:
        with temporary.open("xb") as file:
            file.write(content)
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
    """Let the name of a new file survive a loss of power, where the system can."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def is_folder(path: Path) -> bool:
    """Whether there is a folder of this name; a name that cannot be asked for is none."""
    try:
        return path.is_dir()
    except OSError:  # too long, or in a folder that may not be read
        return False


@contextmanager
def whole_folder(path: Path, *, marker: str = "manifest.json") -> Iterator[Path]:
    """Yield an empty temporary folder beside `path` that takes its place when the block ends well.

    Args:
        path: target. An existing folder is replaced, after the new one is complete, only when it is empty
            or of the same kind; so a mistyped `--output` never deletes somebody's files.
        marker: name of a file that every folder of this kind holds.

    Raises:
        UsageError: `path` exists and is something else.
        RunError: a file or folder could not be written; what was there before stays.
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
    """Return a name that is free, in the folder of `target`."""
    # Not derived from the target's name, which may already have the longest length a file system takes.
    return target.parent / f".tsm-{uuid.uuid4().hex}.tmp"


Faults = list[str] | None
"""Collects the messages of faulty entries, which are left out; None: the first one is raised."""


@contextmanager
def noting(faults: Faults) -> Iterator[None]:
    """Note a UsageError of the block, which ends there; without a list it passes.

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
