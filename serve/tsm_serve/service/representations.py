"""A result in the format that a client accepts."""

from __future__ import annotations

from collections.abc import Mapping

from tsm_runtime.formats.names import Format
from tsm_runtime.formats.read_write import encode_results
from tsm_runtime.results import Result

MEDIA_TYPES: dict[str, Format] = {
    "application/json": "json",
    "text/csv": "csv",
    "application/x-ndjson": "jsonl",
    "text/vtt": "vtt",
    "application/x-subrip": "srt",
    "application/eaf+xml": "eaf",
    "text/plain": "audacity",
}
"""Formats by media type; the first is the default."""


def choose_type(accept: str) -> str | None:
    """Return the media type with the highest quality among those that there are, or None.

    >>> choose_type("text/html, text/*;q=0.5, */*;q=0.1")
    'text/csv'
    """
    wanted = [_range(part) for part in (accept or "*/*").split(",")]
    for pattern, quality in sorted(wanted, key=lambda each: -each[1]):
        if quality <= 0:
            continue
        for media_type in MEDIA_TYPES:
            if pattern in ("*/*", media_type, f"{media_type.partition('/')[0]}/*"):
                return media_type
    return None


def _range(text: str) -> tuple[str, float]:
    pattern, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
    try:
        return pattern, float(quality)
    except ValueError:
        return pattern, 0.0


def represent(result: Result, media_type: str, about: Mapping[str, object]) -> bytes:
    """Return a file of a result; `about` are facts for the formats that hold them."""
    return encode_results([result], MEDIA_TYPES[media_type], external_data=about)
