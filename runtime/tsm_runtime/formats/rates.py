"""Frame rates of videos, for formats that count frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import av

from tsm_runtime.errors import UsageError
from tsm_runtime.results import Result


def frame_rates(
    results: Sequence[Result], format_: str, media: Mapping[str, Path], frame_rate: float | None
) -> dict[str, float]:
    """Return frames per second by video id: the given rate, else that of the video's file.

    Raises:
        UsageError: neither is known; the message names the video.
    """
    return {
        result.video_id: frame_rate or _rate_of(result.video_id, format_, media.get(result.video_id))
        for result in results
    }


def _rate_of(video_id: str, format_: str, path: Path | None) -> float:
    rate = None
    if path is not None:
        try:
            with av.open(str(path)) as container:
                rate = container.streams.video[0].average_rate
        except (OSError, IndexError):
            rate = None
    if not rate:
        raise UsageError(
            f"format {format_} counts frames, and the frame rate of video {video_id!r} is unknown;"
            " give --frame-rate"
        )
    return float(rate)
