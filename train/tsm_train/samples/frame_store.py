"""Frames of a video decoded once, small, on disk: training then reads pictures instead of decoding.

One file per video: the pictures one after another, then a footer. Whatever reads it starts at the end:

    pictures | offsets (F+1) int64 | times (F+1) float64 | header, JSON | its length, uint64 | MAGIC
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import struct
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from tsm_runtime.audio.sound_reader import PixelsOfSound, SoundReader
from tsm_runtime.audio.spec import SoundSpec
from tsm_runtime.clips.joined import open_reader
from tsm_runtime.clips.spec import frame_indices
from tsm_runtime.errors import RunError, VideoError
from tsm_runtime.video.clock import TimedFrame
from tsm_runtime.video.convert import RESIZE_FLAG, FrameConverter
from tsm_runtime.video.crop import Crop
from tsm_runtime.video.reader import VideoReader
from tsm_train.config import Config
from tsm_train.sections.training import StoreConfig

_log = logging.getLogger("tsm_runtime")

MAGIC = b"TSMFRAM2"
"""Its last digit is the version of the format."""

PART = ".part"
"""Ending of a file that is being written, or was when its program was killed."""

_LENGTH = struct.Struct("<Q")
_TAIL_BYTES = _LENGTH.size + len(MAGIC)

Pictures = npt.NDArray[np.uint8]


def stored_size(config: Config) -> int:
    """Return the edge at which frames are stored: by default an eighth more than the model's, for crops."""
    return config.store.size or config.clip.size + config.clip.size // 8


