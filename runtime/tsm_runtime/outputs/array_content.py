"""Arrays and table rows of a result: scores of intervals and frames, or features of frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tsm_runtime.errors import UsageError
from tsm_runtime.formats.parquet import require_pyarrow
from tsm_runtime.results import FrameScores, Result

Arrays = Mapping[str, npt.NDArray[np.generic]]

_KINDS = ("interval", "frame")
_DETAILS = ("actionness", "to_start", "to_end")


@dataclass(frozen=True, slots=True)
class ScoreContent:
    """Scores of the intervals of each video, and those of its frames if the result has them.

    Args:
        action_labels, scene_labels: of the model.
    """

    action_labels: tuple[str, ...]
    scene_labels: tuple[str, ...] = ()

    @property
    def common(self) -> Arrays:
        """Labels, in the order of the scores: arrays that hold for all videos."""
        scene_labels = np.array(self.scene_labels, dtype=np.str_)
        return {"action_labels": np.array(self.action_labels), "scene_labels": scene_labels}

    @property
    def header(self) -> list[str]:
        """Columns of `rows`: video, kind of row, bounds in seconds, and a column for each action."""
        return ["video", "kind", "start", "end", *self.action_labels]

    def arrays(self, result: Result) -> Arrays:
        """Return `interval_seconds` (K, 2), `interval_scores` (K, A), `frame_seconds` (F, 2) and so on."""
        found: dict[str, npt.NDArray[np.generic] | None] = {}
        if (scores := result.scores) is not None:
            found["interval_seconds"] = _bounds(scores.indices, result.cell_seconds)
            found["interval_scores"], found["scene_scores"] = scores.action, scores.scene
        if (frames := result.frames) is not None:
            found["frame_seconds"] = _bounds(frames.indices, frames.step_seconds)
            found["frame_scores"] = frames.action
            found["actionness"], found["distances"] = frames.actionness, frames.distances
        return {name: array for name, array in found.items() if array is not None}

    def rows(self, result: Result) -> Iterator[list[str | float]]:
        """Yield a row for each interval, then for each frame."""
        arrays = self.arrays(result)
        for kind in _KINDS:
            if f"{kind}_scores" in arrays:
                bounds, scores = arrays[f"{kind}_seconds"].tolist(), arrays[f"{kind}_scores"].tolist()
                yield from ([result.video_id, kind, *b, *s] for b, s in zip(bounds, scores, strict=True))

    def table(self, result: Result) -> Any:
        """Return the columns of `header`, and actionness and distances, which are null for intervals."""
        pa = require_pyarrow()
        arrays = self.arrays(result)
        kinds = [kind for kind in _KINDS if f"{kind}_scores" in arrays]
        bounds = np.concatenate([arrays[f"{kind}_seconds"] for kind in kinds])
        scores = np.concatenate([arrays[f"{kind}_scores"] for kind in kinds])
        names = [kind for kind in kinds for _ in arrays[f"{kind}_scores"]]
        columns = {
            "video": pa.array([_text(result.video_id)] * len(names)),
            "kind": pa.array(names),
            "start": bounds[:, 0],
            "end": bounds[:, 1],
            **dict(zip(self.action_labels, scores.T, strict=True)),
            **_details(result.frames, len(names)),
        }
        return pa.table(columns)

    def check_columns(self) -> None:
        """Check that the columns of `table` have different names.

        Raises:
            UsageError: an action is called as another column.
        """
        if taken := {"video", "kind", "start", "end", *_DETAILS}.intersection(self.action_labels):
            raise UsageError(f"the action {min(taken)!r} has the name of a column of the table; write .npz")


def _details(frames: FrameScores | None, num_rows: int) -> dict[str, Any]:
    """Return actionness and distances of the last rows, which are those of the frames; others are null."""
    pa = require_pyarrow()
    values = np.full((num_rows, len(_DETAILS)), np.nan, np.float32)
    if frames is not None:
        own = values[num_rows - len(frames) :]
        if frames.actionness is not None:
            own[:, 0] = frames.actionness
        if frames.distances is not None:
            own[:, 1:] = frames.distances
    columns = (pa.array(column, from_pandas=True) for column in values.T)  # nan becomes null
    return dict(zip(_DETAILS, columns, strict=True))


@dataclass(frozen=True, slots=True)
class FeatureContent:
    """Features of the frames of each video.

    Args:
        feature_dim: D.
    """

    feature_dim: int

    @property
    def common(self) -> Arrays:
        """No array holds for all videos."""
        return {}

    @property
    def header(self) -> list[str]:
        """Columns of `rows`: video, bounds in seconds, and a column for each feature."""
        return ["video", "start", "end", *(f"feature_{number}" for number in range(self.feature_dim))]

    def arrays(self, result: Result) -> Arrays:
        """Return `frame_seconds` (F, 2) and `features` (F, D)."""
        features = result.features
        if features is None:
            return {}
        bounds = _bounds(features.indices, features.step_seconds)
        return {"frame_seconds": bounds, "features": features.values}

    def rows(self, result: Result) -> Iterator[list[str | float]]:
        """Yield a row for each frame."""
        arrays = self.arrays(result)
        if arrays:
            bounds, values = arrays["frame_seconds"].tolist(), arrays["features"].tolist()
            yield from ([result.video_id, *b, *v] for b, v in zip(bounds, values, strict=True))

    def table(self, result: Result) -> Any:
        """Return `video`, `start`, `end` and `features`, lists of D numbers."""
        pa = require_pyarrow()
        arrays = self.arrays(result)
        bounds = arrays.get("frame_seconds", np.empty((0, 2)))
        values = arrays.get("features", np.empty((0, self.feature_dim), np.float32))
        lists = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), self.feature_dim)
        video = pa.array([_text(result.video_id)] * len(bounds), pa.string())
        return pa.table({"video": video, "start": bounds[:, 0], "end": bounds[:, 1], "features": lists})


ArrayContent = ScoreContent | FeatureContent
"""What a file holds of results: arrays by name, or a table with a row for each interval or frame."""


def _bounds(indices: npt.NDArray[np.int64], step_seconds: float) -> npt.NDArray[np.float64]:
    return np.stack([indices * step_seconds, (indices + 1) * step_seconds], axis=1)


def _text(name: str) -> str:
    """Return a file's name as UTF-8; other bytes are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()
