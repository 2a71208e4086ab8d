"""Opening of video files: single-file formats only, playlists where they are allowed."""

from __future__ import annotations

from io import FileIO
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from tsm_runtime.errors import VideoError

FILE_FORMATS = (
    *("3gp", "apng", "asf", "av1", "avi", "cavsvideo", "dhav", "dirac", "dnxhd", "dv", "flv", "gif", "gxf"),
    *("h261", "h263", "h264", "hevc", "ivf", "live_flv", "m4v", "matroska", "mjpeg", "mov", "mpeg", "mpegts"),
    *("mpegtsraw", "mpegvideo", "mpjpeg", "mxf", "nut", "obu", "ogg", "rm", "swf", "vc1", "vvc", "webm"),
    *("wtv", "yuv4mpegpipe"),
)
"""FFmpeg's demuxers that read a single file; the content of a file cannot make them open another."""

SOUND_FORMATS = (
    *("aac", "ac3", "aiff", "amr", "au", "caf", "eac3", "flac", "mp3", "tta", "w64", "wav", "wv"),
    *FILE_FORMATS,
)
"""Demuxers of video files and of audio-only files."""

_PLAYLISTS = ("hls", "concat")
"""Demuxers of files that reference other files."""

_PLAYLIST_STARTS = (b"#EXTM3U", b"ffconcat version")
_PLAYLIST_STARTS_AFTER_BLANKS = (b"<?xml", b"<MPD", b"<smil", b"v=0", b"[playlist]", b"file ")

_PROTOCOLS = "file,crypto,data"


def open_file(
    path: Path,
    accelerator: HWAccel | None = None,
    *,
    allow_playlists: bool = False,
    formats: tuple[str, ...] = FILE_FORMATS,
) -> InputContainer:
    """Open a video file.

    Args:
        path: the file.
        accelerator: hardware decoder on a GPU.
        allow_playlists: also open a playlist (HLS, FFmpeg's concat list), whose files must lie in its own
            folder or below.
        formats: allowed demuxers of FFmpeg.

    Raises:
        VideoError: a playlist is not allowed, or names a file outside of its folder.
        av.error.FFmpegError, OSError: the file is not readable as a video.
    """
    try:
        return _av_open(path, formats, accelerator)
    except av.error.FFmpegError as error:
        if not _is_playlist(path):
            raise
        if not allow_playlists:
            raise VideoError(
                f"{path}: a playlist, which names other files; allow those in its own folder with"
                " --allow-playlists"
            ) from error
    folder = path.absolute().parent.resolve()
    return _av_open(path, (*FILE_FORMATS, *_PLAYLISTS), accelerator, io_open=_BelowFolder(path, folder))


def whitelists(formats: tuple[str, ...] = FILE_FORMATS, protocols: str = _PROTOCOLS) -> dict[str, str]:
    """Return the options that restrict FFmpeg to these demuxers and protocols."""
    return {"protocol_whitelist": protocols, "format_whitelist": ",".join(formats)}


def _av_open(
    path: Path, formats: tuple[str, ...], accelerator: HWAccel | None, io_open: _BelowFolder | None = None
) -> InputContainer:
    return av.open(
        str(path.absolute()),  # absolute: a colon or leading dash in a name is no protocol or option
        options=whitelists(formats),
        metadata_errors="ignore",
        hwaccel=accelerator,
        io_open=io_open,
    )


def _is_playlist(path: Path) -> bool:
    """Return whether a file starts like a playlist."""
    with path.open("rb") as file:
        start = file.read(512).removeprefix(b"\xef\xbb\xbf")
    return start.startswith(_PLAYLIST_STARTS) or start.lstrip().startswith(_PLAYLIST_STARTS_AFTER_BLANKS)


class _BelowFolder:
    """Opens the files of a playlist, if they lie in its folder or below.

    Concat lists do not use this class: FFmpeg itself refuses absolute names and ".." in them.
    """

    def __init__(self, playlist: Path, folder: Path) -> None:
        self._playlist = playlist
        self._folder = folder

    def __call__(self, url: str, flags: int, options: dict[str, str]) -> _ClosingFile:
        target = Path(url.removeprefix("file:"))
        if not target.resolve().is_relative_to(self._folder):
            raise VideoError(f"{self._playlist}: names {url}, which lies outside of the playlist's folder")
        return _ClosingFile(target)


class _ClosingFile(FileIO):
    """File that closes when it is no longer used; PyAV leaves files of this kind open."""

    def __del__(self) -> None:
        self.close()


def reason_of(error: Exception) -> str:
    """Return the message of an error of FFmpeg or the system, without the file name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
