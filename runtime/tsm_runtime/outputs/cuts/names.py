"""Names of files that every system takes: Windows, macOS and Linux, on any disk."""

from __future__ import annotations

import re
import unicodedata

_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\s\ud800-\udfff]+')
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)", re.IGNORECASE)
_MOST_BYTES = 80


def safe_name(text: str) -> str:
    """Return a part of a file name: without reserved characters and names, at most 80 bytes of UTF-8.

    >>> safe_name("hand shaking: 1/2?")
    'hand_shaking_1_2'
    """
    name = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", text)).strip("._- ")
    name = name.encode("utf-8")[:_MOST_BYTES].decode("utf-8", "ignore").rstrip("._- ")
    if not name or _DEVICES.match(name):
        name = f"_{name}"
    return name


class FileNames:
    """Gives each file a name of its own, also where case does not count."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def unique(self, stem: str, suffix: str) -> str:
        """Return `stem` and `suffix`, with a number between them if that name is taken."""
        name, number = f"{stem}{suffix}", 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem}-{number}{suffix}"
        self._taken.add(name.casefold())
        return name
