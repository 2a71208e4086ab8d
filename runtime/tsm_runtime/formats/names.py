"""The formats by name and by suffix. Imports nothing heavy, as the command line loads this module."""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal, get_args

from tsm_runtime.errors import UsageError

Format = Literal[
    "json",
    "csv",
    "jsonl",
    "vtt",
    "srt",
    "eaf",
    "via",
    "audacity",
    "kaggle",
    "parquet",
    "boris",
    "label-studio",
    "frame-labels",
    "one-hot",
    "edl",
    "fcpxml",
    "otio",
    "chapters",
]
"""Formats that are written."""

FORMAT_NAMES: tuple[Format, ...] = get_args(Format)

ToolFormat = Literal[
    "boris",
    "boris-table",
    "label-studio",
    "cvat",
    "via2",
    "frame-labels",
    "one-hot",
    "thumos",
    "epic",
    "columns",
]
"""Formats of other tools that are read as `ToolFile`."""

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
    "boris": ".boris",
    "label-studio": ".json",
    "frame-labels": ".txt",
    "one-hot": ".csv",
    "edl": ".edl",
    "fcpxml": ".fcpxml",
    "otio": ".otio",
    "chapters": ".txt",
}
"""Suffix of files that are written into a folder, by format."""

PER_VIDEO: frozenset[Format] = frozenset(
    {"vtt", "srt", "eaf", "audacity", "frame-labels", "one-hot", "chapters"}
)
"""Formats whose file belongs to one video: several videos need a folder."""

IN_FRAMES: frozenset[Format] = frozenset({"label-studio", "frame-labels", "one-hot", "edl", "fcpxml", "otio"})
"""Formats whose times are numbers of frames, or depend on the frame rate."""

_BY_SUFFIX: dict[str, Format] = {
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".vtt": "vtt",
    ".srt": "srt",
    ".eaf": "eaf",
    ".txt": "audacity",
    ".parquet": "parquet",
    ".boris": "boris",
    ".edl": "edl",
    ".fcpxml": "fcpxml",
    ".otio": "otio",
}


_ONLY_READ = frozenset({".gz", ".tsv"})


def format_of(name: str) -> Format | None:
    """Return the format of a file name by its suffix, or None.

    Formats that share a suffix with a more frequent one, such as VIA with the plain JSON, must be named.
    """
    name = name.lower().removesuffix(".gz")
    return _BY_SUFFIX.get(PurePath(name).suffix)


def known_format_of(name: str) -> Format | None:
    """Return the format of an output's suffix; None for a name without suffix.

    Raises:
        UsageError: the suffix belongs to no format.
    """
    suffix = PurePath(name).suffix
    format_ = None if suffix.lower() in _ONLY_READ else format_of(name)
    if format_ is None and suffix:
        known = " ".join(each for each in _BY_SUFFIX if each not in _ONLY_READ)
        raise UsageError(
            f"--output {name}: no format has the suffix {suffix}; known: {known}; or give --format"
        )
    return format_
