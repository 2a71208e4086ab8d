"""The video with its segments burnt in: labels while they are on, and a time line along the bottom."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import av

from tsm_runtime.errors import RunError, UsageError, VideoError
from tsm_runtime.files import is_folder
from tsm_runtime.outputs.base import Sink, SinkAround, without_arrays
from tsm_runtime.outputs.class_colors import color_slots
from tsm_runtime.outputs.output_names import check_second_output
from tsm_runtime.outputs.painter import Painter, require_font
from tsm_runtime.outputs.video_writer import (
    SoundCopy,
    add_h264_stream,
    encoder_frame,
    pixel_aspect,
    upright_picture,
    zero_of,
)
from tsm_runtime.results import Result
from tsm_runtime.video.finding import VideoInput
from tsm_runtime.video.opening import open_file
from tsm_runtime.video.reader import VideoReader
from tsm_runtime.wording import counted

_log = logging.getLogger("tsm_runtime")

OVERLAY_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
"""Containers that take H.264 and the usual sound."""


# --- what the command line needs ------------------------------------------------------------------


def check_overlay(path: Path, inputs: Sequence[VideoInput], output: str | None) -> None:
    """Check `--overlay` before the run.

    Raises:
        UsageError: several videos, a suffix of another container, no such folder, or a name in use.
        BackendError: Pillow is not installed.
    """
    if overlay_in_folder(path):
        _check_folder(path, inputs)
    elif len(inputs) > 1:
        raise UsageError(
            f"--overlay {path}: one file for {len(inputs)} videos; give a folder: --overlay FOLDER/"
        )
    else:
        check_second_output("--overlay", path, OVERLAY_SUFFIXES, inputs, output)
    require_font()


def overlay_in_folder(path: Path) -> bool:
    """Return whether an overlay is a folder, with a file per video: any name without a video's suffix."""
    return is_folder(path) or (path.suffix.lower() not in OVERLAY_SUFFIXES and not path.suffix)


def overlay_path(path: Path, video_id: str) -> Path:
    """Return the file of a video's overlay."""
    return path / f"{video_id}{OVERLAY_SUFFIXES[0]}" if overlay_in_folder(path) else path


def _check_folder(path: Path, inputs: Sequence[VideoInput]) -> None:
    if (path.exists() and not is_folder(path)) or not is_folder(path.absolute().parent):
        raise UsageError(f"--overlay {path}: is a file, or there is no folder {path.parent}")
    for video in inputs:
        target = overlay_path(path, video.video_id).resolve()
        if any(target == other.path.resolve() for other in inputs):
            raise UsageError(f"--overlay {path}: would replace {video.path}; choose another folder")
        if not target.is_relative_to(path.resolve()):
            raise UsageError(f"--overlay {path}: video id {video.video_id!r} leads out of the folder")


class OverlaySink(SinkAround):
    """Writes overlays at the end, when all labels are known: each has one colour in all files.

    Args:
        sink: receives the results first.
        videos: file by video id.
        path: a file, or a folder for a file per video.
        quiet: log no warnings.
    """

    def __init__(self, sink: Sink, videos: Mapping[str, Path], path: Path, *, quiet: bool = False) -> None:
        super().__init__(sink)
        self._videos, self._path, self._quiet = videos, path, quiet
        self._results: list[Result] = []
        self._failed: list[str] = []

    def add(self, result: Result) -> None:
        """Keep the result, and pass it on."""
        self._results.append(without_arrays(result))
        super().add(result)

    def close(self) -> None:
        """Close the other sink, then write the overlays.

        Raises:
            RunError: an overlay cannot be written; in a folder the others are.
        """
        super().close()
        slots = color_slots(s.label for result in self._results for s in result.segments)
        for result in self._results:
            self._write(result, overlay_path(self._path, result.video_id), slots)
        if self._failed:
            number = counted(len(self._failed), "overlay")
            raise RunError(f"{number} not written; the first: {self._failed[0]}")

    def _write(self, result: Result, path: Path, slots: Mapping[str, int]) -> None:
        """Write one file; in a folder a failure is kept for the end."""
        try:
            if overlay_in_folder(self._path):
                path.parent.mkdir(parents=True, exist_ok=True)
            for line in write_overlay(self._videos[result.video_id], result, path, slots):
                if not self._quiet:
                    _log.warning(f"{path}: {line}")
        except (OSError, RunError, VideoError) as error:
            if not overlay_in_folder(self._path):
                raise
            self._failed.append(str(error))


# --- the file -------------------------------------------------------------------------------------


def write_overlay(
    video: Path, result: Result, path: Path, slots: Mapping[str, int] | None = None
) -> tuple[str, ...]:
    """Write a video with its segments burnt in: H.264, upright, with the original frame times and sound.

    Time 0 is the first frame. Odd sizes get one more row or column, as H.264 requires. Matroska (.mkv) keeps
    times to the millisecond, the others exactly. Memory does not grow with the length.

    Args:
        video: the video of the result.
        result: result whose segments are shown.
        path: target; written completely or not at all.
        slots: number of the colour of each label; default: chosen for this video.

    Returns:
        Warnings: one for each sound stream that the container cannot hold.

    Raises:
        VideoError: the video cannot be read.
        BackendError: Pillow is not installed.
        RunError: the file could not be written.
    """
    try:
        # A temporary folder: the name must keep its suffix, and leftovers are removed with the folder.
        with tempfile.TemporaryDirectory(prefix=".tsm-", dir=path.resolve().parent) as folder:
            temporary = Path(folder) / f"overlay{path.suffix.lower()}"
            warnings = _write(video, result, temporary, slots)
            temporary.replace(path.resolve())
    except (av.error.FFmpegError, OSError) as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    return warnings


def _write(video: Path, result: Result, path: Path, slots: Mapping[str, int] | None) -> tuple[str, ...]:
    with ExitStack() as stack:
        reader = stack.enter_context(VideoReader(video))
        frames = reader.frames()
        first = next(frames, None)
        if first is None:
            raise VideoError(f"{video}: no frame of the video stream could be decoded")
        upright_first = upright_picture(first.frame, first.frame.width, first.frame.height)
        height, width = upright_first.shape[:2]
        length = max(result.duration_seconds, reader.claimed_seconds or 0.0)
        painter = Painter(width, height, result.segments, length, slots)
        out = stack.enter_context(av.open(str(path), "w"))
        stream = add_h264_stream(out, first, width, height)
        source = stack.enter_context(open_file(video))
        aspect = pixel_aspect(source, turned=height != first.frame.height)
        stream.codec_context.sample_aspect_ratio = aspect
        sound = SoundCopy(source, out, zero_of(first))
        last_ticks = -1
        for timed in chain([first], frames):
            picture = upright_picture(timed.frame, first.frame.width, first.frame.height)
            painter.paint(picture, timed.start_seconds)
            encoded = encoder_frame(picture, timed, stream.codec_context.time_base, last_ticks)
            last_ticks = encoded.pts or 0
            out.mux(stream.encode(encoded))
            sound.copy_until(timed.start_seconds)
        out.mux(stream.encode())
        sound.copy_until(math.inf)
    return sound.warnings
