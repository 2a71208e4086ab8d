"""What the members of a live run take from a source: pictures, pictures with sound, or sound alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from av.container import InputContainer

from tsm_runtime.audio.listening import FileListening, Listening, StreamListening, listen
from tsm_runtime.audio.sound_reader import PixelsOfSound, SoundReader
from tsm_runtime.audio.sound_stream import SoundStreamReader, with_media
from tsm_runtime.audio.spec import SoundSpec
from tsm_runtime.errors import UsageError
from tsm_runtime.models.member import Member
from tsm_runtime.video.clock import TimedFrame
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.sources import Connection, FileSource, Source
from tsm_runtime.video.stream_reader import StreamSource

_log = logging.getLogger("tsm_runtime")

NO_TRACK = "no audio track; scored by its pictures alone"


@dataclass(frozen=True, slots=True)
class LiveInput:
    """Input of all members of a run.

    Args:
        sound: how sound is cut; None: sound is not used.
        is_alone: sound is all that is used.
    """

    sound: SoundSpec | None = None
    is_alone: bool = False

    @classmethod
    def of(cls, members: Sequence[Member]) -> LiveInput:
        """Return the input that all members share.

        Raises:
            UsageError: some take pictures and some sound alone, or they cut sound in different ways.
        """
        alone = {member.spec.sound for member in members}
        if alone == {None}:
            specs = {member.sound.spec for member in members if member.sound is not None}
        elif None in alone:
            raise UsageError(
                "a stream is run by models of pictures or by models of sound alone: run them apart, and fuse"
                " their files with tsm-fuse"
            )
        else:
            specs = {spec for spec in alone if spec is not None}
        if len(specs) > 1:
            raise UsageError("these models cut sound in different ways: run each of them alone on a stream")
        return cls(next(iter(specs), None), is_alone=alone != {None})

    @property
    def converter(self) -> Callable[[int, Any], Any]:
        """What makes the converter of frames to pictures, of a size and a crop."""
        return PixelsOfSound if self.is_alone else FrameConverter

    def connect(self, source: Source) -> tuple[Connection, Listening | None]:
        """Open a source; return also the sound beside its pictures, if it is used and there is some.

        Raises:
            VideoError: the source cannot be opened, or has nothing that the models take.
            UsageError: the source is of a kind that gives no sound.
        """
        if self.sound is None:
            return source.open(), None
        if isinstance(source, FileSource):
            return self._of_file(source, self.sound)
        if isinstance(source, StreamSource):
            return self._of_stream(source, self.sound)
        raise UsageError(f"{source.name}: a source of this kind gives no sound")

    def _of_file(self, source: FileSource, spec: SoundSpec) -> tuple[Connection, Listening | None]:
        if self.is_alone:
            reader = _PacedSound if source.pace else SoundReader
            return reader(source.path, spec), None
        connection = source.open()
        listening = FileListening(source.path, spec)
        return connection, _or_warn(listening if listening.has_track else None, source)

    def _of_stream(self, source: StreamSource, spec: SoundSpec) -> tuple[Connection, Listening | None]:
        if self.is_alone:
            return SoundStreamReader(source, spec), None
        found: list[StreamListening] = []

        def note(container: InputContainer) -> StreamListening | None:
            listening = listen(container, spec)
            found.extend([listening] if listening is not None else [])
            return listening

        connection = with_media(source, "video+audio").open(note)
        return connection, _or_warn(found[0] if found else None, source)


def _or_warn(listening: Listening | None, source: Source) -> Listening | None:
    if listening is None:
        _log.warning(f"{source.name}: {NO_TRACK}")
    return listening


class _PacedSound(SoundReader):
    """Reader that yields the sound of a file in real time."""

    waits = False

    def frames(self, start_seconds: float = 0.0) -> Iterator[TimedFrame]:
        begun = time.monotonic()
        for timed in super().frames(start_seconds):
            time.sleep(max(0.0, begun + timed.end_seconds - time.monotonic()))
            yield timed
