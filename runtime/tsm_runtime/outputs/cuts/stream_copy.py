"""Cutting without encoding: packets from the key frame at or before the beginning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet

from tsm_runtime.errors import VideoError
from tsm_runtime.outputs.cuts.spans import Span
from tsm_runtime.outputs.video_writer import PacketTargets, container_takes
from tsm_runtime.video.choosing import choose_stream
from tsm_runtime.video.opening import open_file
from tsm_runtime.video.reader import VideoReader

_MARGINS_SECONDS = (0, 2, 10, 60)
"""Steps back until a seek lands at or before the beginning: containers without index land near it."""

_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".ts", ".mts", ".m2ts"})
"""Containers whose packets have presentation times; others are encoded again."""


def can_copy(video: Path) -> bool:
    """Return whether cuts of a file can be copied, by its container."""
    return video.suffix.lower() in _SUFFIXES


def copy_spans(video: Path, spans: Sequence[Span], path: Path) -> list[tuple[float, float]]:
    """Copy stretches of a video into one file, one after another.

    A stretch begins with the key frame at or before its start, and may end a few frames after its end, where
    pictures are stored in another order than they are shown.

    Returns:
        For each stretch the second of the video with which its copy begins, and where that is in the file.

    Raises:
        VideoError: the video cannot be read, or has no key frame with a time.
        av.error.FFmpegError, OSError: a stream does not go into the container, or writing fails.
    """
    zero = _zero_seconds(video)
    begun = []
    with open_file(video) as source, av.open(str(path), "w") as out:
        stream = choose_stream(source, video)
        kept = [stream, *(sound for sound in source.streams.audio if container_takes(out, sound))]
        targets = PacketTargets(out)
        for each in kept:
            targets.add(each)
        at = Fraction(0)
        for span in spans:
            packets = _packets_from(source, kept, stream, zero + Fraction(span.start), video)
            first = next(packets)
            at = _first_time(first, at, targets)
            begun.append((float(_seconds(first) - zero), float(at)))
            end = _copy(first, packets, targets, at, zero + Fraction(span.end))
            at += end - _seconds(first)
    return begun


def _zero_seconds(video: Path) -> Fraction:
    """Return the time of the first frame on the file's clock."""
    with VideoReader(video) as reader:
        next(reader.frames(), None)
        if reader.zero_seconds is None:
            raise VideoError(f"{video}: its frames have no times; cut it with --clips-exact")
        return Fraction(reader.zero_seconds)


def _seconds(packet: Packet[Any]) -> Fraction:
    return Fraction(packet.pts if packet.pts is not None else packet.dts or 0) * packet.time_base


def _packets_from(
    source: InputContainer, kept: Sequence[Any], stream: Any, seconds: Fraction, video: Path
) -> Iterator[Packet[Any]]:
    """Return the packets from the last key frame of the video at or before a time of the file's clock."""
    latest = seconds + stream.time_base
    for margin in (*_MARGINS_SECONDS, None):
        ticks = 0 if margin is None else max(int((latest - margin) / stream.time_base), 0)
        source.seek(ticks, stream=stream, backward=True)
        best = _last_key(source, stream, latest)
        if best is None and margin is not None:
            continue
        source.seek(ticks, stream=stream, backward=True)
        packets = _from_key(source, kept, stream, best)
        if (first := next(packets, None)) is not None:
            return chain([first], packets)
    raise VideoError(f"{video}: no key frame was found; cut it with --clips-exact")


def _last_key(source: InputContainer, stream: Any, latest: Fraction) -> int | None:
    """Return the time in ticks of the last key frame that is not after a time; None: there is none."""
    best: int | None = None
    for packet in source.demux(stream):
        if not packet.size or packet.dts is None:
            continue
        if packet.dts * packet.time_base > latest:
            break
        if packet.is_keyframe and packet.pts is not None and _seconds(packet) <= latest:
            best = packet.pts
    return best


def _from_key(
    source: InputContainer, kept: Sequence[Any], stream: Any, key: int | None
) -> Iterator[Packet[Any]]:
    """Yield a key frame and what follows, the sound that is stored before it too; None: the first one."""
    found = False
    early: list[Packet[Any]] = []
    for packet in source.demux(*kept):
        if not packet.size or packet.dts is None:
            continue
        if found:
            yield packet
        elif packet.stream_index != stream.index:
            early.append(packet)
        elif packet.is_keyframe and packet.pts is not None and key in (None, packet.pts):
            found = True
            yield packet
            yield from early


def _first_time(first: Packet[Any], at: Fraction, targets: PacketTargets) -> Fraction:
    """Return the output time of a key frame: not before `at`, and decoded after what is there."""
    last = targets.last.get(first.stream_index)
    if last is None:
        return at
    delay = (first.pts or 0) - (first.dts or 0)
    return max(at, (last + 1 + delay) * first.time_base)


def _copy(
    first: Packet[Any],
    packets: Iterator[Packet[Any]],
    targets: PacketTargets,
    at: Fraction,
    end: Fraction,
) -> Fraction:
    """Copy a key frame and what follows up to `end` on the file's clock; return the end of the last frame."""
    origin, reached = _seconds(first), _seconds(first)
    pictures = first.stream_index
    packet: Packet[Any] | None = first
    while packet is not None:
        unit, index = packet.time_base, packet.stream_index
        time = _seconds(packet)
        if index == pictures and (packet.dts or 0) * unit >= end:
            break
        if origin <= time and (index == pictures or time < end):
            length = (packet.duration or 0) * unit
            reached = max(reached, time + length) if index == pictures else reached
            targets.mux(packet, round((origin - at) / unit))
        packet = next(packets, None)
    return reached
