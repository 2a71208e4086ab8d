"""Inputs for comparing the models of a bundle: seeded noise, and clips of a video as tsm-run cuts them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tsm_runtime.clips.joined import clips_of, open_reader
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import VideoError
from tsm_runtime.terminal import printable
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.crop import Crop

NOISE = "noise"
"""Name of the clips of noise."""
DEMO_VIDEO = "the demo video"
"""Name of the clips of the embedded video."""

_SEED = 0
_COARSE_LEVELS, _FINE_LEVELS = 192, 64
_GRIDS = (2, 4, 8, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSet:
    """Clips that every model scores.

    Args:
        name: name for display.
        frames: (N, T, size, size, 3) uint8 RGB, N at least 1.
        indices: (N,) int64 numbers of the intervals of a video; None for noise, which has no segments.
        breaks: as in `segments.IntervalScores`.
        warnings: warnings about the video.
        path: the video; None for noise.

    Raises:
        ValueError: there is no clip, or not one index for each.
    """

    name: str
    frames: npt.NDArray[np.uint8]
    indices: npt.NDArray[np.int64] | None = None
    breaks: frozenset[int] = frozenset()
    warnings: tuple[str, ...] = ()
    path: Path | None = None

    def __post_init__(self) -> None:
        if not len(self.frames):
            raise ValueError(f"{self.name}: no clips to compare on")
        if self.indices is not None and len(self.indices) != len(self.frames):
            raise ValueError(f"{self.name}: {len(self.indices)} indices for {len(self.frames)} clips")


def noise_clips(spec: ClipSpec, num_clips: int = 8) -> ClipSet:
    """Return clips of seeded noise, all different, and the same on every machine.

    A frame is a grid of random plain colours, coarser or finer by clip, with added pixel noise. Pixel noise
    alone would not do: a network averages it out, so that all clips have nearly the same scores.

    Args:
        spec: clip specification of the models.
        num_clips: N, at least 1.
    """
    rng = np.random.default_rng(_SEED)
    shape = spec.clip_shape
    frames = np.empty((num_clips, *shape), np.uint8)
    _, num_rows, num_columns, num_channels = shape
    for number in range(num_clips):
        cells = min(_GRIDS[number % len(_GRIDS)], num_rows, num_columns)
        coarse = (spec.num_frames, cells, cells, num_channels)
        colors = rng.integers(0, _COARSE_LEVELS, coarse, dtype=np.uint8)
        row, column = (np.arange(length) * cells // length for length in (num_rows, num_columns))
        fine = rng.integers(0, _FINE_LEVELS, shape, dtype=np.uint8)
        frames[number] = colors[:, row][:, :, column] + fine
    return ClipSet(name=NOISE, frames=frames)


def video_clips(
    path: Path,
    spec: ClipSpec,
    num_clips: int,
    *,
    name: str = "",
    converter: Callable[[int, Crop], Any] = FrameConverter,
) -> ClipSet:
    """Return the first clips of a video, decoded and cut as by tsm-run.

    Args:
        path: the video.
        spec: clip specification of the models.
        num_clips: maximum number of clips; all are held in memory.
        name: name of the clips; default: the file's name.
        converter: see `ClipStream`.

    Raises:
        VideoError: the video cannot be read, or has no pictures or no whole interval.
    """
    with open_reader(path, spec.sound) as reader:
        stream = clips_of(reader, spec, **({"converter": converter} if spec.sound is None else {}))
        batches = list(islice(stream, num_clips))
        if not batches:
            raise VideoError(f"{path}: {stream.why_nothing(spec)}; give a longer one with --video")
        return ClipSet(
            name=name or printable(path.name),  # it goes into the manifest, which is UTF-8
            frames=np.concatenate([batch.frames for batch in batches]),
            indices=np.concatenate([batch.indices for batch in batches]),
            breaks=frozenset(stream.builders[spec].breaks),
            warnings=tuple(f"{path}: {line}" for line in stream.warnings(spec)),
            path=path,
        )
