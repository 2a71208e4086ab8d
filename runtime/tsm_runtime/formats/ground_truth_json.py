"""Writing of ground truth as ActivityNet `database` JSON, which training and evaluation read."""

from __future__ import annotations

from collections.abc import Sequence

from tsm_runtime.formats.detection_json import layout
from tsm_runtime.formats.ground_truth import VideoAnnotation
from tsm_runtime.formats.text import rounded


def truth_to_json(videos: Sequence[VideoAnnotation], subset: str) -> bytes:
    """Return the annotations of videos as JSON.

    Args:
        videos: in the order of the file.
        subset: of videos that have none.
    """
    database = {video.video_id: _entry(video, subset) for video in videos}
    document = {"version": "tsm-tal 1", "taxonomy": [], "database": database}
    return (layout(document) + "\n").encode("utf-8", "backslashreplace")


def _entry(video: VideoAnnotation, subset: str) -> dict[str, object]:
    known = {"duration": video.duration_seconds, "scene": video.scene}
    return {
        "subset": video.subset or subset,
        **{name: value for name, value in known.items() if value is not None},
        "annotations": [
            {"label": s.label, "segment": [rounded(s.start_seconds), rounded(s.end_seconds)]}
            for s in video.segments
        ],
    }
