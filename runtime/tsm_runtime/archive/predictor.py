"""A class for `ray.data.Dataset.map_batches`: rows with the path of a video in, rows with its segments out.

    import ray
    from tsm_runtime.archive.predictor import Predictor

    videos = ray.data.read_parquet("manifest.parquet")  # a column `path`, and `id` if stems are not unique
    found = videos.map_batches(
        Predictor, fn_constructor_kwargs={"bundle": "bundle"}, batch_size=1, batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=8), num_cpus=2,
    )
    found.write_parquet("results")

Frames never pass through Ray: each actor opens the bundle once and decodes its own videos.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.captures.selection import CapturePlan, plan_of_video
from tsm_runtime.errors import BundleError, TsmError, VideoError
from tsm_runtime.formats.parquet import require_pyarrow
from tsm_runtime.formats.text import rounded
from tsm_runtime.fusion.ensemble_file import Ensemble, EnsembleMember
from tsm_runtime.models.choice import BackendRequest
from tsm_runtime.models.member import Member, Overrides
from tsm_runtime.models.nvdec import Hwdec, open_nvdec
from tsm_runtime.models.opening import load_bundles, open_members
from tsm_runtime.pipeline.description import describe_run
from tsm_runtime.pipeline.isolation import Isolation, Limits
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.result import VideoOutcome
from tsm_runtime.pipeline.run import CaptureOutcome, run_captures
from tsm_runtime.results import Result, ranked_scenes
from tsm_runtime.video.finding import VideoInput, default_id


class Predictor:
    """Finds the segments of videos; picklable, and opens its models with the first batch.

    Args:
        bundle: a bundle folder, or the members of an ensemble; every machine sees it under this path.
        backend, overrides, options, hwdec, isolation: as in a local run.
        views: views that each member sees; None: plain videos.
        bundle_sha256: hash of each member's bundle on the driver; a different one is an error of each video.
        keep_outcomes: add a column `outcome` for the driver, see `outcome_of_row`.
    """

    def __init__(
        self,
        bundle: str | Path | Ensemble,
        *,
        backend: BackendRequest | None = None,
        overrides: Overrides | None = None,
        options: Options | None = None,
        hwdec: Hwdec = "none",
        isolation: Limits | None = None,
        views: Sequence[Sequence[str]] | None = None,
        bundle_sha256: Sequence[str] = (),
        keep_outcomes: bool = False,
    ) -> None:
        self._ensemble = bundle if isinstance(bundle, Ensemble) else _ensemble_of(bundle)
        self._backend = backend or BackendRequest(num_threads=1)
        self._overrides = overrides or Overrides()
        self._options = options or Options()
        self._hwdec: Hwdec = hwdec
        self._isolation = None if isolation is None else Isolation(isolation)
        self._views = views
        self._expected = tuple(bundle_sha256)
        self._keep_outcomes = keep_outcomes
        self._opened: tuple[list[Bundle], list[Member], Any] | None = None

    def __call__(self, batch: Any) -> Iterator[Any]:
        """Yield a table of one row for each row of the batch.

        Args:
            batch: a pyarrow table or a mapping of columns: `path`, and optionally `id` or `plan`.
        """
        plans = _plans(batch)
        done = 0
        try:
            for outcome in self._outcomes(plans):
                yield self._table(outcome)
                done += 1
        except TsmError as error:
            for plan in plans[done:]:
                yield self._table(failed_outcome(plan, str(error)))

    def _outcomes(self, plans: Sequence[CapturePlan]) -> Iterator[CaptureOutcome]:
        _, members, nvdec = self._models()
        yield from run_captures(plans, members, self._options, nvdec=nvdec, isolation=self._isolation)

    def _models(self) -> tuple[list[Bundle], list[Member], Any]:
        if self._opened is None:
            bundles = load_bundles(self._ensemble)
            for bundle, expected in zip(bundles, self._expected, strict=False):
                if bundle.manifest_sha256 != expected:
                    raise BundleError(f"{bundle.path}: another bundle than the one that the run began with")
            opened = open_members(self._ensemble, bundles, self._backend, self._overrides)
            views = self._views or [("",)] * len(bundles)
            members = [replace(m, view=view) for m, seen in zip(opened, views, strict=True) for view in seen]
            decoder = open_nvdec(self._hwdec, bundles, opened, self._backend.device, rebuild=False)
            nvdec = (decoder or nullcontext()).__enter__()  # for as long as the actor lives
            self._opened = bundles, members, nvdec
        return self._opened

    def _table(self, outcome: CaptureOutcome) -> Any:
        bundles = self._opened[0] if self._opened is not None else []
        row = row_of(outcome, ",".join(bundle.manifest_sha256 for bundle in bundles))
        if self._keep_outcomes:
            row["outcome"] = pickle.dumps(OutcomeRow(_portable(outcome), self._described()))
        pa = require_pyarrow()
        return pa.Table.from_pylist([row], schema=result_schema(outcomes=self._keep_outcomes))

    def _described(self) -> Mapping[str, object]:
        if self._opened is None:
            return {}
        bundles, members, _ = self._opened
        views = self._views or [("",)] * len(bundles)
        repeated = [bundle for bundle, seen in zip(bundles, views, strict=True) for _ in seen]
        return describe_run(repeated, members, self._options)


def _ensemble_of(bundle: str | Path) -> Ensemble:
    return Ensemble(members=(EnsembleMember(bundle=os.fspath(bundle)),))


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
        "path": str(outcome.plan.named.path),
        "bundle": bundle,
        "segments": [],
    }
    result = outcome.result
    if result is None:
        errors = [str(video.error) for video in outcome.videos if video.error is not None]
        return {**row, "status": "failed", "error": "; ".join(errors) or "no video of it gave a result"}
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


def plan_row(plan: CapturePlan) -> dict[str, object]:
    """Return the row of a video, or of a capture with several."""
    row: dict[str, object] = {"path": str(plan.named.path), "id": plan.capture_id}
    return {**row, "plan": msgspec.json.encode(plan, enc_hook=str).decode()}


def _plans(batch: Any) -> list[CapturePlan]:
    columns: Mapping[str, Sequence[Any]] = batch.to_pydict() if hasattr(batch, "to_pydict") else batch
    paths = [Path(str(path)) for path in columns["path"]]
    if "plan" in columns:
        return [_decode_plan(str(text)) for text in columns["plan"]]
    ids = [str(name) for name in columns["id"]] if "id" in columns else [default_id(path) for path in paths]
    return [plan_of_video(VideoInput(path, name)) for path, name in zip(paths, ids, strict=True)]


def _decode_plan(text: str) -> CapturePlan:
    return msgspec.json.decode(text, type=CapturePlan, dec_hook=lambda kind, value: kind(value))


# --- outcomes back to the driver --------------------------------------------------------------------


def failed_outcome(plan: CapturePlan, reason: str) -> CaptureOutcome:
    """Return the outcome of a video or capture without a result."""
    videos = tuple(VideoOutcome(video=video, error=VideoError(reason)) for video, _ in plan.begins)
    return CaptureOutcome(plan=plan, result=None, videos=videos)


def _portable(outcome: CaptureOutcome) -> CaptureOutcome:
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
