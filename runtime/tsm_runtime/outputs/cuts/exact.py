"""Cutting with encoding: from the first to the last frame of a stretch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av

from tsm_runtime.errors import VideoError
from tsm_runtime.outputs.cuts.spans import Span
from tsm_runtime.outputs.video_writer import (
    SoundCopy,
    add_h264_stream,
    encoder_frame,
    pixel_aspect,
    upright_picture,
    zero_of,
)
from tsm_runtime.video.clock import TimedFrame
from tsm_runtime.video.opening import open_file
from tsm_runtime.video.reader import VideoReader

_TOLERANCE_SECONDS = 1e-6


def encode_spans(video: Path, spans: Sequence[Span], path: Path) -> list[tuple[float, float]]:
    """Encode stretches of a video into one file, one after another.

    Pictures are H.264, upright and at their own times; the sound is copied.

    Returns:
        For each stretch the second of the video with which it begins, and where that is in the file.

    Raises:
        VideoError: the video cannot be read, or a stretch has no frame.
        av.error.FFmpegError, OSError: writing fails.
    """
    begun: list[tuple[float, float]] = []
    with ExitStack() as stack:
        first = _first_frame(video)
        width, height = first.frame.width, first.frame.height
        picture = upright_picture(first.frame, width, height)
        out = stack.enter_context(av.open(str(path), "w"))
        stream = add_h264_stream(out, first, picture.shape[1], picture.shape[0])
        source = stack.enter_context(open_file(video))
        aspect = pixel_aspect(source, turned=picture.shape[0] != height)
        stream.codec_context.sample_aspect_ratio = aspect
        sound = SoundCopy(source, out, zero_of(first))
        at, last_ticks = 0.0, -1
        for span in spans:
            origin: float | None = None
            end = at
            for timed in _frames_of(video, span):
                if origin is None:
                    origin = timed.start_seconds
                    begun.append((origin, at))
                    sound.begin_at(Fraction(origin), Fraction(at))
                moved = replace(timed, start_seconds=timed.start_seconds - origin + at)
                shown = upright_picture(timed.frame, width, height)
                encoded = encoder_frame(shown, moved, stream.codec_context.time_base, last_ticks)
                last_ticks = encoded.pts or 0
                out.mux(stream.encode(encoded))
                end = moved.end_seconds
                sound.copy_until(moved.start_seconds)
            if origin is None:
                raise VideoError(f"{video}: no frame from {span.start:g} to {span.end:g} s")
            sound.copy_until(end - _TOLERANCE_SECONDS)
            at = end
        out.mux(stream.encode())
    return begun


def _first_frame(video: Path) -> TimedFrame:
    with VideoReader(video) as reader:
        first = next(reader.frames(), None)
    if first is None:
        raise VideoError(f"{video}: no frame of the video stream could be decoded")
    return first


def _frames_of(video: Path, span: Span) -> Iterator[TimedFrame]:
    """Yield the frames that begin in a stretch; if none does, the one that is shown in it."""
    shown: TimedFrame | None = None
    found = False
    with VideoReader(video) as reader:  # a reader of its own: one that has read does not go back to the start
        for timed in reader.frames(span.start):
            if timed.start_seconds >= span.end - _TOLERANCE_SECONDS:
                break
            if timed.start_seconds < span.start - _TOLERANCE_SECONDS:
                shown = timed
                continue
            found = True
            yield timed
    if not found and shown is not None and shown.end_seconds > span.start:
        yield shown
