"""Scores of annotated videos for several windows and strides, each video decoded once and stored."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np

from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import VideoError
from tsm_runtime.files import write_whole
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run
from tsm_runtime.results import IntervalScores
from tsm_runtime.segments.rules import SegmentRules

CellScores = dict[ClipSpec, dict[str, IntervalScores]]
"""Scores of cells, not smoothed, by spec and video id. A video that a spec gave no interval of is missing."""


def score_videos(
    member: Member,
    videos: Mapping[str, Path],
    specs: Sequence[ClipSpec],
    *,
    store: Path,
    batch_size: int = 8,
    progress: Callable[[str], None] | None = None,
) -> CellScores:
    """Score every video with one model on several grids; what `store` holds already is read from there.

    Args:
        member: the model; its own spec and rules do not matter.
        videos: file of each video id.
        specs: grids of intervals.
        store: folder of this model's scores, a file for each video and spec; scores of another model in it
            would be taken for this one's.
        batch_size: clips per call of the model.
        progress: called with the id of each video that has to be scored.

    Raises:
        VideoError: a video cannot be read, or has no whole interval.
        RunError: the model gave scores that are not numbers, or a file cannot be written.
    """
    store.mkdir(parents=True, exist_ok=True)
    scores: CellScores = {spec: {} for spec in specs}
    for video_id, path in videos.items():
        missing = []
        for spec in specs:
            kept = _read(store / _file_name(video_id, spec))
            if kept is None:
                missing.append(spec)
            else:
                scores[spec][video_id] = kept
        if missing and progress is not None:
            progress(video_id)
        for spec, found in _scored(member, path, missing, batch_size).items():
            scores[spec][video_id] = found
            write_whole(store / _file_name(video_id, spec), _to_bytes(found))
    return scores


def _scored(
    member: Member, path: Path, specs: Sequence[ClipSpec], batch_size: int
) -> Mapping[ClipSpec, IntervalScores]:
    if not specs:
        return {}
    rules = SegmentRules(thresholds=member.rules.thresholds)
    members = [replace(member, spec=spec, rules=rules) for spec in specs]
    result = run(path, members, Options(batch_size=batch_size))
    found = {}
    for spec, own in zip(specs, result.members or (result,), strict=True):
        if own is None or own.scores is None:
            raise VideoError(f"{path}: no whole interval of {spec.interval_seconds:g} s")
        found[spec] = own.scores
    return found


def _file_name(video_id: str, spec: ClipSpec) -> str:
    seconds = (spec.interval_seconds, spec.window_seconds, spec.stride_seconds)
    return f"{quote(video_id, safe='')}.{'-'.join(f'{value:.6g}' for value in seconds)}.npz"


def _to_bytes(scores: IntervalScores) -> bytes:
    data = io.BytesIO()
    scene = np.zeros((len(scores.indices), 0), np.float32) if scores.scene is None else scores.scene
    np.savez_compressed(
        data,
        indices=scores.indices,
        action=scores.action,
        scene=scene,
        breaks=np.array(sorted(scores.breaks), np.int64),
    )
    return data.getvalue()


def _read(path: Path) -> IntervalScores | None:
    """Read stored scores; a file that is not there or damaged is as if there were none."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as data:
            scene = data["scene"]
            return IntervalScores(
                indices=data["indices"],
                action=data["action"],
                scene=scene if scene.shape[1] else None,
                breaks=frozenset(data["breaks"].tolist()),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
