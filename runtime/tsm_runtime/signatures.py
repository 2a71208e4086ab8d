"""Kinds of file that come in place of videos and annotations, recognised by their first bytes."""

from __future__ import annotations

_STARTS = (
    (b"version https://git-lfs", "a Git LFS pointer in place of the file; fetch it with: git lfs pull"),
    (b"/annex/objects/", "a git-annex pointer in place of the file; fetch it with: git annex get"),
    (b"\xff\xfe", "text in UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16; save it as UTF-8"),
    (b"\x1f\x8b", "compressed by gzip; unpack it first"),
    (b"PK\x03\x04", "a ZIP archive or a workbook; unpack it, or save the workbook's sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Office document; save a workbook's sheet as CSV"),
    (b"Rar!\x1a", "a RAR archive; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (b"\xff\xd8\xff", "a still picture (JPEG)"),
    (b"\x89PNG\r\n", "a still picture (PNG)"),
    (b"%PDF", "a PDF document"),
    (b"ID3", "sound without pictures (MP3); give the video that it belongs to"),
    (b"fLaC", "sound without pictures (FLAC); give the video that it belongs to"),
)
_WEB_PAGES = (b"<!doctype html", b"<html")
_BLANKS = b"\xef\xbb\xbf \t\r\n"


def describe_start(head: bytes) -> str | None:
    """Return what begins with some bytes, and the next step; None where it is nothing known.

    >>> describe_start(b"%PDF-1.7")
    'a PDF document'
    """
    for start, what in _STARTS:
        if head.startswith(start):
            return what
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return "sound without pictures (WAV); give the video that it belongs to"
    if head.lstrip(_BLANKS).lower().startswith(_WEB_PAGES):
        return "a web page; the download gave an error page or asks for a login"
    return None
