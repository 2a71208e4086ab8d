"""What a GPU's NVDEC decodes, and how many engines it has, as its driver reports it."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_LIBRARY = "nvcuvid.dll" if sys.platform == "win32" else "libnvcuvid.so.1"
_CODECS = {"h264": 4, "av1": 11}
"""cudaVideoCodec of cuviddec.h, by FFmpeg's name."""
_CHROMA_420 = 1
"""cudaVideoChromaFormat_420."""


class _Capabilities(ctypes.Structure):
    """CUVIDDECODECAPS of cuviddec.h; the part behind `num_engines` is only given room."""

    _fields_ = (
        ("codec", ctypes.c_int),
        ("chroma_format", ctypes.c_int),
        ("bit_depth_minus_8", ctypes.c_uint),
        ("reserved", ctypes.c_uint * 3),
        ("is_supported", ctypes.c_ubyte),
        ("num_engines", ctypes.c_ubyte),
        ("others", ctypes.c_ubyte * 94),
    )


def num_engines(library: Any = None) -> int | None:
    """Return how many engines decode H.264 on the GPU whose context is current; None: it is not reported.

    Args:
        library: NVDEC's, for tests.
    """
    found = _capabilities("h264", library)
    return (found.num_engines or None) if found is not None and found.is_supported else None


def decodes(codec: str, library: Any = None) -> bool:
    """Return whether the GPU whose context is current decodes a coding in 4:2:0 of 8 bits."""
    found = _capabilities(codec, library)
    return found is not None and bool(found.is_supported)


def _capabilities(codec: str, library: Any) -> _Capabilities | None:
    capabilities = _Capabilities(codec=_CODECS[codec], chroma_format=_CHROMA_420)
    try:
        failed = (library or ctypes.CDLL(_LIBRARY)).cuvidGetDecoderCaps(ctypes.byref(capabilities))
    except (OSError, AttributeError):  # no such library, or one of long ago
        return None
    return None if failed else capabilities