def encode_picture(picture: Pictures, settings: StoreConfig) -> bytes:
    """Bytes of a (size, size, 3) uint8 picture as the store holds it."""
    if settings.format == "raw":
        return picture.tobytes()
    buffer = io.BytesIO()
    # Colours at half the resolution, as the videos themselves have them.
    Image.fromarray(picture).save(buffer, "JPEG", quality=settings.quality, subsampling="4:2:0")
    return buffer.getvalue()


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the pictures were made of and how; any difference makes the file another one."""

    video: str
    video_bytes: int
    video_mtime_ns: int
    size: int
    crop: Crop
    sound: SoundSpec | None = None
    format: str
    quality: int
    resize: str
    rate: float | None = None
    num_frames: int = 0
    cuts: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredVideo:
    """All frames of a video at native rate, read from disk on demand.

    It holds no open file, so that any number of videos and of loading processes is possible.

    Args:
        path: the store's file.
        shape: of a picture: rows, columns, channels.
        is_jpeg: else they are raw.
        offsets: (F+1,) int64, where each picture begins in the file, and where the last ends.
        times: (F,) float64 presentation times in seconds.
        duration_seconds: last time + duration of the last frame.
        cuts: times at which the clock of the video begins anew; no clip crosses one.
    """

    path: Path
    shape: tuple[int, int, int]
    is_jpeg: bool
    offsets: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    duration_seconds: float
    cuts: tuple[float, ...] = ()

    def piece_at(self, seconds: float) -> tuple[float, float]:
        """Return start and end of the piece between cuts that a time is in."""
        start = max((cut for cut in self.cuts if cut <= seconds), default=0.0)
        end = min((cut for cut in self.cuts if cut > seconds), default=self.duration_seconds)
        return start, end

    def frames_at(self, moments: npt.NDArray[np.float64], seconds: float) -> npt.NDArray[np.int64]:
        """Return the frames on screen at some times, clamped to the piece that `seconds` is in."""
        start, end = self.piece_at(seconds)
        first, stop = np.searchsorted(self.times, (start, end))
        found: npt.NDArray[np.int64] = first + frame_indices(self.times[first:stop], moments)
        return found

    def read(self, indices: npt.NDArray[np.int64]) -> Pictures:
        """Return the pictures of frames, (len(indices), *shape) uint8; each is read once.

        Raises:
            RunError: the file is gone or damaged.
        """
        unique, places = np.unique(indices, return_inverse=True)
        try:
            with self.path.open("rb", buffering=0) as stream:
                pictures = [self._picture(stream, int(index)) for index in unique]
        except (OSError, SyntaxError, ValueError) as error:
            raise RunError(f"{self.path}: stored frames cannot be read ({_first_line(error)})") from error
        return np.stack(pictures)[places]

    def _picture(self, stream: BinaryIO, index: int) -> Pictures:
        start, end = int(self.offsets[index]), int(self.offsets[index + 1])
        data = bytearray(os.pread(stream.fileno(), end - start, start))
        if len(data) != end - start:
            raise ValueError("the file is shorter than it was")
        if not self.is_jpeg:
            return np.frombuffer(data, np.uint8).reshape(self.shape)
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            picture: Pictures = np.asarray(image)
        if picture.shape != self.shape:
            raise ValueError(f"a picture of {picture.shape}")
        return picture


class FrameStore:
    """The folder with the stored frames of all videos.

    Args:
        folder: made when it does not exist.
        size: edge of the stored pictures in pixels.
        settings: how they are stored.
        sound: of models of sound alone: how its pictures are made, which are stored raw; None: pictures of
            the videos.
    """

    def __init__(
        self, folder: Path, size: int, settings: StoreConfig, sound: SoundSpec | None = None
    ) -> None:
        self.cancelled = threading.Event()
        """Set it to end what other threads are decoding."""
        self.folder = folder
        self.size = size
        self.sound = sound
        self.shape = (size, size, 3) if sound is None else sound.picture_shape
        self.settings = settings if sound is None else StoreConfig()

    @classmethod
    def of(cls, config: Config) -> FrameStore:
        """Return the store of a run; without `data.cache` it is `tsm-tal` in the user's cache folder."""
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tsm-tal"
        folder = Path(config.data.cache) if config.data.cache else folder
        return cls(folder, stored_size(config), config.store, config.sound_alone)

    def path_of(self, video: Path, crop: Crop = "") -> Path:
        """Where the frames of a video lie: the same for a changed video, so that it replaces its old ones."""
        if self.sound is not None:
            how = f"sound-{hashlib.sha256(msgspec.json.encode(self.sound)).hexdigest()[:12]}"
        else:
            how = f"{self.size}-{self.settings.format}{self.settings.quality if self._is_jpeg else ''}"
        key = hashlib.sha256(os.fsencode(video.resolve())).hexdigest()[:12]
        stem = os.fsencode(video.stem)[:80].decode(errors="ignore")  # a name may have 255 bytes
        return self.folder / f"{stem}-{key}-{crop or 'all'}-{how}.frames"

    def open(self, video: Path, crop: Crop = "", rate: float | None = None) -> StoredVideo | None:
        """Open the stored frames of a video.

        Returns:
            None where there are none, or not of this video as it is now, or of another version or kind.

        Raises:
            VideoError: there is no such video.
        """
        expected = self._header(video, crop, rate)
        path = self.path_of(video, crop)
        try:
            with path.open("rb") as stream:
                header, offsets, times = _read_footer(stream)
        except (OSError, ValueError, msgspec.MsgspecError):
            return None
        if msgspec.structs.replace(header, num_frames=0, cuts=()) != expected:
            return None
        return StoredVideo(
            path, self.shape, self._is_jpeg, offsets, times[:-1], float(times[-1]), header.cuts
        )

    def add(self, video: Path, crop: Crop = "", rate: float | None = None) -> StoredVideo:
        """Decode a video and store its frames; whole or not at all.

        Raises:
            VideoError: the video cannot be read or has no frame.
            RunError: the frames cannot be written.
        """
        header, target = self._header(video, crop, rate), self.path_of(video, crop)
        temporary = self.folder / f".{uuid.uuid4().hex}{PART}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as stream:
                self._write(stream, video, header)
            temporary.replace(target)
        except OSError as error:
            raise RunError(f"{target}: cannot store decoded frames ({error.strerror or error})") from error
        finally:
            with suppress(OSError):
                temporary.unlink()
        stored = self.open(video, crop, rate)
        if stored is None:
            raise VideoError(f"{video}: changed while it was decoded; start again")
        return stored

    def converter(self, crop: Crop) -> FrameConverter | PixelsOfSound:
        """Return what turns a frame into the picture that is stored."""
        return FrameConverter(self.size, crop) if self.sound is None else PixelsOfSound(self.size)

    @property
    def _is_jpeg(self) -> bool:
        return self.settings.format == "jpeg"

    def _header(self, video: Path, crop: Crop, rate: float | None) -> _Header:
        try:
            status = video.stat()
        except OSError as error:
            raise VideoError(f"{video}: {error.strerror}") from error
        return _Header(
            video=os.fsencode(video.resolve()).decode(errors="backslashreplace"),
            video_bytes=status.st_size,
            video_mtime_ns=status.st_mtime_ns,
            size=self.size if self.sound is None else 0,
            crop=crop,
            sound=self.sound,
            format=self.settings.format,
            quality=self.settings.quality if self._is_jpeg else 0,
            resize=RESIZE_FLAG,
            rate=rate,
        )

    def _write(self, stream: BinaryIO, video: Path, header: _Header) -> None:
        offsets, times, end, cuts = [0], [], 0.0, []
        with open_reader(video, self.sound, rate=header.rate) as reader:
            for timed, picture in _pictures(reader, self.converter(header.crop)):
                offsets.append(offsets[-1] + stream.write(encode_picture(picture, self.settings)))
                times.append(timed.start_seconds)
                end = timed.end_seconds
                if timed.discontinuity:
                    cuts.append(timed.start_seconds)
                if self.cancelled.is_set():
                    raise RunError(f"{video}: decoding was stopped")
        if not times:
            raise VideoError(f"{video}: no frame of the {reader.stream_kind} stream could be decoded")
        if reader.failure:
            _log.warning(f"{video}: breaks off after {end:.2f} s ({reader.failure}); training uses that part")
        if assumed := reader.assumed_rate:
            _log.warning(
                f"{video}: states no times: assumed at {assumed:g} frames per second;"
                " data.rate states another"
            )
        if cuts:
            _log.warning(f"{video}: its clock restarts at {cuts[0]:.2f} s: no training clip crosses that")
        text = msgspec.json.encode(msgspec.structs.replace(header, num_frames=len(times), cuts=tuple(cuts)))
        stream.write(np.array(offsets, "<i8").tobytes() + np.array([*times, end], "<f8").tobytes())
        stream.write(text + _LENGTH.pack(len(text)) + MAGIC)


