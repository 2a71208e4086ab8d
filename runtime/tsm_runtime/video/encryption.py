"""Detection of encrypted video, which a decoder turns into noise or drops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

ENCRYPTED = "its pictures are encrypted; decrypt the file with its key first"

_ENCRYPTED_TAGS = frozenset({"drmi", "drmt", "encv"})
"""Sample entries of MP4 for encrypted video."""

_WINDOWS_DRM = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),  # content encryption
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),  # extended content encryption
)
"""Objects in the header of an ASF file, as bytes of their GUIDs."""

_CHUNK_BYTES = 188 * 1024
_PACKET_BYTES = 188


def is_encrypted(packet: Packet[Any]) -> bool:
    """Return whether the container marks a packet as encrypted and holds no key for it (CENC, DRM)."""
    return packet.has_sidedata("encryption_info")


def is_encrypted_stream(stream: VideoStream) -> bool:
    """Return whether the header marks the whole stream as encrypted."""
    tag = stream.codec_context.codec_tag
    return tag in _ENCRYPTED_TAGS or "enc_key_id" in {name.lower() for name in stream.metadata}


def is_scrambled_file(path: Path, container: InputContainer, stream: VideoStream) -> bool:
    """Return whether a file marks its video as scrambled (pay television, DVD, Windows Media DRM).

    The start, the middle and the end of the file are examined.
    """
    kind = container.format.name
    if kind not in ("mpegts", "mpeg", "asf"):
        return False
    size = path.stat().st_size
    with path.open("rb") as file:
        for place in (0, size // 2, max(0, size - _CHUNK_BYTES)):
            file.seek(place)
            chunk = file.read(_CHUNK_BYTES)
            if kind == "asf":
                return any(mark in chunk for mark in _WINDOWS_DRM)
            if _is_scrambled_ts(chunk, stream.id) if kind == "mpegts" else _is_scrambled_ps(chunk):
                return True
    return False


def _is_scrambled_ts(chunk: bytes, pid: int) -> bool:
    """Return whether packets of a PID have their transport_scrambling_control set."""
    first = next(
        (at for at in range(_PACKET_BYTES) if chunk[at : at + 4 * _PACKET_BYTES : _PACKET_BYTES] == b"GGGG"),
        0,
    )
    headers = (chunk[at : at + 4] for at in range(first, len(chunk) - 3, _PACKET_BYTES))
    return any(h[0] == 0x47 and ((h[1] & 0x1F) << 8 | h[2]) == pid and h[3] & 0x80 for h in headers)


def _is_scrambled_ps(chunk: bytes) -> bool:
    """Return whether a video packet of a program stream has its PES_scrambling_control set."""
    at = chunk.find(b"\0\0\1\xe0")
    while 0 <= at < len(chunk) - 6:
        if chunk[at + 6] & 0xC0 == 0x80 and chunk[at + 6] & 0x30:
            return True
        at = chunk.find(b"\0\0\1\xe0", at + 6)
    return False
