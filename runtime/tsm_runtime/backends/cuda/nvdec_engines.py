"""Number of decoders that a GPU has, as its driver reports it."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_LIBRARY = "nvcuvid.dll" if sys.platform == "win32" else "libnvcuvid.so.1"
_H264, _CHROMA_420 = 4, 1
"""cudaVideoCodec_H264 and cudaVideoChromaFormat_420 of cuviddec.h."""


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
    capabilities = _Capabilities(codec=_H264, chroma_format=_CHROMA_420)
    try:
        failed = (library or ctypes.CDLL(_LIBRARY)).cuvidGetDecoderCaps(ctypes.byref(capabilities))
    except (OSError, AttributeError):  # no such library, or one of long ago
        return None
    found = int(capabilities.num_engines)
    return None if failed or not capabilities.is_supported or not found else found
