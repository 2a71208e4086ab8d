"""How long a video is: the container's word where it can be trusted, else from the frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tsm_runtime.audio.reader import TrackReader
from tsm_runtime.audio.spec import SAMPLE_RATE
from tsm_runtime.errors import VideoError
from tsm_runtime.video.finding import AUDIO_SUFFIXES
from tsm_runtime.video.reader import VideoReader

_SLACK_SECONDS = 0.5
"""Container and frames differ by less than this where nothing is wrong."""

_STATES_LENGTH = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi"})
"""Containers whose header states the length; of the others it is guessed from the bit rate."""


@dataclass(frozen=True, slots=True)
class Length:
    """Length of a video.

    Args:
        seconds: of the part that decodes.
        source: `container`: its header says so, and the first frame decodes; `frames`: all were decoded, from
            the first to the end of the last.
        failure: why the video is not whole, if that showed.
    """

    seconds: float
    source: Literal["container", "frames"]
    failure: str | None = None


def look_up_length(
    path: Path,
    *,
    last_end_seconds: float = 0.0,
    declared_seconds: float | None = None,
    exact: bool = False,
    rate: float | None = None,
) -> Length:
    """Return the length of a video, decoding all of it only where there is doubt.

    Of a recording without pictures it is that of its sound. Doubt is where the container is of a kind whose
    length is a guess, or states none, or where an annotation comes near its end or states another length.

    Args:
        path: the file.
        last_end_seconds: end of the last annotated segment.
        declared_seconds: length by the annotations.
        exact: decode in any case.
        rate: frames per second of a file that holds no times.

    Raises:
        VideoError: it cannot be opened, or no frame decodes.
    """
    if path.suffix.lower() in AUDIO_SUFFIXES:
        return _of_sound(path)
    with VideoReader(path, rate=rate) as reader:
        claimed = reader.claimed_seconds
        if next(reader.frames(), None) is None:
            why = f" ({reader.failure})" if reader.failure else ""
            raise VideoError(f"{path}: no frame of the video stream could be decoded{why}")
    trusted = claimed is not None and claimed > 0 and path.suffix.lower() in _STATES_LENGTH
    if trusted and not exact:
        assert claimed is not None
        declared = claimed if declared_seconds is None else declared_seconds
        if last_end_seconds <= claimed - _SLACK_SECONDS and abs(declared - claimed) <= _SLACK_SECONDS:
            return Length(claimed, "container")
    return _by_frames(path, rate)


def _of_sound(path: Path) -> Length:
    with TrackReader(path) as reader:
        for _ in reader.pieces():
            pass
        end = reader.placing.end / SAMPLE_RATE
    if not end:
        raise VideoError(f"{path}: no sound could be decoded")
    return Length(end, "frames", reader.failure)


def _by_frames(path: Path, rate: float | None) -> Length:
    end = 0.0
    with VideoReader(path, rate=rate) as reader:
        for timed in reader.frames():
            end = timed.end_seconds
        return Length(end, "frames", reader.failure)
