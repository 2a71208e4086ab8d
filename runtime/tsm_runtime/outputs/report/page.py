"""A report as one HTML page that needs no network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from tsm_runtime.errors import UsageError
from tsm_runtime.files import write_whole
from tsm_runtime.outputs.report.content import Report, VideoReport
from tsm_runtime.outputs.report.page_data import drawn_seconds, page_data
from tsm_runtime.outputs.report.thumbnails import thumbnail
from tsm_runtime.outputs.report.waveform import waveform
from tsm_runtime.video.finding import AUDIO_SUFFIXES, is_named

_SCRIPTS = (
    *("dom.js", "theme.js", "player.js", "strip.js", "timeline.js", "preview.js"),
    *(
        "filters.js",
        "table.js",
        "facts.js",
        "charts.js",
        "evaluation.js",
        "overview.js",
        "sharing.js",
        "main.js",
    ),
)
"""Scripts that are joined, in this order, into one module of the page."""

_LARGEST_EMBEDDED_BYTES = 256 * 1024 * 1024

_MEDIA_TYPES = {
    **dict.fromkeys((".mp4", ".m4v", ".mov"), "video/mp4"),
    ".webm": "video/webm",
    ".ogv": "video/ogg",
    ".mkv": "video/x-matroska",
    ".3gp": "video/3gpp",
    ".avi": "video/x-msvideo",
    ".mpg": "video/mpeg",
    ".mpeg": "video/mpeg",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".aac": "audio/aac",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
}
"""Media types by suffix; the system's own table differs between machines."""


def write_report(path: Path, report: Report, *, embed: bool = False) -> None:
    """Write a report's page, whole or not at all.

    Args:
        path: the page; addresses of videos are relative to its folder.
        report: content of the page.
        embed: put the videos into the page.

    Raises:
        UsageError: the page would replace a video, or a video to embed is too large or cannot be read.
        RunError: the page could not be written.
    """
    write_whole(path, report_page(report, path, embed=embed))


def report_page(report: Report, path: Path, *, embed: bool = False) -> str:
    """Return the HTML of a report as ASCII; see `write_report` for arguments and errors."""
    media = [_media(video.video, path, embed) for video in report.videos]
    data = page_data(report, media, _thumbnails(report), _waveforms(report))
    style = _asset("style.css")
    script = "".join(_asset(name) for name in _SCRIPTS)
    parts = {
        "POLICY": _policy(style, script, embed),
        "TITLE": _ascii(html.escape(report.title)),
        "STYLE": style,
        "DATA": _json_for_script(data),
        "SCRIPT": script,
    }
    page = _asset("page.html")
    # In one pass, since an inserted text may itself hold the name of a placeholder.
    pieces = page.split("@@")
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def _thumbnails(report: Report) -> list[str | None] | None:
    """Return a picture of each of several videos, from the middle of its first segment."""
    if len(report.videos) < 2:
        return None
    return [
        None if video.video is None else thumbnail(video.video, _moment(video)) for video in report.videos
    ]


def _waveforms(report: Report) -> list[str | None]:
    return [
        None if video.video is None else waveform(video.video, drawn_seconds(video))
        for video in report.videos
    ]


def _moment(video: VideoReport) -> float:
    if video.result.segments:
        return (video.result.segments[0].start_seconds + video.result.segments[0].end_seconds) / 2
    return video.result.duration_seconds / 2


def _asset(name: str) -> str:
    return (files("tsm_runtime.outputs.report") / "assets" / name).read_text(encoding="ascii")


def _policy(style: str, script: str, embed: bool) -> str:
    """Return the content security policy: this style, this script, media of this origin, and no network.

    For a page opened from a file, 'self' means files; `blob:` is a file that the reader selects.
    """
    media = "data: blob:" if embed else "'self' file: blob:"
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; media-src {media}; "
        "connect-src 'none'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _json_for_script(value: object) -> str:
    r"""Return JSON that an HTML script element can hold: ASCII, with `<`, `>` and `&` as \u escapes."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _ascii(text: str) -> str:
    """Return text with references for non-ASCII characters; lone surrogates, invalid in HTML, become ?."""
    readable = text.encode("utf-8", "replace").decode("utf-8")
    return readable.encode("ascii", "xmlcharrefreplace").decode("ascii")


# --- video files ----------------------------------------------------------------------------------


def _media(video: Path | None, page: Path, embed: bool) -> dict[str, str] | None:
    if video is None:
        return None
    if page.resolve() == video.resolve():
        raise UsageError(f"{page}: the report would replace the video; choose another name")
    source = _embedded(video) if embed else _address(video, page)
    kind = {"kind": "audio"} if is_named(video, AUDIO_SUFFIXES) else {}
    return {"src": source, "name": video.name, **kind}


def _address(video: Path, page: Path) -> str:
    """Return the relative URL from the page to the video; absolute if they are on different drives."""
    folder = os.path.realpath(page.parent)
    target = str(Path(os.path.realpath(video.parent)) / video.name)
    try:
        relative = os.path.relpath(target, folder)
    except ValueError:
        return Path(target).as_uri()
    # fsencode keeps the bytes of a name that is not UTF-8.
    return quote(os.fsencode(relative.replace(os.sep, "/")), safe="/")


def _embedded(video: Path) -> str:
    try:
        size = video.stat().st_size
        if size > _LARGEST_EMBEDDED_BYTES:
            limit = _LARGEST_EMBEDDED_BYTES // 2**20
            raise UsageError(
                f"{video}: {size / 2**20:.0f} MiB is too large to embed (limit {limit} MiB);"
                " leave out --embed and keep the video beside the page"
            )
        data = video.read_bytes()
    except OSError as error:
        raise UsageError(f"{video}: cannot be read: {error.strerror or error}") from error
    kind = _MEDIA_TYPES.get(video.suffix.lower(), "video/mp4")
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
