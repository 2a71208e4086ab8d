"""Content of a file of segments: results by video id, and the provenance in the file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tsm_runtime.formats.detection_json import read_scene_scores, with_provenance
from tsm_runtime.results import Result, SceneScore, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFile:
    """A file of segments.

    Args:
        sha256: SHA-256 of the file's bytes.
        results: results by video id; data missing in the file are unknown, see `Result`.
        external_data: `external_data` of the file, without the part per video; empty for other formats than
            JSON.
    """

    path: Path
    sha256: str
    results: Mapping[str, Result]
    external_data: object = None

    @property
    def segments(self) -> dict[str, tuple[Segment, ...]]:
        """Segments by video id."""
        return {video_id: result.segments for video_id, result in self.results.items()}

    @property
    def labels(self) -> set[str]:
        """Labels of the segments."""
        return {segment.label for result in self.results.values() for segment in result.segments}

    @property
    def scene_labels(self) -> set[str]:
        """Labels of the scenes."""
        return {scene.label for result in self.results.values() for scene in result.scenes}

    @property
    def bundle_sha256(self) -> str:
        """Hash of the bundle that made the file, or empty."""
        return self._of_model("bundle_sha256")

    @property
    def view(self) -> str:
        """View that the bundle which made the file was trained on, or empty."""
        return self._of_model("view")

    @property
    def is_on_time_line(self) -> bool:
        """Whether the segments are on the time lines of captures: `tsm-run` ran on captures."""
        return isinstance(self.external_data, dict) and "captures" in self.external_data

    def with_results(self, results: Mapping[str, Result]) -> ResultFile:
        """Return the file with other results."""
        return replace(self, results=results)

    def _of_model(self, key: str) -> str:
        model = self.external_data.get("model") if isinstance(self.external_data, dict) else None
        found = model.get(key) if isinstance(model, dict) else None
        return found if isinstance(found, str) else ""


def results_of(
    path: Path, segments: Mapping[str, Sequence[Segment]], content: object
) -> tuple[dict[str, Result], object]:
    """Return the results of a file by video id, and its `external_data`.

    Args:
        path: path for errors.
        segments: segments by video id.
        content: content of a JSON file, from which scenes and provenance are read; else None.

    Raises:
        UsageError: a scene is wrong.
    """
    document = content if isinstance(content, dict) else {}
    external = document.get("external_data")
    videos = external.get("videos") if isinstance(external, dict) else None
    scenes = read_scene_scores(path, document)
    provenance = videos if isinstance(videos, dict) else {}
    results = {
        video_id: with_provenance(
            result_of_segments(video_id, found, scenes.get(video_id, ())), provenance.get(video_id)
        )
        for video_id, found in segments.items()
    }
    return results, _without_videos(external)


def result_of_segments(
    video_id: str, segments: Sequence[Segment], scenes: Sequence[SceneScore] = ()
) -> Result:
    """Return a result of which only the segments and scenes are known."""
    return Result(
        video_id=video_id,
        segments=tuple(segments),
        scenes=tuple(scenes),
        interval_seconds=0.0,
        num_intervals=0,
        duration_seconds=0.0,
        complete=None,
        gaps=(),
        corrupt_frames=0,
        warnings=(),
    )


def _without_videos(external: object) -> object:
    if not isinstance(external, dict):
        return _strict(external)
    return {key: _strict(value) for key, value in external.items() if key != "videos"}


def _strict(value: object) -> object:
    """Replace NaN and Infinity, which Python programs write but strict readers refuse, by their names."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
