"""Clips of real videos for calibration, decoded and cut as the runtime does it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tsm_runtime.clips.options import ClipOptions
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.video.crop import Crop
from tsm_runtime.video.panorama import windows_of
from tsm_runtime.video.reader import VideoReader
from tsm_runtime.wording import counted
from tsm_train.config import Config

_log = logging.getLogger("tsm_runtime")

NUM_CLIPS = 160
"""Requested number of clips: 252 MB of frames at T = 8 and 256 pixels."""

_SEEK_OVER_SECONDS = 20.0
"""Between clips that are nearer than this, decoding on is faster than a seek to a key frame."""

_MOST_VIDEOS = 4 * NUM_CLIPS
"""Videos whose length is looked up; of more than these some are chosen by chance."""


def calibration_clips(
    videos: Sequence[Path], looks: ClipSpec | Sequence[ClipSpec], *, number: int = NUM_CLIPS, seed: int = 0
) -> npt.NDArray[np.uint8]:
    """Return clips that are spread evenly over the videos and their time.

    All intervals of all videos are laid end to end, and one is taken at each of `number` evenly spaced
    places, the first of which `seed` chooses. Where they lie far apart, only what is around them is decoded.
    Of several looks each place takes the next one, in turn. Videos that cannot be read are logged and left
    out.

    Args:
        videos: files, in any order.
        looks: what the model takes; of windows of panoramas, or of both eyes, a spec for each.
        number: of clips, at most.
        seed: same seed, same clips.

    Returns:
        (M, T, size, size, 3) uint8, M at most `number`, in the order of videos and time.

    Raises:
        UsageError: no clip came out.
    """
    specs = (looks,) if isinstance(looks, ClipSpec) else tuple(looks)
    spec, rng = specs[0], np.random.default_rng(seed)
    chosen = sorted(videos)
    if len(chosen) > _MOST_VIDEOS:
        chosen = [chosen[i] for i in sorted(rng.permutation(len(chosen))[:_MOST_VIDEOS])]
    counts = [_count_intervals(video, spec) for video in chosen]
    starts = np.cumsum(counts) - counts
    places = spread_places(int(np.sum(counts)), number, float(rng.random()))
    clips: list[npt.NDArray[np.uint8]] = []
    turns = np.arange(len(places)) % len(specs)
    for video, start, count in zip(chosen, starts, counts, strict=True):
        inside = (start <= places) & (places < start + count)
        for turn, each in enumerate(specs):
            clips += _read_clips(video, (places[inside & (turns == turn)] - start).tolist(), each)
    if not clips:
        raise UsageError(
            f"no clip of {spec.interval_seconds:g} s for calibration in {counted(len(videos), 'video')};"
            " give others: --calibrate FOLDER"
        )
    return np.stack(clips)


def looks_of(config: Config) -> tuple[ClipSpec, ...]:
    """Return what a run's model sees of a video: all windows of a panorama, both eyes, or the one picture."""
    spec, data = config.clip_spec, config.data
    crops: tuple[Crop, ...] = (spec.crop,)
    if config.clip.projection:
        crops = windows_of(config.clip.projection)
    elif data.eyes == "both" and set(data.views) == {"binocular"}:
        crops = ("left", "right")
    return tuple(replace(spec, crop=crop) for crop in crops)


def spread_places(total: int, number: int, start: float) -> npt.NDArray[np.int64]:
    """Return at most `number` different whole numbers below `total`, evenly spaced.

    >>> spread_places(10, 4, 0.5)
    array([1, 3, 6, 8])
    """
    wanted = min(number, total)
    start = min(start, 1 - 1e-6)  # nearer to 1, a sum with a place would be rounded up
    return ((start + np.arange(wanted)) * total / max(wanted, 1)).astype(np.int64)


def _count_intervals(video: Path, spec: ClipSpec) -> int:
    """Return how many intervals a video has by its header; one without a length counts as one."""
    try:
        with VideoReader(video) as reader:
            claimed = reader.claimed_seconds
    except VideoError as error:
        _log.warning(f"not calibrated on: {error}")
        return 0
    return 1 if claimed is None else spec.num_intervals(claimed)


def _read_clips(video: Path, intervals: Sequence[int], spec: ClipSpec) -> list[npt.NDArray[np.uint8]]:
    """Return the clips of some intervals, in order of time, without those that the video does not have."""
    stride = spec.stride_seconds
    clips: list[npt.NDArray[np.uint8]] = []
    for near in _near_ones(intervals, round(_SEEK_OVER_SECONDS / stride)):
        end = (near[-1] + spec.num_overlapping) * stride
        part = ClipOptions(start_seconds=near[0] * stride, end_seconds=end)
        try:
            with VideoReader(video) as reader:
                for batch in ClipStream(reader, spec, part):
                    clips += [batch.frames[0]] if batch.indices[0] in near else []
        except VideoError as error:
            _log.warning(f"not calibrated on: {error}")
    return clips


def _near_ones(intervals: Sequence[int], most: int) -> list[list[int]]:
    """Group increasing numbers such that neighbours in a group differ by `most` or less.

    >>> _near_ones([1, 3, 8, 9], 2)
    [[1, 3], [8, 9]]
    """
    groups: list[list[int]] = []
    for interval in intervals:
        if groups and interval - groups[-1][-1] <= most:
            groups[-1].append(interval)
        else:
            groups.append([interval])
    return groups
