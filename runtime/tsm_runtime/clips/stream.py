"""Clips of one video for one or several models, and the defects found while reading it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tsm_runtime.audio.sound_reader import SoundReader
from tsm_runtime.clips.builder import ClipBatch, ClipBuilder
from tsm_runtime.clips.options import ClipOptions
from tsm_runtime.clips.pool import FramePool
from tsm_runtime.clips.spec import ClipSpec, count_intervals
from tsm_runtime.errors import VideoError
from tsm_runtime.video.clock import TimedFrame
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.crop import Crop
from tsm_runtime.video.reader import VideoReader
from tsm_runtime.wording import counted

Look = tuple[int, Crop]
"""Size and crop of a picture; models with equal values share pictures."""


_SHOWN = 5


class ClipStream:
    """Clips of one video, and the defects found while reading it. Iterate once, from one thread.

    The video is decoded once for all specs, each of which has its own grid of intervals; `ClipBatch.spec`
    identifies the spec of a batch. Batches of a spec do not depend on the other specs.

    `num_frames` is the number of frames decoded so far. `discontinuities` are the seconds at which the clock
    of the video restarted: no clip crosses one.
    `duration_seconds` is the length of the video by its frames, up to the requested end. Setting `cancelled`
    from any thread ends the iteration at the next frame.

    Args:
        reader: an open video; for models of sound alone a `SoundReader`, with `PixelsOfSound` as converter.
        specs: inputs of one or several models; equal specs count once.
        options: requested part of the video, and clips per batch; default: the whole video, one clip.
        cancelled: see above; default: a new event.
        memory: pools of the batch arrays, see `ClipBuilder`; default: new pools.
        converter: returns, for a size and a crop, a function that converts frames to the pictures of a clip.

    Raises:
        ValueError: there is no spec.
    """

    def __init__(
        self,
        reader: VideoReader | SoundReader,
        specs: ClipSpec | Sequence[ClipSpec],
        options: ClipOptions | None = None,
        *,
        cancelled: threading.Event | None = None,
        memory: Mapping[ClipSpec, FramePool] | None = None,
        converter: Callable[[int, Crop], Any] = FrameConverter,
    ) -> None:
        self.reader = reader
        self.options = options or ClipOptions()
        self.specs = (specs,) if isinstance(specs, ClipSpec) else tuple(dict.fromkeys(specs))
        if not self.specs:
            raise ValueError("clips for no model: expected one or more")
        self.builders = {spec: _builder(spec, self.options, (memory or {}).get(spec)) for spec in self.specs}
        self.duration_seconds = 0.0
        self.num_frames = 0
        self.discontinuities: list[float] = []
        self.cancelled = cancelled or threading.Event()
        self._converter = converter

    def __iter__(self) -> Iterator[ClipBatch]:
        converters = {look_of(spec): self._converter(*look_of(spec)) for spec in self.specs}
        end = math.inf if self.options.end_seconds is None else self.options.end_seconds
        try:
            for shown, until_seconds in self._shown_frames():
                self.num_frames += 1
                if self.duration_seconds < end:  # windows extend beyond the end
                    self.duration_seconds = until_seconds
                yield from self._push(shown, until_seconds, converters)
            with self._named_errors():
                for builder in self.builders.values():
                    yield from builder.finish()
        finally:
            for builder in self.builders.values():
                builder.discard()

    def _push(
        self, shown: TimedFrame, until_seconds: float, converters: Mapping[Look, Any]
    ) -> Iterator[ClipBatch]:
        if shown.discontinuity:
            self._note_discontinuity(shown.start_seconds)
            for builder in self.builders.values():
                yield from builder.restart(shown.start_seconds)
        pictures: dict[Look, npt.NDArray[np.uint8]] = {}  # of this frame

        def picture(look: Look) -> npt.NDArray[np.uint8]:
            if look not in pictures:
                pictures[look] = converters[look](shown.frame)
            return pictures[look]

        with self._named_errors():
            for spec, builder in self.builders.items():
                yield from builder.push(shown.start_seconds, until_seconds, partial(picture, look_of(spec)))

    def _note_discontinuity(self, seconds: float) -> None:
        start, end = self.options.start_seconds, self.options.end_seconds
        if start < seconds and (end is None or seconds < end):
            self.discontinuities.append(seconds)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except VideoError as error:
            raise VideoError(f"{self.reader.path}: {error}") from error

    def _shown_frames(self) -> Iterator[tuple[TimedFrame, float]]:
        """Yield the frames of the requested part, each with the second at which it leaves the screen."""
        margin = max(spec.margin_seconds for spec in self.specs)
        end = math.inf if self.options.end_seconds is None else self.options.end_seconds + margin
        previous: TimedFrame | None = None
        for current in self.reader.frames(max(0.0, self.options.start_seconds - margin)):
            if self.cancelled.is_set():
                return
            if previous is not None:
                yield previous, current.start_seconds
                if current.start_seconds >= end:
                    return
            previous = current
        if previous is not None:
            yield previous, previous.end_seconds

    def of(self, spec: ClipSpec) -> Self:
        """Return the stream of the clips of one spec."""
        if spec not in self.builders:
            raise ValueError(f"no clips of {spec} here")
        return self

    def warnings(self, spec: ClipSpec) -> Iterator[str]:
        """Yield a message of one line for each defect that affects the result of a model."""
        yield from self.reader.notices
        if self.reader.failure is not None:
            yield self._break_off()
        if rate := self.reader.assumed_rate:
            yield f"states no times: assumed at {rate:g} frames per second; --rate states another"
        if cuts := self.discontinuities:
            where = ", ".join(f"{at:.2f} s" for at in cuts[:_SHOWN]) + (" ..." if len(cuts) > _SHOWN else "")
            yield f"its clock restarts at {where}: no segment crosses that"
        if num_corrupt := self.reader.corrupt_frames:
            yield f"{counted(num_corrupt, 'corrupt or misplaced frame')} skipped or concealed"
        if gaps := self.builders[spec].gaps:
            longest = max(end - start for start, end in gaps)
            yield (
                f"{counted(len(gaps), 'gap')} without a new frame for longer than an interval of"
                f" {spec.interval_seconds:g} s (longest {longest:.2f} s): intervals without a frame of their"
                " own were left out"
            )

    def why_nothing(self, spec: ClipSpec) -> str:
        """Return the reason why a model got no interval."""
        t, seconds = spec.interval_seconds, self.duration_seconds
        if not seconds:
            why = f" ({self.reader.failure})" if self.reader.failure else ""
            return f"no frame of the {self.reader.stream_kind} stream could be decoded{why}"
        if self.reader.failure is not None:
            return f"{self._break_off()}; that leaves no whole interval of {t:g} s to look at"
        if count_intervals(seconds, t) == 0 and self.options.end_seconds is None:
            return f"{seconds:.3f} s long, shorter than one interval of {t:g} s"
        return (
            f"no whole interval of {t:g} s in the requested part"
            f" (the video goes on to {seconds:.2f} s at least)"
        )

    def _break_off(self) -> str:
        claimed, seconds = self.reader.claimed_seconds, self.duration_seconds
        lost = f" of the {claimed:.2f} s it claims" if claimed and claimed > seconds else ""
        return f"breaks off after {seconds:.2f} s{lost}: {self.reader.failure}"


def _builder(spec: ClipSpec, options: ClipOptions, memory: FramePool | None) -> ClipBuilder:
    end = options.end_seconds
    return ClipBuilder(
        spec,
        options.batch_size,
        first_interval=-count_intervals(-options.start_seconds, spec.stride_seconds),  # ceil
        stop_interval=None if end is None else spec.num_intervals(end),
        memory=memory or FramePool(),
    )


def look_of(spec: ClipSpec) -> Look:
    """Return the size and crop that a converted picture depends on."""
    return spec.size, spec.crop
