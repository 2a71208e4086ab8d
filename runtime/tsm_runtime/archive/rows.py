"""Rows of `Predictor`: videos in, segments and outcomes out."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from tsm_runtime.archive.addresses import as_address, is_remote
from tsm_runtime.captures.selection import CapturePlan, plan_of_video
from tsm_runtime.errors import VideoError
from tsm_runtime.formats.parquet import require_pyarrow
from tsm_runtime.formats.text import rounded
from tsm_runtime.pipeline.result import VideoOutcome
from tsm_runtime.pipeline.run import CaptureOutcome
from tsm_runtime.results import Result, ranked_scenes
from tsm_runtime.video.finding import VideoInput, default_id


def result_schema(*, outcomes: bool = False) -> Any:
    """Return the columns of the rows of `Predictor` as a pyarrow schema."""
    pa = require_pyarrow()
    segment = [
        ("label", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("score", pa.float64()),
    ]
    columns = [
        ("id", pa.string()),
        ("path", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("duration", pa.float64()),
        ("scene", pa.string()),
        ("scene_score", pa.float64()),
        ("segments", pa.list_(pa.struct(segment))),
        ("bundle", pa.string()),
    ]
    return pa.schema(columns + ([("outcome", pa.binary())] if outcomes else []))


def row_of(outcome: CaptureOutcome, bundle: str) -> dict[str, object]:
    """Return the row of one video or capture: `status` is done, incomplete or failed."""
    row: dict[str, object] = {
        "id": outcome.plan.capture_id,
        "path": as_address(str(outcome.plan.named.path)),
        "bundle": bundle,
        "segments": [],
    }
    result = outcome.result
    if result is None:
        errors = [str(video.error) for video in outcome.videos if video.error is not None]
        return {
            **row,
            "status": "failed",
            "error": as_address("; ".join(errors)) or "no video gave a result",
        }
    best = ranked_scenes(result.scenes)[0] if result.scenes else None
    return {
        **row,
        "status": "done" if result.complete else "incomplete",
        "duration": rounded(result.duration_seconds),
        "scene": best and best.label,
        "scene_score": best and rounded(best.score),
        "segments": [
            {
                "label": segment.label,
                "start": rounded(segment.start_seconds),
                "end": rounded(segment.end_seconds),
                "score": rounded(segment.score),
            }
            for segment in result.segments
        ],
    }


# --- rows in ----------------------------------------------------------------------------------------


def plan_row(plan: CapturePlan, urls: Sequence[str] = ()) -> dict[str, object]:
    """Return the row of a video, or of a capture with several.

    Args:
        plan: the video or capture.
        urls: address of each of its videos, empty for a video on each machine; no urls: all are.
    """
    row: dict[str, object] = {"path": str(plan.named.path), "id": plan.capture_id}
    given = [*urls] or [""] * len(plan.begins)
    return {**row, "plan": msgspec.json.encode(plan, enc_hook=str).decode(), "urls": given}


def plans_of(batch: Any) -> list[tuple[CapturePlan, Sequence[str]]]:
    """Return the plans of a batch, and the addresses of their videos, see `plan_row`."""
    columns: Mapping[str, Sequence[Any]] = batch.to_pydict() if hasattr(batch, "to_pydict") else batch
    paths = [Path(str(path)) for path in columns["path"]]
    if "plan" in columns:
        plans = [_decode_plan(str(text)) for text in columns["plan"]]
        return [*zip(plans, columns["urls"], strict=True)]
    ids = [str(name) for name in columns["id"]] if "id" in columns else [default_id(path) for path in paths]
    urls = [str(path) if is_remote(str(path)) else "" for path in columns["path"]]
    plans = [plan_of_video(VideoInput(path, name)) for path, name in zip(paths, ids, strict=True)]
    return [(plan, [url]) for plan, url in zip(plans, urls, strict=True)]


def _decode_plan(text: str) -> CapturePlan:
    return msgspec.json.decode(text, type=CapturePlan, dec_hook=lambda kind, value: kind(value))


# --- outcomes back to the driver --------------------------------------------------------------------


def failed_outcome(plan: CapturePlan, reason: str) -> CaptureOutcome:
    """Return the outcome of a video or capture without a result."""
    videos = tuple(VideoOutcome(video=video, error=VideoError(reason)) for video, _ in plan.begins)
    return CaptureOutcome(plan=plan, result=None, videos=videos)


def portable(outcome: CaptureOutcome) -> CaptureOutcome:
    """Return an outcome without arrays, as no output of an archive needs them."""
    videos = tuple(
        replace(video, results={}, error=video.error and VideoError(str(video.error)))
        for video in outcome.videos
    )
    return replace(outcome, result=outcome.result and _without_scores(outcome.result), videos=videos)


def _without_scores(result: Result) -> Result:
    members = tuple(member and replace(member, scores=None) for member in result.members)
    return replace(result, scores=None, members=members)


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """The outcome of a video or capture, and its `describe_run`, empty if no model could be opened."""

    outcome: CaptureOutcome
    described: Mapping[str, object]


def outcome_of_row(row: Mapping[str, Any]) -> OutcomeRow:
    """Return the outcome in the column `outcome` of a row; only for rows of trusted actors."""
    outcome: OutcomeRow = pickle.loads(row["outcome"])
    return outcome
