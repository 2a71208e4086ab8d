"""Fill a frame store before training: report its size, check the disk, decode what is not there yet."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from tsm_runtime.clips.joined import open_reader
from tsm_runtime.errors import RunError, VideoError
from tsm_runtime.wording import counted
from tsm_train.data.video import TrainingVideo
from tsm_train.samples.frame_store import PART, FrameStore, encode_picture
from tsm_train.samples.stored_video import StoredVideo

_log = logging.getLogger("tsm_runtime")

_SAMPLED_VIDEOS = 8
_SAMPLED_FRAMES = 3
_SAMPLED_SECONDS = 5.0  # into the video: the very first frames are often black
_USUAL_RATE = 30.0
_ABANDONED_SECONDS = 3600.0
_REPORTED_BYTES = 2**30
"""A store that takes less is not worth a line."""


def store_videos(
    store: FrameStore, videos: Sequence[TrainingVideo], *, num_threads: int = 1, show_progress: bool = False
) -> None:
    """Decode the videos that the store does not hold yet. What was stored before a crash stays.

    A video that cannot be read is named on standard error and left out.

    Args:
        store: gets the frames.
        videos: to be stored.
        num_threads: videos decoded at a time; decoding, resizing and encoding all leave Python's lock.
        show_progress: draw a bar.

    Raises:
        RunError: they do not fit on the disk, or cannot be written.
    """
    missing = [video for video in videos if not _is_there(store, video)]
    if not missing:
        return
    _check_space(store, missing)
    store.cancelled.clear()
    _remove_leftovers(store.folder)
    with ThreadPoolExecutor(num_threads) as pool:
        jobs = [pool.submit(store.add, video.path, video.crop, video.rate) for video in missing]
        try:
            for job in track(
                as_completed(jobs),
                "decoding",
                total=len(jobs),
                transient=True,
                console=Console(stderr=True),
                disable=not show_progress,
            ):
                if isinstance(error := job.exception(), VideoError):
                    _log.warning(f"left out: {error}")
                elif error is not None:
                    raise error
        except BaseException:
            store.cancelled.set()
            pool.shutdown(cancel_futures=True)
            raise


def open_stored(
    store: FrameStore, videos: Sequence[TrainingVideo]
) -> list[tuple[TrainingVideo, StoredVideo]]:
    """Open what `store_videos` stored.

    Raises:
        VideoError: nothing was.
    """
    opened = [
        (video, stored)
        for video in videos
        if video.path.exists() and (stored := store.open(video.path, video.crop, video.rate)) is not None
    ]
    if not opened:
        raise VideoError(f"no training video can be read ({len(videos)} failed)")
    return opened


def estimate_bytes(store: FrameStore, videos: Sequence[TrainingVideo]) -> tuple[int, float]:
    """Return how many frames the videos have, by what their headers claim, and how many bytes they will take.

    Bytes of a picture are the mean over a few frames of a few of the videos.
    """
    num_frames = sum(_claimed_frames(store, video) for video in videos)
    if store.settings.format == "raw":
        return num_frames, float(num_frames * math.prod(store.shape))
    step = max(1, len(videos) // _SAMPLED_VIDEOS)
    sizes = [size for video in videos[::step] for size in _sampled_sizes(store, video)]
    return num_frames, num_frames * float(np.mean(sizes)) if sizes else 0.0


def _check_space(store: FrameStore, videos: Sequence[TrainingVideo]) -> None:
    num_frames, needed = estimate_bytes(store, videos)
    free = shutil.disk_usage(_existing(store.folder)).free
    frames = f"{counted(num_frames, 'frame')} of {counted(len(videos), 'video')}"
    what = f"{frames} take about {_size_text(needed)} in {store.folder}"
    if needed > free:
        jpeg = ", store.format to 'jpeg'" if store.settings.format == "raw" else ""
        raise RunError(
            f"{what}, where {_size_text(free)} are free\nset data.cache to a folder on another disk{jpeg}, or"
            " store.size to a smaller one"
        )
    if needed >= _REPORTED_BYTES:
        _log.warning(f"decoding: {what} ({_size_text(free)} are free)")


def _remove_leftovers(folder: Path) -> None:
    """Remove what was being written when a program was killed; one that still writes is left alone."""
    with suppress(OSError):
        for path in folder.glob(f".*{PART}"):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()


def _claimed_frames(store: FrameStore, video: TrainingVideo) -> int:
    try:
        with open_reader(video.path, store.sound, rate=video.rate) as reader:
            return round((reader.claimed_seconds or 0.0) * (reader.claimed_rate or _USUAL_RATE))
    except VideoError:
        return 0  # named when it is decoded


def _sampled_sizes(store: FrameStore, video: TrainingVideo) -> list[int]:
    try:
        with open_reader(video.path, store.sound, rate=video.rate) as reader:
            convert = store.converter(video.crop)
            frames = reader.frames(min(_SAMPLED_SECONDS, (reader.claimed_seconds or 0.0) / 2))
            pictures = [np.ascontiguousarray(convert(t.frame)) for t in islice(frames, _SAMPLED_FRAMES)]
            return [len(encode_picture(picture, store.settings)) for picture in pictures]
    except VideoError:
        return []


def _is_there(store: FrameStore, video: TrainingVideo) -> bool:
    return video.path.exists() and store.open(video.path, video.crop, video.rate) is not None


def _existing(folder: Path) -> Path:
    """Return the folder or the nearest one above it that is there."""
    return next((path for path in (folder, *folder.absolute().parents) if path.exists()), Path("/"))


def _size_text(num_bytes: float) -> str:
    """Bytes in the unit a person thinks in.

    >>> _size_text(52_300_000_000)
    '52.3 GB'
    """
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes / 1e3:.1f} kB"
