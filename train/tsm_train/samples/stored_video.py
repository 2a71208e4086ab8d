"""A file of the frame store: pictures, then a footer that says where they are."""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from tsm_runtime.audio.spec import SoundSpec
from tsm_runtime.clips.spec import frame_indices
from tsm_runtime.errors import RunError
from tsm_runtime.video.crop import Crop

MAGIC = b"TSMFRAM2"
"""Its last digit is the version of the format."""
LENGTH = struct.Struct("<Q")
_TAIL_BYTES = LENGTH.size + len(MAGIC)
Pictures = npt.NDArray[np.uint8]


class StoredHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
        cuts: times at which the clock of the video begins again; no clip crosses one.
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
            raise RunError(f"{self.path}: stored frames cannot be read ({first_line(error)})") from error
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


def read_footer(
    stream: BinaryIO,
) -> tuple[StoredHeader, npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Read header, offsets and times; ValueError where the end is not that of such a file."""
    total = stream.seek(0, os.SEEK_END)
    if total < _TAIL_BYTES:
        raise ValueError("too short")
    tail = _part(stream, total - _TAIL_BYTES, _TAIL_BYTES)
    if tail[LENGTH.size :] != MAGIC:
        raise ValueError("another version")
    text_bytes = LENGTH.unpack(tail[: LENGTH.size])[0]
    text_start = total - _TAIL_BYTES - text_bytes
    header = msgspec.json.decode(_part(stream, text_start, text_bytes), type=StoredHeader)
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


def first_line(error: Exception) -> str:
    """Return the first line of an error, or its kind."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
