"""How videos are read: in this process or another one, on the CPU or a GPU, several at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tsm_runtime.audio.sound_reader import SoundReader
from tsm_runtime.clips.joined import JoinedClips, by_input, clips_of
from tsm_runtime.clips.options import ClipOptions
from tsm_runtime.clips.pool import FramePool
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.models.nvdec import Nvdec
from tsm_runtime.pipeline.isolation import IsolatedClips, Isolation
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.reader import VideoReader


def is_there(path: Path) -> AbstractContextManager[None]:
    """Return a context that does nothing: the `fetched` for files on this machine."""
    return nullcontext()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How videos are read.

    Args:
        jobs: number of videos decoded at a time.
        nvdec: decoder on a GPU.
        isolation: worker processes that decode on the CPU.
        fetched: returns a context in which a video's file exists; entered by the decoding thread.
    """

    jobs: int = 1
    nvdec: Nvdec | None = None
    isolation: Isolation | None = None
    fetched: Callable[[Path], AbstractContextManager[None]] = is_there

    @contextmanager
    def clips(
        self,
        path: Path,
        specs: Sequence[ClipSpec],
        options: ClipOptions,
        cancelled: threading.Event,
        memory: Mapping[ClipSpec, FramePool],
    ) -> Iterator[ClipStream | JoinedClips]:
        """Open one video while the block runs; arguments and errors are those of `ClipStream`."""

        @contextmanager
        def opened(specs: Sequence[ClipSpec]) -> Iterator[ClipStream]:
            """Open the file for models with one kind of input."""
            if self.isolation is not None:
                yield IsolatedClips(path, specs, options, self.isolation, cancelled=cancelled, memory=memory)
            elif specs[0].sound is not None:
                with SoundReader(path, specs[0].sound) as sound:
                    yield clips_of(sound, specs, options=options, cancelled=cancelled, memory=memory)
            else:
                rate, playlists, nvdec = options.rate, options.allow_playlists, self.nvdec
                with VideoReader(path, nvdec, rate=rate, allow_playlists=playlists) as reader:
                    converter = FrameConverter if nvdec is None else partial(nvdec.converter, reader.decoder)
                    yield ClipStream(
                        reader, specs, options, cancelled=cancelled, memory=memory, converter=converter
                    )

        with self.fetched(path):
            if len(by_input(specs)) > 1:
                yield JoinedClips(path, specs, options, opened)
                return
            with opened(specs) as clips:
                yield clips
