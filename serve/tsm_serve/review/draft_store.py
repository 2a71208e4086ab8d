"""Drafts on disk: a detection JSON per video, and the scores behind it."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from tsm_runtime.errors import RunError, TsmError
from tsm_runtime.files import write_whole
from tsm_runtime.formats.detection_json import (
    read_detection,
    read_detections,
    read_scene_scores,
    results_to_json,
)
from tsm_runtime.results import Result, SceneScore, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Draft of a video: the segments that a model found.

    Args:
        model: SHA-256 of its bundle's manifest, or the name of the file of segments it was read from.
        duration_seconds: of the video, or None where the source does not state it.
    """

    segments: tuple[Segment, ...]
    scenes: tuple[SceneScore, ...] = ()
    model: str = ""
    duration_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredScores:
    """Scores of a video's intervals.

    Args:
        action: (K, A) probabilities; `labels` are those of its columns.
        starts: (K,) seconds at which the intervals begin, each `cell_seconds` long.
    """

    action: npt.NDArray[np.float32]
    starts: npt.NDArray[np.float64]
    cell_seconds: float
    labels: tuple[str, ...]


class DraftStore:
    """Drafts by video id. Threads may use it at once.

    Args:
        folder: where they are kept; made by the first `put`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._drafts = dict(self._read_all())

    def get(self, video_id: str) -> Draft | None:
        """Return a video's draft."""
        with self._lock:
            return self._drafts.get(video_id)

    def add_segments(self, found: Mapping[str, list[Segment]], source: str) -> None:
        """Take segments of a file as drafts, in memory alone, where there is none yet."""
        with self._lock:
            for video_id, segments in found.items():
                self._drafts.setdefault(video_id, Draft(segments=tuple(segments), model=source))

    def put(self, result: Result, labels: tuple[str, ...], model: str) -> None:
        """Keep a model's result.

        Raises:
            RunError: it could not be written; in memory it is there all the same.
        """
        draft = Draft(
            segments=result.segments,
            scenes=result.scenes,
            model=model,
            duration_seconds=result.duration_seconds,
        )
        try:
            self._store(result, model, labels)
        finally:
            with self._lock:
                self._drafts[result.video_id] = draft

    def _store(self, result: Result, model: str, labels: tuple[str, ...]) -> None:
        path = self._path(result.video_id)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot write {path.parent}: {error.strerror or error}") from error
        write_whole(path, results_to_json([result], {"model": model}))
        if result.scores is not None:
            _write_scores(path.with_suffix(".npz"), result, labels)

    def scores(self, video_id: str) -> StoredScores | None:
        """Return the scores of a video's draft, or None where none were stored."""
        try:
            with np.load(self._path(video_id).with_suffix(".npz"), allow_pickle=False) as data:
                return StoredScores(
                    action=data["action"],
                    starts=data["starts"],
                    cell_seconds=float(data["cell_seconds"]),
                    labels=tuple(str(label) for label in data["labels"]),
                )
        except (OSError, KeyError, ValueError):
            return None

    def _path(self, video_id: str) -> Path:
        return self.folder / f"{quote(video_id, safe='')}.json"

    def _read_all(self) -> dict[str, Draft]:
        drafts: dict[str, Draft] = {}
        for path in sorted(self.folder.glob("*.json")) if self.folder.is_dir() else []:
            try:
                drafts |= _read(path)
            except (TsmError, OSError, ValueError):
                continue  # a draft that cannot be read is made again
        return drafts


def _read(path: Path) -> dict[str, Draft]:
    content: Any = json.loads(path.read_text("utf-8"))
    scenes = read_scene_scores(path, content)
    about = content.get("external_data", {})
    videos = about.get("videos", {})
    return {
        video_id: Draft(
            segments=tuple(segments),
            scenes=tuple(scenes.get(video_id, ())),
            model=str(about.get("model", "")),
            duration_seconds=videos.get(video_id, {}).get("duration"),
        )
        for video_id, segments in read_detections(path, content, read_detection).items()
    }


def _write_scores(path: Path, result: Result, labels: tuple[str, ...]) -> None:
    import io

    assert result.scores is not None
    buffer = io.BytesIO()
    np.savez(
        buffer,
        action=result.scores.action,
        starts=result.scores.indices * result.cell_seconds,
        cell_seconds=np.float64(result.cell_seconds),
        labels=np.array(labels),
    )
    write_whole(path, buffer.getvalue())
