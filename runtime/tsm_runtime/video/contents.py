"""What a file holds that is no readable video, for messages."""

from __future__ import annotations

from pathlib import Path

from tsm_runtime.signatures import describe_start

_HEAD_BYTES = 4096
_MP4_BOXES = (b"ftyp", b"mdat", b"moov", b"free", b"skip", b"wide", b"pnot")


def describe_contents(path: Path) -> str | None:
    """Return what a file is, with the next step; None where it is nothing known."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return None
    if what := describe_start(head):
        return what
    if head and not head.strip(b"\0"):
        return "it begins with zeros; the download or copy is incomplete"
    if head[4:8] in _MP4_BOXES and not has_index(path):
        return "an MP4 without its index (moov); the recording or download is incomplete"
    return None


def has_index(path: Path) -> bool:
    """Return whether the boxes of an MP4 file, as far as they go, include the index."""
    size = path.stat().st_size
    position = 0
    with path.open("rb") as file:
        while position + 8 <= size:
            file.seek(position)
            header = file.read(16)
            length, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if kind in (b"moov", b"moof"):
                return True
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            if length < 8:  # 0: to the end of the file; less is damage
                return False
            position += length
    return False
