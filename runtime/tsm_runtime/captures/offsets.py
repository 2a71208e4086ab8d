"""Offsets of the videos of a capture on its time line, read from files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tsm_runtime.errors import UsageError
from tsm_runtime.files import read_text
from tsm_runtime.formats.csv_table import csv_rows, without_apostrophe
from tsm_runtime.strict import convert, read_toml_or_json
from tsm_runtime.video.finding import EGOCENTRIC, VIEWS

Offsets = Mapping[str, float | None]
"""Second of the capture's time line at which `<view>/<capture>` or `<view>/<capture>/<clip>` begins; None:
not known yet."""


class _File(msgspec.Struct):
    """Offsets in a split file; other entries are ignored."""

    offsets: dict[str, float | None]


_COLUMNS = ("video", "offset_seconds")


def read_offsets(path: Path) -> dict[str, float | None]:
    """Read the offsets of a split file (JSON or TOML), or of a CSV `video,offset_seconds`.

    Raises:
        UsageError: names file and entry.
    """
    offsets = _read_csv(path) if path.suffix.lower() == ".csv" else _read_split(path)
    for name in offsets:
        view, *rest = name.split("/")
        if view not in VIEWS or len(rest) != (2 if view in EGOCENTRIC else 1) or not all(rest):
            raise UsageError(
                f"{path}: offset of {name!r}: expected binocular/<capture>/<clip> or third_person/<capture>"
            )
    return offsets


def _read_split(path: Path) -> dict[str, float | None]:
    content = read_toml_or_json(path)
    if not isinstance(content, dict) or "offsets" not in content:
        raise UsageError(
            f'{path}: no "offsets"; expected a split file with "offsets": {{"binocular/ID/clip1": 12.4}},'
            f" or a .csv of {','.join(_COLUMNS)}"
        )
    offsets = convert(content, _File, str(path)).offsets
    check_offsets(offsets, str(path))
    return offsets


def check_offsets(offsets: Offsets, where: str) -> None:
    """Check that offsets are numbers.

    Raises:
        UsageError: names the entry; `where` begins the message.
    """
    for name, seconds in offsets.items():
        if seconds is not None and not math.isfinite(seconds):
            raise UsageError(f"{where}: offset of {name!r} is {seconds}; expected seconds, or null")


def _read_csv(path: Path) -> dict[str, float | None]:
    offsets: dict[str, float | None] = {}
    for where, cells in csv_rows(path, read_text(path), _COLUMNS):
        name, text = without_apostrophe(cells["video"]).strip(), cells["offset_seconds"].strip()
        try:
            seconds = float(text) if text else None
        except ValueError:
            raise UsageError(f"{where}: offset_seconds {text!r} is no number") from None
        if name in offsets:
            raise UsageError(f"{where}: video {name!r} is there already")
        check_offsets({name: seconds}, where)
        offsets[name] = seconds
    return offsets


def find_offset(
    name: str, view: str, offsets: Offsets, otherwise: float | None, *, is_only: bool
) -> float | None:
    """Return the offset of a video in seconds, or None if it is unknown.

    Args:
        name: name of the video, as in `Offsets`.
        view: view of the video; clips of glasses have no default offset.
        offsets: known offsets, which take precedence.
        otherwise: offset of all videos of the view or of the member.
        is_only: the video is the only one of its view in its capture; several cannot begin together.
    """
    seconds = offsets.get(name)
    if seconds is None and is_only:
        seconds = otherwise
    return 0.0 if seconds is None and view not in EGOCENTRIC else seconds
