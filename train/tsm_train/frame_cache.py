"""Frames of a video decoded once, small, on disk: training then reads pictures instead of decoding."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tsm_runtime.crop import Crop
from tsm_runtime.decode import VideoReader
from tsm_runtime.errors import RunError, VideoError
from tsm_runtime.frames import RESIZE_FLAG, FrameConverter
from tsm_runtime.terminal import warn

__all__ = ["CachedVideo", "cache_folder", "cache_video"]

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class CachedVideo:
    """All frames of a video at native rate.

    Args:
        frames: (F, size, size, 3) uint8, mapped from disk.
        times: (F,) float64 presentation times in seconds.
        duration_seconds: last time + duration of the last frame.
    """

    frames: npt.NDArray[np.uint8]
    times: npt.NDArray[np.float64]
    duration_seconds: float


def cache_folder(configured: str) -> Path:
    """Return the configured folder, else `tsm-tal` in the user's cache folder ($XDG_CACHE_HOME)."""
    if configured:
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tsm-tal"


def cache_video(video: Path, folder: Path, size: int, crop: Crop = "") -> CachedVideo:
    """Open the cached frames of a video; decode it first where they are not there yet.

    Args:
        video: the file.
        folder: where caches lie; a changed file or another size gets a cache of its own.
        size: edge of the stored pictures in pixels.
        crop: the half of the picture that is kept.

    Raises:
        VideoError: the video cannot be read or has no frame.
        RunError: the cache cannot be written.
    """
    target = folder / f"{video.stem}-{_key(video, size, crop)}.npy"
    times_file = target.with_suffix(".times.npy")
    if not (target.exists() and times_file.exists()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _decode_into(video, target, times_file, FrameConverter(size, crop))
        except OSError as error:
            raise RunError(f"{target}: cannot store decoded frames ({error.strerror or error})") from error
    times = np.load(times_file)
    return CachedVideo(np.load(target, mmap_mode="r"), times[:-1], float(times[-1]))


def _key(video: Path, size: int, crop: Crop) -> str:
    try:
        status = video.stat()
    except OSError as error:
        raise VideoError(f"{video}: {error.strerror}") from error
    text = f"{_FORMAT} {video.resolve()} {status.st_size} {status.st_mtime_ns} {size} {RESIZE_FLAG} {crop}"
    return hashlib.sha256(text.strip().encode()).hexdigest()[:16]


def _decode_into(video: Path, target: Path, times_file: Path, convert: FrameConverter) -> None:
    """Write raw frames as they come (memory stays flat), then the header, then rename."""
    times: list[float] = []
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        raw = Path(scratch) / "frames.raw"
        with VideoReader(video) as reader, raw.open("wb") as stream:
            end = 0.0
            for timed in reader.frames():
                try:
                    stream.write(convert(timed.frame).tobytes())
                except VideoError as error:
                    raise VideoError(f"{video}: {error}") from error
                times.append(timed.start_seconds)
                end = timed.end_seconds
        if not times:
            raise VideoError(f"{video}: no frame of the video stream could be decoded")
        if reader.failure:
            warn(f"{video}: breaks off after {end:.2f} s ({reader.failure}); training uses that part")
        frames = np.memmap(raw, np.uint8, "r", shape=(len(times), convert.size, convert.size, 3))
        np.save(Path(scratch) / "frames.npy", frames)
        np.save(Path(scratch) / "times.npy", np.array([*times, end]))
        (Path(scratch) / "times.npy").replace(times_file)
        (Path(scratch) / "frames.npy").replace(target)
