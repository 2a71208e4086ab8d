"""The streams that a user names: NAME=SOURCE, or a list in TOML."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from tsm_runtime.errors import UsageError


class _StreamList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    streams: dict[str, str]


def split_name(text: str) -> tuple[str, str]:
    """Return name and source of `NAME=SOURCE`; the name is empty without one, or for a file called so.

    >>> split_name("cam1=rtsp://host/a?x=1"), split_name("rtsp://host/a?x=1")
    (('cam1', 'rtsp://host/a?x=1'), ('', 'rtsp://host/a?x=1'))
    """
    found = re.fullmatch(r"([\w.-]+)=(.+)", text)
    if found is None or Path(text).exists():
        return "", text
    return found[1], found[2]


def read_streams(path: Path) -> dict[str, str]:
    """Read sources by name from a TOML file with a table `[streams]`.

    Raises:
        UsageError: the file cannot be read, or is no such list.
    """
    try:
        streams = msgspec.toml.decode(path.read_bytes(), type=_StreamList).streams
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f'{path}: {error}; expected [streams] and lines as cam1 = "rtsp://..."') from error
    for name in streams:
        if not re.fullmatch(r"[\w.-]+", name):
            raise UsageError(f"{path}: stream {name!r}: expected a name of letters, digits, '.', '-' and '_'")
    return streams
