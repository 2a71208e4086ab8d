"""Reads the sound of a file as a `VideoReader` reads its pictures, for models of sound alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from tsm_runtime.audio.growing import GrowingTrack
from tsm_runtime.audio.pictures import PictureMaker, SoundPicture
from tsm_runtime.audio.reader import SILENT, TrackReader, is_silent
from tsm_runtime.audio.spec import STEP_SECONDS, SoundSpec
from tsm_runtime.errors import VideoError
from tsm_runtime.video.clock import TimedFrame


class SoundReader:
    """Pictures of the sound of a file, in order of time; attributes are those of `VideoReader`.

    Time 0 is the first presented frame of a video, and the first sample of a file without pictures.

    Args:
        path: a video, or a file of sound alone.
        spec: how sound is cut.

    Raises:
        VideoError: the file is missing, cannot be opened, or has no audio track.
        UsageError: the requested track is not there.
    """

    waits = True
    stream_kind = "audio"

    def __init__(self, path: Path, spec: SoundSpec) -> None:
        self.path = path
        self._spec = spec
        self._track = TrackReader(path, channels=spec.channels, track=spec.track)
        if not self._track.has_track:
            self._track.close()
            raise VideoError(f"{path}: no audio track, and this model takes sound alone")
        self.claimed_seconds: float | None = self._track.claimed_seconds or None
        self.claimed_rate: float | None = 1 / STEP_SECONDS
        self.assumed_rate: float | None = None
        self.notices: tuple[str, ...] = self._track.choice_warning()
        """What is worth a warning, one line each."""

    @property
    def failure(self) -> str | None:
        """Why the track breaks off; None: it does not."""
        return self._track.failure

    @property
    def corrupt_frames(self) -> int:
        """Number of packets so far that did not decode."""
        return self._track.corrupt_packets

    def frames(self, start_seconds: float = 0.0) -> Iterator[TimedFrame]:
        """Yield the pictures from the one at `start_seconds`, or an earlier one, to the end."""
        track = GrowingTrack(self._spec, self._track.placing)
        maker = PictureMaker(track)
        for begin, samples in self._track.pieces():
            track.add(begin, samples)
            yield from _timed(maker.known(), start_seconds)
        track.finish()
        yield from _timed(maker.known(is_end=True), start_seconds)
        if is_silent(track.peak):
            self.notices = (*self.notices, SILENT)

    def close(self) -> None:
        """Close the file; further calls do nothing."""
        self._track.close()

    def __enter__(self) -> SoundReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _timed(pictures: Iterator[SoundPicture], start_seconds: float) -> Iterator[TimedFrame]:
    for picture in pictures:
        if picture.start_seconds + picture.duration_seconds > start_seconds:
            yield timed_picture(picture)


def timed_picture(picture: SoundPicture) -> TimedFrame:
    """Return a picture as a frame of a video; its converter is `PixelsOfSound`."""
    frame: Any = picture
    return TimedFrame(frame, picture.start_seconds, picture.duration_seconds)


class PixelsOfSound:
    """Takes the place of a `FrameConverter`: pictures of sound have their size and no colours.

    Args:
        size, crop: of pictures of a video; not used.
    """

    def __init__(self, size: int, crop: str = "") -> None:
        del size, crop

    def __call__(self, frame: Any) -> Any:
        """Return the (F, M, C) uint8 pixels of a `SoundPicture`."""
        return frame.pixels
