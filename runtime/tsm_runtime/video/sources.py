"""Sources of streams: network addresses, cameras, pipes, and files played as streams."""

from __future__ import annotations

import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import av

from tsm_runtime.errors import UsageError
from tsm_runtime.video.clock import TimedFrame
from tsm_runtime.video.finding import default_id
from tsm_runtime.video.opening import whitelists
from tsm_runtime.video.reader import VideoReader
from tsm_runtime.video.stream_reader import StreamSource

_RECONNECTS = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "udp", "rtp", "tcp"})
"""Schemes whose streams count as lost when they end: a dead server looks like the end of a stream."""

_ENDS = frozenset({"http", "https"})
"""Schemes whose streams can end regularly."""

_MICROPHONES = ("alsa", "pulse", "oss", "jack", "sndio", "avfoundation", "dshow")
"""FFmpeg's devices that record sound, as `alsa:hw:0`: for models of sound alone."""

_ELSEWHERE = frozenset({"srt", "rist", "zmq", "mms", "mmst"})
"""Schemes that a full FFmpeg supports, but not the build that PyAV includes."""

_NETWORK = "rtsp,rtsps,rtmp,rtmps,rtp,srtp,udp,tcp,tls,http,https,httpproxy,crypto,data,hls"
"""FFmpeg's protocols for network streams: a remote playlist must not open local files."""


class Connection(Protocol):
    """Open stream; `VideoReader` implements it for files."""

    waits: bool
    """Whether frames wait until they are read, as those of a file do, so that none needs to be dropped."""

    @property
    def failure(self) -> str | None:
        """Reason why the stream broke off; None if it ended regularly."""
        ...

    @property
    def corrupt_frames(self) -> int:
        """Number of packets and frames so far that did not decode or had a wrong time."""
        ...

    def frames(self) -> Iterator[TimedFrame]:
        """Yield frames with seconds after the first one, until the stream ends or breaks off."""
        ...

    def close(self) -> None:
        """Close the stream; further calls do nothing."""
        ...


class Source(Protocol):
    """Source of a stream.

    `name` appears in messages and files and holds no password. `video_id` names the stream in results.
    `is_live`: frames arrive in real time. `reconnects`: a lost stream may return. `end_is_loss`: a stream
    that ends counts as lost.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def video_id(self) -> str: ...  # noqa: D102
    @property
    def is_live(self) -> bool: ...  # noqa: D102
    @property
    def reconnects(self) -> bool: ...  # noqa: D102
    @property
    def end_is_loss(self) -> bool: ...  # noqa: D102

    def open(self) -> Connection:
        """Connect.

        Raises:
            VideoError: the source cannot be opened or has no video.
        """
        ...


def find_source(
    text: str, *, timeout_seconds: float = 10.0, pace: bool = False, rate: float | None = None
) -> Source:
    """Return the source for an address, a device, `-` or a file name.

    Args:
        text: `rtsp://...`, `http://...` and the like, `/dev/video0`, a microphone such as `alsa:hw:0`, `-`,
            or a file.
        timeout_seconds: a network stream without data for this long counts as lost.
        pace: play a file in real time, like a camera.
        rate: frames per second of a source without timestamps; default: arrival times for a camera, an
            assumed rate for a file.

    Raises:
        UsageError: the kind of address is unknown.
    """
    scheme = text.split("://", 1)[0].lower() if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) else ""
    if scheme in _RECONNECTS | _ENDS:
        return StreamSource(
            url=text,
            name=_without_secrets(text),
            options=_network_options(scheme),
            timeout_seconds=timeout_seconds,
            rate=rate,
            is_live=True,
            reconnects=True,
            end_is_loss=scheme in _RECONNECTS,
        )
    if microphone := re.fullmatch(f"({'|'.join(_MICROPHONES)}):(.+)", text):
        return _microphone(microphone[1], microphone[2])
    if scheme:
        known = ", ".join(sorted(_RECONNECTS | _ENDS))
        if scheme in _ELSEWHERE:
            raise UsageError(
                f"{scheme}:// is not part of the FFmpeg in PyAV's wheels ({known} are); pipe it in:"
                f" ffmpeg -i {_without_secrets(text)} -c copy -f mpegts - | tsm-live -"
            )
        raise UsageError(f"{scheme}:// is no kind of stream that tsm-live knows ({known})")
    if text == "-":
        # The file descriptor avoids the second buffer and the lock of Python's file object.
        options = whitelists(protocols="pipe,crypto,data")
        return StreamSource(url="pipe:0", name="-", options=options, rate=rate)
    if _is_device(Path(text)):
        return StreamSource(
            url=text, name=text, format="v4l2", rate=rate, is_live=True, reconnects=True, end_is_loss=True
        )
    if Path(text).is_fifo():
        return StreamSource(url=str(Path(text).absolute()), name=text, options=whitelists(), rate=rate)
    return FileSource(path=Path(text), pace=pace, rate=rate)


def _microphone(kind: str, device: str) -> StreamSource:
    if kind not in av.formats_available:
        raise UsageError(
            f"{kind}:{device}: {kind} is not part of the FFmpeg in this PyAV; pipe it in:"
            f" ffmpeg -f {kind} -i {device} -f wav - | tsm-live -"
        )
    name = f"{kind}:{device}"
    return StreamSource(url=device, name=name, format=kind, is_live=True, reconnects=True, end_is_loss=True)


def _network_options(scheme: str) -> dict[str, str]:
    options = {"protocol_whitelist": _NETWORK}
    if scheme in ("rtsp", "rtsps"):
        # Other media cost bandwidth, and their clock reports would shift the video's times.
        return {**options, "rtsp_flags": "prefer_tcp", "allowed_media_types": "video"}
    return options


def _without_secrets(url: str) -> str:
    """Return an address without user, password and query.

    >>> _without_secrets("rtsp://me:secret@camera:554/one?token=1")
    'rtsp://camera:554/one'
    """
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _is_device(path: Path) -> bool:
    try:
        return stat.S_ISCHR(path.stat().st_mode) and path.is_relative_to("/dev")
    except OSError:
        return str(path).startswith("/dev/video")  # opening it reports the error


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """File played as a stream: as fast as it is scored, or in real time."""

    path: Path
    pace: bool = False
    rate: float | None = None
    reconnects: bool = False
    end_is_loss: bool = False

    @property
    def name(self) -> str:
        """Path of the file, as given."""
        return str(self.path)

    @property
    def video_id(self) -> str:
        """Name of the video, as in the results of files."""
        return default_id(self.path)

    @property
    def is_live(self) -> bool:
        """Whether the file is played in real time."""
        return self.pace

    def open(self) -> Connection:
        """Open the file.

        Raises:
            VideoError: the file is missing, cannot be opened, or has no video stream.
        """
        reader = _PacedReader if self.pace else VideoReader
        return reader(self.path, rate=self.rate)


class _PacedReader(VideoReader):
    """Reader that yields the frames of a file in real time."""

    waits = False

    def frames(self, start_seconds: float = 0.0) -> Iterator[TimedFrame]:
        begun = time.monotonic()
        for timed in super().frames(start_seconds):
            time.sleep(max(0.0, begun + timed.start_seconds - time.monotonic()))
            yield timed