def _pictures(
    reader: VideoReader | SoundReader, convert: FrameConverter | PixelsOfSound
) -> Iterator[tuple[TimedFrame, Pictures]]:
    for timed in reader.frames():
        try:
            picture = np.ascontiguousarray(convert(timed.frame))
        except VideoError as error:
            raise VideoError(f"{reader.path}: {error}") from error
        yield timed, picture


def _read_footer(
    stream: BinaryIO,
) -> tuple[_Header, npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Read header, offsets and times; ValueError where the end is not that of such a file."""
    total = stream.seek(0, os.SEEK_END)
    if total < _TAIL_BYTES:
        raise ValueError("too short")
    tail = _part(stream, total - _TAIL_BYTES, _TAIL_BYTES)
    if tail[_LENGTH.size :] != MAGIC:
        raise ValueError("another version")
    text_bytes = _LENGTH.unpack(tail[: _LENGTH.size])[0]
    text_start = total - _TAIL_BYTES - text_bytes
    header = msgspec.json.decode(_part(stream, text_start, text_bytes), type=_Header)
    count = header.num_frames + 1
    times = np.frombuffer(_part(stream, text_start - 8 * count, 8 * count), "<f8")
    offsets = np.frombuffer(_part(stream, text_start - 16 * count, 8 * count), "<i8")
    if offsets[-1] != text_start - 16 * count:
        raise ValueError("pictures are missing")
    return header, offsets.astype(np.int64), times.astype(np.float64)


def _part(stream: BinaryIO, start: int, length: int) -> bytes:
    if start < 0 or length < 0:
        raise ValueError("damaged")
    stream.seek(start)
    data = stream.read(length)
    if len(data) != length:
        raise ValueError("damaged")
    return data


def _first_line(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
