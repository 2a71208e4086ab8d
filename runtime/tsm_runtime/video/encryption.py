"""Whether pictures are encrypted: then what a decoder makes of them is noise."""

from __future__ import annotations

from typing import Any

from av.packet import Packet

__all__ = ["ENCRYPTED", "is_encrypted"]

ENCRYPTED = "its pictures are encrypted; decrypt the file with its key first"


def is_encrypted(packet: Packet[Any]) -> bool:
    """Whether a packet's container says that it is encrypted and holds no key for it (CENC, DRM)."""
    return packet.has_sidedata("encryption_info")
