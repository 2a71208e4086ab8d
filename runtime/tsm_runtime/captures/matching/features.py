"""Features of a video that two recordings of one moment have in common, 100 rows a second.

Of sound: log-mel bands, each with its local mean removed, so that gain, equalisation and steady noise drop
out and onsets remain. Of pictures: changes of brightness, of the whole picture (which views from elsewhere
share) and of its parts (which another copy of the same footage shares).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter

from tsm_runtime.audio.mel import mel_magnitudes
from tsm_runtime.audio.reader import Sound
from tsm_runtime.audio.spec import MelSpec, Span
from tsm_runtime.errors import VideoError
from tsm_runtime.video.reader import VideoReader

Array = npt.NDArray[np.float32]
Times = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

RATE = 100
"""Rows of features per second."""

_SPEC = MelSpec(num_bands=32, low_hertz=100.0, high_hertz=7000.0, window_seconds=0.032, hop_seconds=1 / RATE)

_EDGE_SECONDS = 0.25
"""Start and end of a recording are ignored: they are not events of the scene."""

_MEAN_SECONDS = 0.5
_SPREAD_SECONDS = 3.0
_LARGEST = 3.0  # standard deviations: one loud bang shall not outweigh the rest

_GRID = (32, 18)  # width and height of the pictures that are compared
_APART = 0.12
_ROWS_AT_ONCE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Features for comparison.

    Args:
        rows: (J, B) float32; row j is at j / RATE seconds of the video; zeros where there is nothing.
        active: (J,) float32, 1 where the rows carry information, else 0.
    """

    rows: Array
    active: Array

    @property
    def active_seconds(self) -> float:
        """Length in seconds of the comparable part."""
        return float(self.active.sum()) / RATE


def sound_features(sound: Sound) -> Features:
    """Return onsets in 32 mel bands of the first channel."""
    magnitudes = mel_magnitudes(sound.samples[0], _SPEC, sound.rate)
    active = _inside(sound.spans, len(magnitudes))
    if not len(magnitudes) or sound.is_silent or not active.any():
        return Features(
            rows=np.zeros((len(magnitudes), _SPEC.num_bands), np.float32), active=np.zeros_like(active)
        )
    quiet = np.maximum(np.percentile(magnitudes[active > 0], 20), 1e-6) * 0.3
    is_loud_enough = magnitudes.max(axis=1) > 1e-4
    return _whitened(np.log(magnitudes + np.float32(quiet)), active * is_loud_enough)


def picture_features(path: Path) -> tuple[Features, Features] | None:
    """Return changes of the whole picture, and changes of its parts; None: there are too few pictures.

    Args:
        path: of the video.
    """
    try:
        with VideoReader(path) as reader:
            times, pictures = zip(*_small_pictures(reader), strict=True)
    except (VideoError, ValueError):  # no pictures
        return None
    if len(times) < 3:
        return None
    stack, at = np.stack(pictures), np.array(times)
    num_rows = int(at[-1] * RATE) + 1
    whole, parts = [], []
    for before, after in _compared(at, num_rows):
        pair = stack[before].astype(np.float32), stack[after].astype(np.float32)
        whole.append(_of_whole(*pair))
        parts.append(_of_parts(*pair))
    active = _seen(at, num_rows)
    return _whitened(np.concatenate(whole), active), _whitened(np.concatenate(parts), active)


def _seen(times: Times, num_rows: int) -> Array:
    """1 where there are pictures, at least one a second."""
    seen = _inside([(float(times[0]), float(times[-1]))], num_rows)
    for begin, end in pairwise(times):
        if end - begin > 1.0:
            seen[int(begin * RATE) : int(end * RATE) + 1] = 0.0
    return seen


def _small_pictures(reader: VideoReader) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
    reformatter = VideoReformatter()
    for timed in reader.frames():
        try:
            small = reformatter.reformat(
                timed.frame,
                width=_GRID[0],
                height=_GRID[1],
                format="gray",
                interpolation=Interpolation.AREA,
                threads=1,
            )
        except (av.error.FFmpegError, ValueError):
            continue
        yield timed.start_seconds, np.asarray(small.to_ndarray(), np.uint8)


