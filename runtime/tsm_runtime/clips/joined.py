"""Clips of a file for models of pictures and models of sound alone: a stream for each kind of input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsm_runtime.audio.sound_reader import PixelsOfSound, SoundReader
from tsm_runtime.audio.spec import SoundSpec
from tsm_runtime.clips.builder import ClipBatch, ClipBuilder
from tsm_runtime.clips.options import ClipOptions
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.errors import VideoError
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.reader import VideoReader

Opener = Callable[[Sequence[ClipSpec]], AbstractContextManager[ClipStream]]
"""Opens a file for models with one kind of input."""


@dataclass(slots=True)
class UnreadInput:
    """Stands in for the reader of an input that this process does not read; fields of `VideoReader`."""

    path: Path
    failure: str | None = None
    corrupt_frames: int = 0
    claimed_seconds: float | None = None
    claimed_rate: float | None = None
    assumed_rate: float | None = None
    notices: tuple[str, ...] = ()
    stream_kind: str = "video"


def by_input(specs: Sequence[ClipSpec]) -> dict[SoundSpec | None, tuple[ClipSpec, ...]]:
    """Return the specs of each kind of input: pictures (None), or sound that is cut in one way."""
    found: dict[SoundSpec | None, tuple[ClipSpec, ...]] = {}
    for spec in specs:
        found[spec.sound] = (*found.get(spec.sound, ()), spec)
    return found


def open_reader(
    path: Path, sound: SoundSpec | None, *, rate: float | None = None, allow_playlists: bool = False
) -> VideoReader | SoundReader:
    """Open a file for its pictures, or for its sound.

    Raises:
        VideoError, UsageError: see `VideoReader` and `SoundReader`.
    """
    if sound is not None:
        return SoundReader(path, sound)
    return VideoReader(path, rate=rate, allow_playlists=allow_playlists)


def clips_of(
    reader: VideoReader | SoundReader, specs: Sequence[ClipSpec] | ClipSpec, **more: Any
) -> ClipStream:
    """Return the clips of an open file.

    Args:
        reader: see `open_reader`.
        specs: all of the reader's kind of input.
        **more: further arguments of `ClipStream`.
    """
    converter = PixelsOfSound if isinstance(reader, SoundReader) else FrameConverter
    return ClipStream(reader, specs, **{"converter": converter, **more})


class JoinedClips:
    """Clips of several inputs of one file, one input after another. An input that fails costs only its clips.

    Attributes are those of `ClipStream`, where `of` does not return the stream of one input.

    Args:
        path: the file.
        specs: inputs of the models.
        options: requested part.
        opened: opens the file for one kind of input.
    """

    def __init__(self, path: Path, specs: Sequence[ClipSpec], options: ClipOptions, opened: Opener) -> None:
        self.specs = tuple(specs)
        self.num_frames = 0
        self.builders: dict[ClipSpec, ClipBuilder] = {}
        self._opened = opened
        unread: Any = UnreadInput(path)
        self._parts = [ClipStream(unread, group, options) for group in by_input(specs).values()]
        self._reading = self._parts[0]

    def __iter__(self) -> Iterator[ClipBatch]:
        errors: list[VideoError] = []
        for number, part in enumerate(self._parts):
            try:
                with self._opened(part.specs) as stream:
                    self._reading = self._parts[number] = stream
                    self.builders |= stream.builders
                    yield from stream
                    self.num_frames += stream.num_frames
            except VideoError as error:
                errors.append(error)
                failed: Any = UnreadInput(part.reader.path, failure=str(error))
                self._parts[number] = ClipStream(failed, part.specs, part.options)
                self.builders |= self._parts[number].builders
        if len(errors) == len(self._parts):
            raise errors[0]

    @property
    def reader(self) -> Any:
        """Reader of the input that is read."""
        return self._reading.reader

    def of(self, spec: ClipSpec) -> ClipStream:
        """Return the stream of the clips of one spec."""
        return next(part for part in self._parts if spec in part.specs)

    def why_nothing(self, spec: ClipSpec) -> str:
        """Return the reason why a model got no interval."""
        return self.of(spec).why_nothing(spec)
