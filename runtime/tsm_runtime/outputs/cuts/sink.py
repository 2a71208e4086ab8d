"""A sink that also cuts what was found out of the videos."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import av

from tsm_runtime.errors import RunError, UsageError, VideoError
from tsm_runtime.files import write_whole
from tsm_runtime.formats.csv_table import csv_cell
from tsm_runtime.formats.text import rounded
from tsm_runtime.outputs.base import Sink, SinkAround
from tsm_runtime.outputs.cuts.exact import encode_spans
from tsm_runtime.outputs.cuts.names import FileNames, safe_name
from tsm_runtime.outputs.cuts.spans import CutRequest, Span, spans_of
from tsm_runtime.outputs.cuts.stream_copy import can_copy, copy_spans
from tsm_runtime.results import Result, Segment
from tsm_runtime.video.finding import VideoInput
from tsm_runtime.wording import counted

_log = logging.getLogger("tsm_runtime")

LIST_NAME = "clips.csv"
_COLUMNS = ("file", "at", "video", "label", "start", "end", "score")
_ENCODED_SUFFIX = ".mp4"


def check_cuts(request: CutRequest, inputs: Sequence[VideoInput]) -> None:
    """Check `--clips` before the run.

    Raises:
        UsageError: it is a file, or a folder that holds one of the videos.
    """
    if request.folder.exists() and not request.folder.is_dir():
        raise UsageError(f"--clips {request.folder}: is a file; give a folder")
    folder = request.folder.resolve()
    if any(video.path.resolve().parent == folder for video in inputs):
        raise UsageError(f"--clips {request.folder}: the videos lie there; choose another folder")


class CutSink(SinkAround):
    """Cuts a video's segments when its result comes; `clips.csv` is written at the end."""

    def __init__(self, sink: Sink, request: CutRequest, inputs: Sequence[VideoInput]) -> None:
        super().__init__(sink)
        self._request = request
        self._videos = {video.video_id: video.path for video in inputs}
        self._names = FileNames()
        self._rows: list[str] = []
        self._failed: list[str] = []

    def add(self, result: Result) -> None:
        """Pass the result on, then write its segments as video files."""
        super().add(result)
        video = self._videos.get(result.video_id)
        if video is None or not result.segments:
            return
        spans = spans_of(result.segments, self._request, result.duration_seconds)
        groups = [spans] if self._request.reel else [[span] for span in spans]
        exact = self._request.exact or not can_copy(video) or bool(result.discontinuities)
        if exact and not self._request.exact:
            _log.warning(f"{video}: its container or clock does not allow copies; cut with encoding")
        for number, group in enumerate(groups, start=1):
            stem = _stem(result.video_id, number, group, is_reel=self._request.reel)
            self._cut(video, result.video_id, group, stem, exact=exact)

    def close(self) -> None:
        """Close the other sink, then write the list of files.

        Raises:
            RunError: a file of video was not written.
        """
        super().close()
        if self._rows or self._request.folder.is_dir():
            self._request.folder.mkdir(parents=True, exist_ok=True)
            lines = [",".join(_COLUMNS), *self._rows]
            write_whole(self._request.folder / LIST_NAME, "\n".join(lines) + "\n")
        if self._failed:
            raise RunError(f"{counted(len(self._failed), 'clip')} not written; the first: {self._failed[0]}")

    def _cut(self, video: Path, video_id: str, spans: Sequence[Span], stem: str, *, exact: bool) -> None:
        """Write one file, whole or not at all; a failure is kept for the end."""
        suffix = _ENCODED_SUFFIX if exact else video.suffix.lower()
        folder = self._request.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # A temporary folder: the name must keep its suffix, and leftovers are removed with the folder.
            with tempfile.TemporaryDirectory(prefix=".tsm-", dir=folder) as temporary:
                path = Path(temporary) / f"clip{suffix}"
                begun = (encode_spans if exact else copy_spans)(video, spans, path)
                name = self._names.unique(stem, suffix)
                path.replace(folder / name)
        except (av.error.FFmpegError, OSError, VideoError, ValueError) as error:
            self._failed.append(f"{stem}{suffix}: {getattr(error, 'strerror', None) or error}")
            return
        for span, (origin, at) in zip(spans, begun, strict=True):
            self._rows += [_row(name, video_id, segment, at - origin) for segment in span.segments]


def _row(name: str, video_id: str, segment: Segment, shift: float) -> str:
    start, end = segment.start_seconds, segment.end_seconds
    numbers = [repr(rounded(number)) for number in (start + shift, start, end, segment.score)]
    return ",".join([csv_cell(name), numbers[0], csv_cell(video_id), csv_cell(segment.label), *numbers[1:]])


def _stem(video_id: str, number: int, spans: Sequence[Span], *, is_reel: bool) -> str:
    name = safe_name(video_id)
    if is_reel:
        return f"{name}_reel"
    (segment,) = spans[0].segments
    return f"{name}_{number:03}_{safe_name(segment.label)}"