def _compared(times: Times, num_rows: int) -> Iterator[tuple[Places, Places]]:
    """Yield, for parts of the grid, which picture is nearest to just before and to just after each row.

    Pictures 0.12 s apart are compared, so that repeated pictures and other frame rates change little.
    """
    between = (times[1:] + times[:-1]) / 2
    for begin in range(0, num_rows, _ROWS_AT_ONCE):
        moments = np.arange(begin, min(begin + _ROWS_AT_ONCE, num_rows)) / RATE
        yield np.searchsorted(between, moments - _APART / 2), np.searchsorted(between, moments + _APART / 2)


def _of_whole(before: Array, after: Array) -> Array:
    """(J, h, w) pictures to (J, 3): log of the mean change, of the largest changes, and of brightness."""
    changes = np.abs(after - before).reshape(len(before), -1)
    most = changes.shape[1] // 10
    strongest = np.partition(changes, -most, axis=1)[:, -most:].mean(axis=1)
    levels = after.mean(axis=(1, 2)) - before.mean(axis=(1, 2))
    columns = (np.log(changes.mean(axis=1) + 0.2), np.log(strongest + 0.5), levels)
    return np.stack(columns, axis=1).astype(np.float32)


def _of_parts(before: Array, after: Array) -> Array:
    """(J, h, w) pictures to (J, 60): brightness of 8 x 6 parts, and log of the mean change of 4 x 3."""
    changes = np.log(_blocks(np.asarray(np.abs(after - before)), 4, 3) + np.float32(0.5))
    return np.concatenate([_blocks((before + after) * np.float32(0.5), 8, 6), changes], axis=1)


def _blocks(pictures: Array, across: int, down: int) -> Array:
    """Mean of each part."""
    shape = (len(pictures), down, _GRID[1] // down, across, _GRID[0] // across)
    return np.asarray(pictures.reshape(shape).mean(axis=(2, 4)).reshape(len(pictures), -1))


def _inside(spans: tuple[Span, ...] | list[Span], num_rows: int) -> Array:
    """1 for rows inside the spans, their edges left out."""
    inside = np.zeros(num_rows, np.float32)
    for begin, end in spans:
        first, last = (begin + _EDGE_SECONDS) * RATE, (end - _EDGE_SECONDS) * RATE
        inside[max(0, int(first)) : max(0, int(last))] = 1.0
    return inside


def _whitened(values: Array, active: Array) -> Features:
    """Remove the local mean of each column and divide by its local spread."""
    weights = active[:, None].astype(np.float64)
    centred = (values - _local_mean(values, weights, _MEAN_SECONDS)) * weights
    spread = np.sqrt(_local_mean(centred**2, weights, _SPREAD_SECONDS))
    overall = np.sqrt((centred**2).sum(axis=0) / max(weights.sum(), 1.0))
    rows = np.clip(centred / (spread + 0.05 * overall + 1e-6), -_LARGEST, _LARGEST)
    moves = np.abs(rows).max(axis=1) > 1e-3
    return Features(rows=rows.astype(np.float32), active=(active * moves).astype(np.float32))


def _local_mean(
    values: npt.NDArray[np.floating], weights: npt.NDArray[np.float64], seconds: float
) -> npt.NDArray[np.float64]:
    """Weighted mean over a window around each row."""
    half = round(seconds * RATE / 2)
    begins = np.clip(np.arange(len(values)) - half, 0, None)
    ends = np.clip(np.arange(len(values)) + half + 1, None, len(values))

    def windows(of: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        sums = np.concatenate([np.zeros((1, of.shape[1])), np.cumsum(of, axis=0)])
        return np.asarray(sums[ends] - sums[begins])

    return windows(values * weights) / np.maximum(windows(weights), 1.0)
