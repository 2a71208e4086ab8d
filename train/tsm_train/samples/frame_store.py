"""Frames of a video decoded once, small, on disk: training then reads pictures instead of decoding.

One file per video: the pictures one after another, then a footer. Whatever reads it starts at the end:

    pictures | offsets (F+1) int64 | times (F+1) float64 | header, JSON | its length, uint64 | MAGIC
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
from PIL import Image

from tsm_runtime.audio.sound_reader import PixelsOfSound, SoundReader
from tsm_runtime.audio.spec import SoundSpec
from tsm_runtime.clips.joined import open_reader
from tsm_runtime.errors import RunError, VideoError
from tsm_runtime.video.clock import TimedFrame
from tsm_runtime.video.convert import RESIZE_FLAG, FrameConverter
from tsm_runtime.video.crop import Crop
from tsm_runtime.video.reader import VideoReader
from tsm_train.config import Config
from tsm_train.samples.stored_video import (
    LENGTH,
    MAGIC,
    Pictures,
    StoredHeader,
    StoredVideo,
    read_footer,
)
from tsm_train.sections.training import StoreConfig

_log = logging.getLogger("tsm_runtime")


PART = ".part"
"""Ending of a file that is being written, or was when its program was killed."""


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
                header, offsets, times = read_footer(stream)
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

    def _header(self, video: Path, crop: Crop, rate: float | None) -> StoredHeader:
        try:
            status = video.stat()
        except OSError as error:
            raise VideoError(f"{video}: {error.strerror}") from error
        return StoredHeader(
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

    def _write(self, stream: BinaryIO, video: Path, header: StoredHeader) -> None:
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
        stream.write(text + LENGTH.pack(len(text)) + MAGIC)


def _pictures(
    reader: VideoReader | SoundReader, convert: FrameConverter | PixelsOfSound
) -> Iterator[tuple[TimedFrame, Pictures]]:
    for timed in reader.frames():
        try:
            picture = np.ascontiguousarray(convert(timed.frame))
        except VideoError as error:
            raise VideoError(f"{reader.path}: {error}") from error
        yield timed, picture
