"""Lengths and clocks as files state them."""

from __future__ import annotations

from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from tsm_runtime.video.clock import NEW_CLOCK_SECONDS
from tsm_runtime.video.opening import open_file

_HEADER_STATES_LENGTH = frozenset({"asf", "avi", "flv", "matroska", "mov"})
"""Formats whose header states the length; for others FFmpeg estimates it from the data."""

_SMALL_STEP_SECONDS = 0.1
"""A decoding time that steps back by more indicates a restart of the clock."""


def has_one_clock(path: Path, allow_playlists: bool) -> bool:
    """Return whether decoding times have no jump; reads the file without decoding."""
    last: dict[int, float] = {}
    try:
        with open_file(path, allow_playlists=allow_playlists) as container:
            for packet in container.demux():
                if packet.dts is None or not packet.time_base:
                    continue
                now = float(packet.dts * packet.time_base)
                step = now - last.get(packet.stream_index, now)
                if not -_SMALL_STEP_SECONDS < step < NEW_CLOCK_SECONDS:
                    return False
                last[packet.stream_index] = now
    except av.error.FFmpegError:
        return False
    return True


def claimed_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """Return the length in seconds of a stream as the header states or FFmpeg estimates it, or None."""
    if stream.duration is not None and stream.time_base:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


def stated_seconds(container: InputContainer, stream: VideoStream) -> float:
    """Return the length in seconds stated by the header; 0 if it states none."""
    kind = container.format.name.split(",")[0]
    if kind not in _HEADER_STATES_LENGTH or (kind == "mov" and stream.frames):
        return 0.0  # a movie that is not fragmented has an exact index
    if kind == "avi" and stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)  # FFmpeg shortens the length of a truncated AVI
    return (container.duration or 0) / av.time_base
