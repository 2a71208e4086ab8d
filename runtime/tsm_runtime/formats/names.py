"""The formats by name and by suffix. Imports nothing heavy, as the command line loads this module."""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal

from tsm_runtime.errors import UsageError

Format = Literal["json", "csv", "jsonl", "vtt", "srt", "eaf", "via", "audacity", "kaggle", "parquet"]

SUFFIXES: dict[Format, str] = {
    "json": ".json",
    "csv": ".csv",
    "jsonl": ".jsonl",
    "vtt": ".vtt",
    "srt": ".srt",
    "eaf": ".eaf",
    "via": ".json",
    "audacity": ".txt",
    "kaggle": ".csv",
    "parquet": ".parquet",
}
"""Suffix of files that are written into a folder, by format."""

PER_VIDEO: frozenset[Format] = frozenset({"vtt", "srt", "eaf", "audacity"})
"""Formats whose file belongs to one video: several videos need a folder."""

_BY_SUFFIX: dict[str, Format] = {
    ".json": "json",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".vtt": "vtt",
    ".srt": "srt",
    ".eaf": "eaf",
    ".txt": "audacity",
    ".parquet": "parquet",
}


def format_of(name: str) -> Format | None:
    """Return the format of a file name by its suffix, or None.

    VIA and Kaggle files share the suffixes of the plain JSON and CSV, so these formats must be named.
    """
    name = name.lower().removesuffix(".gz")
    return _BY_SUFFIX.get(PurePath(name).suffix)


def known_format_of(name: str) -> Format | None:
    """Return the format of an output's suffix; None for a name without suffix.

    Raises:
        UsageError: the suffix belongs to no format.
    """
    suffix = PurePath(name).suffix
    format_ = None if suffix.lower() == ".gz" else format_of(name)  # gzipped files are read, not written
    if format_ is None and suffix:
        known = " ".join(_BY_SUFFIX)
        raise UsageError(
            f"--output {name}: no format has the suffix {suffix}; known: {known}; or give --format"
        )
    return format_
